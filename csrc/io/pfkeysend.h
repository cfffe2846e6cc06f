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
/* The hand-over of a key: first its audit record is written whole to audit_fd, then the message is sent as above, then the
 * key is wiped. 0 when all is done. 1: not recorded, so not sent; wiped. -EAGAIN: recorded, the socket is full, the key is
 * kept for qbb_pfkey_send. Another -errno: recorded, not sent, wiped. */
int qbb_pfkey_hand_over(int audit_fd, const char *record, size_t record_length, int fd, const uint8_t *message,
    size_t length, qbb_shelf *shelf, uint64_t handle, size_t first_at, size_t first_bytes, size_t second_at,
    size_t second_bytes);
/* cffi:end */
#endif
