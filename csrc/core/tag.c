#include "tag.h"

#include <string.h>

#include "bytes.h"
#include "hash_kinds.h"
#include "pad.h"

/* A word as it stands. volatile keeps the compiler from reading two at once: hash_vpclmul.c tells why. */
static uint64_t word_at(const uint8_t *bytes)
{
    typedef uint64_t word __attribute__((aligned(1), may_alias));
    return *(const volatile word *)bytes;
}

void qbb_tag_fixed(uint8_t fixed[QBB_TAG_FIXED_BYTES], uint64_t link_id, uint64_t epoch, uint8_t direction,
    uint64_t e_offset, uint64_t a_offset, const uint8_t header[QBB_HEADER_BYTES])
{
    uint64_t first = word_at(header), second = word_at(header + 8);
    qbb_put64(fixed, link_id);
    qbb_put64(fixed + 8, epoch);
    qbb_put64(fixed + 16, (uint64_t)direction << 56);
    qbb_put64(fixed + 24, e_offset);
    qbb_put64(fixed + 32, a_offset);
    memcpy(fixed + 40, &first, 8);
    memcpy(fixed + 48, &second, 8);
    qbb_put64(fixed + 56, (uint64_t)qbb_get32(header + 16) << 32);
}

void qbb_tag(uint8_t out[QBB_TAG_BYTES], const qbb_hash_key *key, const uint8_t fixed[QBB_TAG_FIXED_BYTES],
    const uint8_t *payload, size_t length, const uint8_t mask[QBB_TAG_BYTES], enum qbb_use use)
{
    qbb_message message = {fixed, payload, length, mask};

    /* A mask that is only compared with is noted by the caller, once the packet proved genuine. */
    if (use == QBB_USE_MASK_SEAL)
        QBB_NOTE(QBB_USE_MASK_SEAL, mask, QBB_TAG_BYTES);
    qbb_hash_ops_selected->tag(key, out, &message);
}

/* Two passes: the packet is in the cache, and one fused pass measured no faster. */
void qbb_pad_and_tag(uint8_t *out, uint8_t tag[QBB_TAG_BYTES], const qbb_hash_key *key,
    const uint8_t fixed[QBB_TAG_FIXED_BYTES], const uint8_t *in, size_t length, size_t clear, const uint8_t *pad_a,
    const uint8_t *pad_b, const uint8_t mask[QBB_TAG_BYTES])
{
    size_t padded = length - clear;
    if (out != in && clear != 0)
        memcpy(out, in, clear);
    if (padded != 0) {
        QBB_NOTE(QBB_USE_PAD_SEAL, pad_b, (padded + 7) / 8 * 8);
        if (pad_a != NULL)
            qbb_pad_fuse(out + clear, in + clear, pad_a, pad_b, padded);
        else
            qbb_pad(out + clear, in + clear, pad_b, padded);
    }
    qbb_tag(tag, key, fixed, out, length, mask, QBB_USE_MASK_SEAL);
}
