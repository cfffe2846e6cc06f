#include "tag.h"

#include <string.h>

#include "hash_kinds.h"
#include "wipe.h"

static void write_be64(uint8_t *out, uint64_t value)
{
    value = __builtin_bswap64(value);
    memcpy(out, &value, sizeof value);
}

void qbb_tag_fixed(uint8_t fixed[QBB_TAG_FIXED_BYTES], uint64_t link_id, uint64_t epoch, uint8_t direction,
    uint64_t e_offset, uint64_t a_offset, const uint8_t header[QBB_HEADER_BYTES])
{
    write_be64(fixed, link_id);
    write_be64(fixed + 8, epoch);
    memset(fixed + 16, 0, 8);
    fixed[16] = direction;
    write_be64(fixed + 24, e_offset);
    write_be64(fixed + 32, a_offset);
    memcpy(fixed + 40, header, QBB_HEADER_BYTES);
    memset(fixed + 60, 0, 4);
}

static void describe(qbb_message *message, const uint8_t *fixed, const uint8_t *payload, size_t length, size_t clear)
{
    message->fixed = fixed;
    message->payload = payload;
    message->length = length;
    write_be64(message->lengths, length);
    write_be64(message->lengths + 8, clear);
}

static void cover(uint8_t out[QBB_TAG_BYTES], uint8_t sum[16], const uint8_t mask[QBB_TAG_BYTES])
{
    for (int i = 0; i < QBB_TAG_BYTES; i++)
        out[i] = sum[i] ^ mask[i];
    /* The bare sum would give away equations in H. */
    qbb_wipe(sum, 16);
}

void qbb_tag(uint8_t out[QBB_TAG_BYTES], const qbb_hash_key *key, const uint8_t fixed[QBB_TAG_FIXED_BYTES],
    const uint8_t *payload, size_t length, size_t clear, const uint8_t mask[QBB_TAG_BYTES], enum qbb_use use)
{
    qbb_message message;
    uint8_t sum[16];

    QBB_NOTE(use, mask, QBB_TAG_BYTES);
    (void)use;
    describe(&message, fixed, payload, length, clear);
    qbb_hash_ops_selected->message(key, sum, &message);
    cover(out, sum, mask);
}

void qbb_pad_and_tag(uint8_t *out, uint8_t tag[QBB_TAG_BYTES], const qbb_hash_key *key,
    const uint8_t fixed[QBB_TAG_FIXED_BYTES], const uint8_t *in, size_t length, size_t clear, const uint8_t *pad_a,
    const uint8_t *pad_b, const uint8_t mask[QBB_TAG_BYTES])
{
    qbb_message message;
    qbb_padding padding = {out, in, pad_a, pad_b, clear};
    uint8_t sum[16];

    QBB_NOTE(QBB_USE_PAD_SEAL, pad_b, (length - clear + 7) / 8 * 8);
    QBB_NOTE(QBB_USE_MASK_SEAL, mask, QBB_TAG_BYTES);
    describe(&message, fixed, out, length, clear);
    qbb_hash_ops_selected->padded(key, sum, &message, &padding);
    cover(tag, sum, mask);
}
