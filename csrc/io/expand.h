/* The bytes of a simulated device's block. Both ends of a simulated fibre get the same seed from it and make the same
 * block here, so that the block exists in key memory only. */
#ifndef QBB_EXPAND_H
#define QBB_EXPAND_H
#include <stddef.h>
#include <stdint.h>
/* cffi:begin */
#define QBB_SEED_BYTES 32
/* SHAKE256 (FIPS 202) of the seed under a domain name of its own; 0, or -1 when libcrypto refuses. */
int qbb_expand(uint8_t *out, size_t length, const uint8_t seed[32]);
/* The pattern over and over, for tests that look for key bytes where none may be. */
void qbb_expand_pattern(uint8_t *out, size_t length, const uint8_t *pattern, size_t pattern_length);
/* Inverts one bit: a block that differs between the ends. */
void qbb_expand_flip(uint8_t *out, size_t length, uint64_t bit);
/* cffi:end */
#endif
