#include "pad.h"

void qbb_pad(uint8_t *out, const uint8_t *in, const uint8_t *pad, size_t length)
{
    for (size_t i = 0; i < length; i++)
        out[i] = in[i] ^ pad[i];
}

void qbb_pad_fuse(uint8_t *out, const uint8_t *in, const uint8_t *pad_a, const uint8_t *pad_b, size_t length)
{
    for (size_t i = 0; i < length; i++)
        out[i] = in[i] ^ pad_a[i] ^ pad_b[i];
}
