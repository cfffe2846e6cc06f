#include "hash.h"

#include <string.h>

#include "hash_kinds.h"

static enum qbb_hash_kind selected = QBB_HASH_PORTABLE;

unsigned qbb_hash_available(void)
{
    return 1u << QBB_HASH_PORTABLE;
}

enum qbb_hash_kind qbb_hash_selected(void)
{
    return selected;
}

int qbb_hash_select(enum qbb_hash_kind kind)
{
    if ((unsigned)kind > QBB_HASH_VPCLMUL || !(qbb_hash_available() & 1u << kind))
        return -1;
    selected = kind;
    return 0;
}

const char *qbb_hash_name(enum qbb_hash_kind kind)
{
    switch (kind) {
    case QBB_HASH_PORTABLE: return "portable";
    case QBB_HASH_PCLMUL: return "pclmulqdq";
    case QBB_HASH_VPCLMUL: return "vpclmulqdq";
    }
    return "unknown";
}

void qbb_hash_key_expand(qbb_hash_key *key, const uint8_t h[16])
{
    memcpy(key->powers[QBB_HASH_POWERS - 1], h, QBB_HASH_BLOCK);
    for (int i = QBB_HASH_POWERS - 2; i >= 0; i--)
        qbb_hash_dot(key->powers[i], key->powers[i + 1], key->powers[QBB_HASH_POWERS - 1]);
}

void qbb_hash_update(const qbb_hash_key *key, uint8_t acc[16], const uint8_t *data, size_t length)
{
    qbb_hash_update_portable(key, acc, data, length);
}

int qbb_selftest(void)
{
    /* RFC 8452, appendix A. */
    static const uint8_t h[16] = {0x25, 0x62, 0x93, 0x47, 0x58, 0x92, 0x42, 0x76, 0x1d, 0x31, 0xf8, 0x26, 0xba, 0x4b,
        0x75, 0x7b};
    static const uint8_t message[32] = {0x4f, 0x4f, 0x95, 0x66, 0x8c, 0x83, 0xdf, 0xb6, 0x40, 0x17, 0x62, 0xbb, 0x2d,
        0x01, 0xa2, 0x62, 0xd1, 0xa2, 0x4d, 0xdd, 0x27, 0x21, 0xd0, 0x06, 0xbb, 0xe4, 0x5f, 0x20, 0xd3, 0xc9, 0xf3, 0x62};
    static const uint8_t expected[16] = {0xf7, 0xa3, 0xb4, 0x7b, 0x84, 0x61, 0x19, 0xfa, 0xe5, 0xb7, 0x86, 0x6c, 0xf5,
        0xe5, 0xb7, 0x7e};
    qbb_hash_key key;
    uint8_t sum[16] = {0};
    qbb_hash_key_expand(&key, h);
    qbb_hash_update(&key, sum, message, sizeof message);
    return memcmp(sum, expected, sizeof sum) == 0 ? 0 : -1;
}
