#include "pad.h"

#include "hash_kinds.h"

void qbb_pad(uint8_t *out, const uint8_t *in, const uint8_t *pad, size_t length)
{
    qbb_hash_ops_selected->pad(out, in, pad, length);
}

void qbb_pad_fuse(uint8_t *out, const uint8_t *in, const uint8_t *pad_a, const uint8_t *pad_b, size_t length)
{
    qbb_hash_ops_selected->fuse(out, in, pad_a, pad_b, length);
}
