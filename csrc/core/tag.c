#include "tag.h"

#include <string.h>

#include "pad.h"
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

void qbb_tag(uint8_t out[QBB_TAG_BYTES], const qbb_hash_key *key, const uint8_t fixed[QBB_TAG_FIXED_BYTES],
    const uint8_t *payload, size_t length, size_t clear, const uint8_t mask[QBB_TAG_BYTES], enum qbb_use use)
{
    uint8_t sum[16] = {0}, lengths[16];

    QBB_NOTE(use, mask, QBB_TAG_BYTES);
    (void)use;
    write_be64(lengths, length);
    write_be64(lengths + 8, clear);
    qbb_hash_update(key, sum, fixed, QBB_TAG_FIXED_BYTES);
    qbb_hash_update(key, sum, payload, length);
    qbb_hash_update(key, sum, lengths, sizeof lengths);
    qbb_pad(out, sum, mask, QBB_TAG_BYTES);
    /* The bare sum would give away equations in H. */
    qbb_wipe(sum, sizeof sum);
}
