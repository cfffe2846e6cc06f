/* Sends a PF_KEY message whose key bytes come from a shelf slot: the caller writes the message with zeros where the key
 * goes, and the kernel gathers message and slot (sendmsg), so the key's bytes are nowhere else in this process. */
#ifndef QBB_PFKEYSEND_H
#define QBB_PFKEYSEND_H
#include "shelf.h"

/* cffi:begin */
/* first_bytes of the key go to message offset first_at, the rest of it (second_bytes, may be 0) to second_at behind that.
 * Does not block. 0; -EAGAIN when the socket is full; -EKEYEXPIRED for a stale handle; -EINVAL when the places lie outside
 * the message or do not take the whole key; else the socket's -errno. */
int qbb_pfkey_send(int fd, const uint8_t *message, size_t length, const qbb_shelf *shelf, uint64_t handle,
    size_t first_at, size_t first_bytes, size_t second_at, size_t second_bytes);
/* cffi:end */
#endif
