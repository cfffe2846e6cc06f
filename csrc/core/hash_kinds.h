/* Inside of the hash: what each implementation offers to hash.c, which chooses between them. */
#ifndef QBB_HASH_KINDS_H
#define QBB_HASH_KINDS_H
#include "hash.h"

/* Key powers stand in falling order: power n of H is powers[QBB_HASH_POWERS - n], so the factors of a run of n blocks are
 * the last n entries, in the order of the blocks. */
static inline const uint8_t *qbb_hash_power(const qbb_hash_key *key, unsigned n)
{
    return key->powers[QBB_HASH_POWERS - n];
}

/* out = a * b * x^-128 (`dot` of RFC 8452, section 3). Constant time. */
void qbb_hash_dot(uint8_t out[16], const uint8_t a[16], const uint8_t b[16]);

void qbb_hash_update_portable(const qbb_hash_key *key, uint8_t acc[16], const uint8_t *data, size_t length);
#endif
