/* Inside of the hash: what each implementation offers to hash.c and tag.c, which call the chosen one. */
#ifndef QBB_HASH_KINDS_H
#define QBB_HASH_KINDS_H
#include "hash.h"

/* Key powers stand in falling order: power n of H is powers[QBB_HASH_POWERS - n], so the factors of a run of n blocks are
 * the last n entries, in the order of the blocks. */
static inline const uint8_t *qbb_hash_power(const qbb_hash_key *key, size_t n)
{
    return key->powers[QBB_HASH_POWERS - n];
}

/* What one tag covers, and what covers it: see tag.h. */
typedef struct {
    const uint8_t *fixed;   /* 64 bytes */
    const uint8_t *payload; /* length bytes */
    size_t length;
    const uint8_t *mask;    /* 16 bytes */
} qbb_message;

typedef struct {
    const char *name;
    /* sum = POLYVAL continued over data. */
    void (*update)(const qbb_hash_key *key, uint8_t sum[16], const uint8_t *data, size_t length);
    /* out = POLYVAL of fixed block and payload, XOR mask: the bare sum, which would give away equations in H, stays here. */
    void (*tag)(const qbb_hash_key *key, uint8_t out[16], const qbb_message *message);
    /* out = in XOR pad, and out = in XOR pad_a XOR pad_b. */
    void (*pad)(uint8_t *out, const uint8_t *in, const uint8_t *pad, size_t length);
    void (*fuse)(uint8_t *out, const uint8_t *in, const uint8_t *pad_a, const uint8_t *pad_b, size_t length);
} qbb_hash_ops;

extern const qbb_hash_ops qbb_hash_portable;
#if defined(__x86_64__)
extern const qbb_hash_ops qbb_hash_pclmul, qbb_hash_vpclmul;
#endif
/* The kind in use. */
extern const qbb_hash_ops *qbb_hash_ops_selected;

/* out = a * b * x^-128 (`dot` of RFC 8452, section 3). Constant time. */
void qbb_hash_dot(uint8_t out[16], const uint8_t a[16], const uint8_t b[16]);
/* Known answers for one kind; 0 when all match. */
int qbb_hash_known_answers(const qbb_hash_ops *ops);
#endif
