/* Known answers: RFC 8452's POLYVAL vector, and pads and tags computed by another implementation (known_answers.inc). */
#include <string.h>

#include "hash_kinds.h"
#include "known_answers.inc"
#include "tag.h"

#define LONGEST 1536
#define SENTINEL 0xa5

/* The formula of pattern() in tests/unit/reference_hash.py. */
static void pattern(uint8_t *out, unsigned seed, size_t length)
{
    for (size_t i = 0; i < length; i++)
        out[i] = (uint8_t)(i * 151 + (i >> 8) * 17 + seed * 29 + 1);
}

static int rfc_vector(const qbb_hash_ops *ops)
{
    static const uint8_t h[16] = {0x25, 0x62, 0x93, 0x47, 0x58, 0x92, 0x42, 0x76, 0x1d, 0x31, 0xf8, 0x26, 0xba, 0x4b,
        0x75, 0x7b};
    static const uint8_t text[32] = {0x4f, 0x4f, 0x95, 0x66, 0x8c, 0x83, 0xdf, 0xb6, 0x40, 0x17, 0x62, 0xbb, 0x2d, 0x01,
        0xa2, 0x62, 0xd1, 0xa2, 0x4d, 0xdd, 0x27, 0x21, 0xd0, 0x06, 0xbb, 0xe4, 0x5f, 0x20, 0xd3, 0xc9, 0xf3, 0x62};
    static const uint8_t expected[16] = {0xf7, 0xa3, 0xb4, 0x7b, 0x84, 0x61, 0x19, 0xfa, 0xe5, 0xb7, 0x86, 0x6c, 0xf5,
        0xe5, 0xb7, 0x7e};
    qbb_hash_key key;
    uint8_t at_once[16] = {0}, in_steps[16] = {0};
    qbb_hash_key_expand(&key, h);
    ops->update(&key, at_once, text, 32);
    ops->update(&key, in_steps, text, 16);
    ops->update(&key, in_steps, text + 16, 16);
    return memcmp(at_once, expected, 16) == 0 && memcmp(in_steps, expected, 16) == 0 ? 0 : -1;
}

static int matches(const uint8_t sum[16], const uint8_t mask[16], const uint8_t expected[16])
{
    for (int i = 0; i < 16; i++)
        if ((sum[i] ^ mask[i]) != expected[i])
            return 0;
    return 1;
}

/* One packet: padded, tagged, and hashed by parts. */
static int known_tag(const qbb_hash_ops *ops, const qbb_hash_key *key, size_t index)
{
    size_t length = known_tags[index].length, clear = known_tags[index].clear;
    uint8_t text[LONGEST], pad_a[LONGEST], pad_b[LONGEST], out[LONGEST], header[20], mask[16], fixed[64], sum[16];
    pattern(header, 2, sizeof header);
    pattern(mask, 3, sizeof mask);
    pattern(text, 4, length);
    pattern(pad_a, 5, length - clear);
    pattern(pad_b, 6, length - clear);
    qbb_tag_fixed(fixed, 0x0101010101010102, 0x0203040506070809, 1, 0x1122334455667788, 0x1122334455667799, header);

    int relayed = known_tags[index].relayed;
    qbb_message message = {fixed, out, length, mask};

    memset(out, SENTINEL, sizeof out);
    memcpy(out, text, clear);
    if (relayed)
        ops->fuse(out + clear, text + clear, pad_a, pad_b, length - clear);
    else
        ops->pad(out + clear, text + clear, pad_a, length - clear);
    ops->tag(key, sum, &message);
    if (memcmp(sum, known_tags[index].tag, sizeof sum) != 0 || out[length] != SENTINEL)
        return -1;

    memset(sum, 0, sizeof sum);
    ops->update(key, sum, fixed, sizeof fixed);
    ops->update(key, sum, out, length);
    return matches(sum, mask, known_tags[index].tag) ? 0 : -1;
}

int qbb_hash_known_answers(const qbb_hash_ops *ops)
{
    qbb_hash_key key;
    uint8_t h[16];
    if (rfc_vector(ops) != 0)
        return -1;
    pattern(h, 1, sizeof h);
    qbb_hash_key_expand(&key, h);
    for (size_t i = 0; i < sizeof known_tags / sizeof *known_tags; i++)
        if (known_tag(ops, &key, i) != 0)
            return -1;
    return 0;
}
