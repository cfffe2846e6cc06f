/* POLYVAL in portable C, constant time: no table and no branch depends on key or data.
 *
 * Carry-less products come from integer multiplication with holes between the bits (T. Pornin, BearSSL, "constant-time
 * GHASH"), which needs a multiplier whose time does not depend on its operands: true of the 64-bit processors that this
 * runs on. The upper half of a product is the lower half of the product of the reversed operands. */
#include "hash_kinds.h"

#include <string.h>

#include "wipe.h"

typedef struct {
    uint64_t low, high;
} element;

static uint64_t read_le64(const uint8_t *in)
{
    uint64_t word = 0;
    for (int i = 7; i >= 0; i--)
        word = word << 8 | in[i];
    return word;
}

static void write_le64(uint8_t *out, uint64_t word)
{
    for (int i = 0; i < 8; i++)
        out[i] = (uint8_t)(word >> (8 * i));
}

static element element_read(const uint8_t in[16])
{
    return (element){read_le64(in), read_le64(in + 8)};
}

static void element_write(uint8_t out[16], element value)
{
    write_le64(out, value.low);
    write_le64(out + 8, value.high);
}

/* The lower 64 bits of the carry-less product. Every fourth bit is kept, so sums of up to 15 ones stay in their hole. */
static uint64_t multiply_low(uint64_t x, uint64_t y)
{
    const uint64_t m0 = 0x1111111111111111, m1 = m0 << 1, m2 = m0 << 2, m3 = m0 << 3;
    uint64_t x0 = x & m0, x1 = x & m1, x2 = x & m2, x3 = x & m3;
    uint64_t y0 = y & m0, y1 = y & m1, y2 = y & m2, y3 = y & m3;
    uint64_t z0 = (x0 * y0) ^ (x1 * y3) ^ (x2 * y2) ^ (x3 * y1);
    uint64_t z1 = (x0 * y1) ^ (x1 * y0) ^ (x2 * y3) ^ (x3 * y2);
    uint64_t z2 = (x0 * y2) ^ (x1 * y1) ^ (x2 * y0) ^ (x3 * y3);
    uint64_t z3 = (x0 * y3) ^ (x1 * y2) ^ (x2 * y1) ^ (x3 * y0);
    return (z0 & m0) | (z1 & m1) | (z2 & m2) | (z3 & m3);
}

static uint64_t reverse(uint64_t x)
{
    x = (x & 0x5555555555555555) << 1 | (x >> 1 & 0x5555555555555555);
    x = (x & 0x3333333333333333) << 2 | (x >> 2 & 0x3333333333333333);
    x = (x & 0x0f0f0f0f0f0f0f0f) << 4 | (x >> 4 & 0x0f0f0f0f0f0f0f0f);
    return __builtin_bswap64(x);
}

/* a * b * x^-128 modulo x^128 + x^127 + x^126 + x^121 + 1. */
static element dot(element a, element b)
{
    element ar = {reverse(a.low), reverse(a.high)}, br = {reverse(b.low), reverse(b.high)};
    uint64_t low = multiply_low(a.low, b.low), high = multiply_low(a.high, b.high);
    uint64_t low_r = multiply_low(ar.low, br.low), high_r = multiply_low(ar.high, br.high);
    /* Karatsuba: the two mixed products from one. */
    uint64_t mixed = multiply_low(a.low ^ a.high, b.low ^ b.high) ^ low ^ high;
    uint64_t mixed_r = multiply_low(ar.low ^ ar.high, br.low ^ br.high) ^ low_r ^ high_r;

    uint64_t v0 = low, v1 = reverse(low_r) >> 1 ^ mixed, v2 = high ^ reverse(mixed_r) >> 1, v3 = reverse(high_r) >> 1;
    /* Montgomery reduction, one 64-bit word after the other. */
    v2 ^= v0 ^ v0 >> 1 ^ v0 >> 2 ^ v0 >> 7;
    v1 ^= v0 << 63 ^ v0 << 62 ^ v0 << 57;
    v3 ^= v1 ^ v1 >> 1 ^ v1 >> 2 ^ v1 >> 7;
    v2 ^= v1 << 63 ^ v1 << 62 ^ v1 << 57;
    return (element){v2, v3};
}

void qbb_hash_dot(uint8_t out[16], const uint8_t a[16], const uint8_t b[16])
{
    element_write(out, dot(element_read(a), element_read(b)));
}

static void update(const qbb_hash_key *key, uint8_t sum_bytes[16], const uint8_t *data, size_t length)
{
    element h = element_read(qbb_hash_power(key, 1)), sum = element_read(sum_bytes);
    while (length > 0) {
        uint8_t last[QBB_HASH_BLOCK] = {0};
        size_t take = length < QBB_HASH_BLOCK ? length : QBB_HASH_BLOCK;
        memcpy(last, data, take);
        element block = element_read(last);
        sum = dot((element){sum.low ^ block.low, sum.high ^ block.high}, h);
        data += take;
        length -= take;
    }
    element_write(sum_bytes, sum);
}

static void tag(const qbb_hash_key *key, uint8_t out[16], const qbb_message *m)
{
    uint8_t sum[16] = {0};
    update(key, sum, m->fixed, 64);
    update(key, sum, m->payload, m->length);
    for (int i = 0; i < 16; i++)
        out[i] = sum[i] ^ m->mask[i];
    qbb_wipe(sum, sizeof sum); /* the bare sum would give away equations in H */
}

static void pad(uint8_t *out, const uint8_t *in, const uint8_t *pad, size_t length)
{
    for (size_t i = 0; i < length; i++)
        out[i] = in[i] ^ pad[i];
}

static void fuse(uint8_t *out, const uint8_t *in, const uint8_t *pad_a, const uint8_t *pad_b, size_t length)
{
    for (size_t i = 0; i < length; i++)
        out[i] = in[i] ^ pad_a[i] ^ pad_b[i];
}

const qbb_hash_ops qbb_hash_portable = {"portable", update, tag, pad, fuse};
