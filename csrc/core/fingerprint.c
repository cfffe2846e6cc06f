#include "fingerprint.h"

#include "hash.h"
#include "probe.h"
#include "wipe.h"

void qbb_fingerprint(uint8_t out[16], const uint8_t h[16], const uint8_t *block, size_t length)
{
    qbb_hash_key key;
    uint8_t sum[16] = {0}, lengths[16] = {0};

    QBB_NOTE(QBB_USE_FINGERPRINT, h, 16);
    qbb_hash_key_expand(&key, h);
    qbb_hash_update(&key, sum, block, length);
    /* A length block, as under the tag: blocks that differ in trailing zeros alone must differ here. */
    for (int i = 0; i < 8; i++)
        lengths[7 - i] = (uint8_t)((uint64_t)length >> (8 * i));
    qbb_hash_update(&key, sum, lengths, sizeof lengths);
    for (int i = 0; i < 16; i++)
        out[i] = sum[i];
    qbb_wipe(&key, sizeof key);
    qbb_wipe(sum, sizeof sum);
}
