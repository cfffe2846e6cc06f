/* POLYVAL (RFC 8452, section 3), the polynomial hash P_H over GF(2^128) under the Wegman-Carter tag.
 *
 * Three implementations (portable constant-time, PCLMULQDQ, VPCLMULQDQ) give the same values; the fastest one that
 * the processor has is chosen at run time and must pass known-answer tests first. */
#ifndef QBB_HASH_H
#define QBB_HASH_H
#include <stddef.h>
#include <stdint.h>

#define QBB_HASH_BLOCK 16
#define QBB_HASH_POWERS 32 /* powers of H that the widest implementation uses */

/* cffi:begin */
enum qbb_hash_kind { QBB_HASH_PORTABLE, QBB_HASH_PCLMUL, QBB_HASH_VPCLMUL };

/* A hash key with the powers an implementation wants. Secret: keep it in key memory, wipe it after use. */
typedef struct {
    uint8_t powers[32][16];
} qbb_hash_key;

/* The kinds this processor has, as bits 1 << kind. */
unsigned qbb_hash_available(void);
/* The kind in use; qbb_hash_select refuses (returns -1) a kind that the processor lacks. */
enum qbb_hash_kind qbb_hash_selected(void);
int qbb_hash_select(enum qbb_hash_kind kind);
const char *qbb_hash_name(enum qbb_hash_kind kind);

void qbb_hash_key_expand(qbb_hash_key *key, const uint8_t h[16]);
/* acc = POLYVAL continued over data (zero-padded to whole blocks); start with acc = 0. */
void qbb_hash_update(const qbb_hash_key *key, uint8_t acc[16], const uint8_t *data, size_t length);
/* Known answers for every available kind, pad and tag included; 0 when all match. */
int qbb_selftest(void);
/* cffi:end */
#endif
