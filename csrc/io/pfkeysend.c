#include "pfkeysend.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

int qbb_pfkey_send(int fd, const uint8_t *message, size_t length, const qbb_shelf *shelf, uint64_t handle,
    size_t first_at, size_t first_bytes, size_t second_at, size_t second_bytes)
{
    uint8_t *key = qbb_shelf_at(shelf, handle);
    if (key == NULL)
        return -EKEYEXPIRED;
    if (first_bytes > QBB_KEY_MAX_BYTES || second_bytes > QBB_KEY_MAX_BYTES
        || first_bytes + second_bytes != (size_t)qbb_shelf_length(shelf, handle))
        return -EINVAL;
    if (second_bytes == 0)
        second_at = length;
    if (first_at > length || second_at > length || first_at + first_bytes > second_at
        || second_at + second_bytes > length)
        return -EINVAL;
    uint8_t *text = (uint8_t *)(uintptr_t)message; /* iovec has no const; sendmsg only reads */
    size_t middle = first_at + first_bytes, tail = second_at + second_bytes;
    struct iovec parts[] = {
        { text, first_at },
        { key, first_bytes },
        { text + middle, second_at - middle },
        { key + first_bytes, second_bytes },
        { text + tail, length - tail },
    };
    struct msghdr header = { .msg_iov = parts, .msg_iovlen = sizeof parts / sizeof *parts };
    ssize_t sent = sendmsg(fd, &header, MSG_DONTWAIT | MSG_NOSIGNAL);
    return sent < 0 ? -errno : 0;
}

int qbb_pfkey_hand_over(int audit_fd, const char *record, size_t record_length, int fd, const uint8_t *message,
    size_t length, qbb_shelf *shelf, uint64_t handle, size_t first_at, size_t first_bytes, size_t second_at,
    size_t second_bytes)
{
    int verdict = 1;
    if (write(audit_fd, record, record_length) == (ssize_t)record_length)
        verdict = qbb_pfkey_send(fd, message, length, shelf, handle, first_at, first_bytes, second_at, second_bytes);
    if (verdict != -EAGAIN)
        qbb_shelf_release(shelf, handle);
    return verdict;
}
