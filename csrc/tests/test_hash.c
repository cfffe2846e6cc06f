/* Pad, hash and tag: all kinds agree with the portable one for every length and cut, and stay inside their buffers (each
 * buffer is allocated to the byte, so the address sanitizer sees one byte too many). */
#include <string.h>

#include "check.h"
#include "fingerprint.h"
#include "hash.h"
#include "pad.h"
#include "tag.h"
#include "wipe.h"

static uint8_t *exact(size_t length, unsigned seed)
{
    uint8_t *bytes = malloc(length != 0 ? length : 1);
    CHECK(bytes != NULL);
    for (size_t i = 0; i < length; i++)
        bytes[i] = (uint8_t)((i * 2654435761u + seed * 40503u) >> 7);
    return bytes;
}

/* Everything the kind in use makes of one packet, in one buffer: padded text, tag, hash cut in two at `clear`. */
static void results(uint8_t *out, size_t length, size_t clear, const qbb_hash_key *key)
{
    uint8_t *text = exact(length, 1), *a = exact(length - clear, 2), *b = exact(length - clear, 3), *fixed = exact(64, 4);
    uint8_t *mask = exact(16, 5), sum[16] = {0};
    size_t cut = clear / 16 * 16;
    qbb_pad_and_tag(out, out + length, key, fixed, text, length, clear, length & 1 ? a : NULL, b, mask);
    qbb_hash_update(key, sum, text, cut);
    qbb_hash_update(key, sum, text + cut, length - cut);
    memcpy(out + length + 16, sum, 16);
    /* In place gives the same. */
    qbb_pad(text + clear, text + clear, b, length - clear);
    if (length & 1)
        qbb_pad(text + clear, text + clear, a, length - clear);
    CHECK(memcmp(text, out, length) == 0);
    free(text), free(a), free(b), free(fixed), free(mask);
}

static void kinds_agree(void)
{
    uint8_t h[16];
    qbb_hash_key key;
    memset(h, 0x5e, sizeof h);
    qbb_hash_key_expand(&key, h);
    for (size_t length = 0; length < 1500; length += length < 200 ? 1 : 37) {
        for (size_t clear = 0; clear <= length; clear += clear < 70 ? 7 : 143) {
            uint8_t *expected = malloc(length + 32), *found = malloc(length + 32);
            CHECK_EQUAL(qbb_hash_select(QBB_HASH_PORTABLE), 0);
            results(expected, length, clear, &key);
            for (int kind = QBB_HASH_PCLMUL; kind <= QBB_HASH_VPCLMUL; kind++) {
                if (qbb_hash_select((enum qbb_hash_kind)kind) != 0)
                    continue;
                results(found, length, clear, &key);
                CHECK(memcmp(found, expected, length + 32) == 0);
            }
            free(expected), free(found);
        }
    }
}

/* The tag tells apart what differs in any single bit, or in the number of blocks; the length to the byte is the header's. */
static void tag_covers_everything(void)
{
    uint8_t h[16] = {7}, fixed[64] = {1}, payload[70] = {0}, mask[16] = {9}, first[16], other[16]; /* no link has the id 0 */
    qbb_hash_key key;
    qbb_hash_key_expand(&key, h);
    qbb_tag(first, &key, fixed, payload, 40, mask, QBB_USE_MASK_OPEN);
    for (int bit = 0; bit < 64 * 8; bit++) {
        fixed[bit / 8] ^= (uint8_t)(1 << bit % 8);
        qbb_tag(other, &key, fixed, payload, 40, mask, QBB_USE_MASK_OPEN);
        CHECK(!qbb_equal(first, other, 16));
        fixed[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    for (int bit = 0; bit < 40 * 8; bit++) {
        payload[bit / 8] ^= (uint8_t)(1 << bit % 8);
        qbb_tag(other, &key, fixed, payload, 40, mask, QBB_USE_MASK_OPEN);
        CHECK(!qbb_equal(first, other, 16));
        payload[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    qbb_tag(other, &key, fixed, payload, 49, mask, QBB_USE_MASK_OPEN); /* a block of zeros more */
    CHECK(!qbb_equal(first, other, 16));
    mask[15] ^= 1;
    qbb_tag(other, &key, fixed, payload, 40, mask, QBB_USE_MASK_OPEN);
    CHECK_EQUAL(first[15] ^ other[15], 1);
}

static void fixed_block_layout(void)
{
    uint8_t header[20], fixed[64];
    for (int i = 0; i < 20; i++)
        header[i] = (uint8_t)(0x80 + i);
    qbb_tag_fixed(fixed, 0x0102030405060708, 0x1112131415161718, 1, 0x2122232425262728, 0x3132333435363738, header);
    CHECK_EQUAL(fixed[0], 1);
    CHECK_EQUAL(fixed[15], 0x18);
    CHECK_EQUAL(fixed[16], 1);
    for (int i = 17; i < 24; i++)
        CHECK_EQUAL(fixed[i], 0);
    CHECK_EQUAL(fixed[24], 0x21);
    CHECK_EQUAL(fixed[39], 0x38);
    CHECK(memcmp(fixed + 40, header, 20) == 0);
    for (int i = 60; i < 64; i++)
        CHECK_EQUAL(fixed[i], 0);
}

static void comparing_and_wiping(void)
{
    uint8_t a[33] = {0}, b[33] = {0};
    CHECK(qbb_equal(a, b, 0));
    for (int bit = 0; bit < 33 * 8; bit++) {
        b[bit / 8] ^= (uint8_t)(1 << bit % 8);
        CHECK_EQUAL(qbb_equal(a, b, 33), 0);
        b[bit / 8] ^= (uint8_t)(1 << bit % 8);
        CHECK_EQUAL(qbb_equal(a, b, 33), 1);
    }
    memset(a, 0xff, sizeof a);
    qbb_wipe(a + 1, 31);
    CHECK(a[0] == 0xff && a[32] == 0xff);
    for (int i = 1; i < 32; i++)
        CHECK_EQUAL(a[i], 0);
}

static void fingerprints_see_trailing_zeros(void)
{
    uint8_t h[16] = {1, 2}, block[64] = {5}, a[16], b[16];
    qbb_fingerprint(a, h, block, 48);
    qbb_fingerprint(b, h, block, 64);
    CHECK(!qbb_equal(a, b, 16));
}

int main(void)
{
    CHECK_EQUAL(qbb_selftest(), 0);
    CHECK_EQUAL(qbb_hash_select((enum qbb_hash_kind)3), -1);
    kinds_agree();
    tag_covers_everything();
    fixed_block_layout();
    comparing_and_wiping();
    fingerprints_see_trailing_zeros();
    return 0;
}
