/* The session key generator: getrandom(2), XOR the bytes of a hardware source when one is configured.
 *
 * The XOR is as good as the better of the two. A configured source that cannot be read or fails its health tests
 * (core/health.h) stops the generator: a node that promises a hardware source never goes on without it in silence. */
#ifndef QBB_RANDOM_H
#define QBB_RANDOM_H
#include "health.h"
#include "shelf.h"

/* cffi:begin */
typedef struct qbb_random qbb_random;

/* hardware: path of a device or file that gives noise bytes, or NULL; its first 1024 bytes go to the start-up test and are
 * thrown away. entropy_bits: its claimed min-entropy a byte, 1..8. NULL with errno: the source cannot be opened or read, or
 * EIO when it fails the start-up test. */
qbb_random *qbb_random_new(const char *hardware, unsigned entropy_bits);
void qbb_random_free(qbb_random *random);
enum qbb_health_verdict qbb_random_health(const qbb_random *random);
/* Fills up to `count` new slots with keys of `length` bytes; how many. Fewer when the shelf is full or the source has
 * nothing at the moment. Negative when there is none at all: -errno (EAGAIN: later; EIO: the source failed; EMSGSIZE: no
 * such key length; ENOSPC: the shelf is full). */
int qbb_random_draw(qbb_random *random, qbb_shelf *shelf, size_t length, size_t count, uint64_t *handles);
/* cffi:end */
#endif
