/* One-time padding: XOR of a message with key bytes, and the relay's fusion of two pads in one pass. */
#ifndef QBB_PAD_H
#define QBB_PAD_H
#include <stddef.h>
#include <stdint.h>

/* cffi:begin */
/* out = in XOR pad; out may be in. */
void qbb_pad(uint8_t *out, const uint8_t *in, const uint8_t *pad, size_t length);
/* out = in XOR pad_a XOR pad_b in one pass, so that the clear text never stands in memory (a relay's hop). */
void qbb_pad_fuse(uint8_t *out, const uint8_t *in, const uint8_t *pad_a, const uint8_t *pad_b, size_t length);
/* cffi:end */
#endif
