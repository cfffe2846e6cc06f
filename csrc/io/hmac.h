/* HMAC-SHA-256 under the link secret, for everything up to CONFIRM. The secret stays in key memory; libcrypto computes. */
#ifndef QBB_HMAC_H
#define QBB_HMAC_H
#include <stddef.h>
#include <stdint.h>
/* cffi:begin */
/* 0, or -1 when libcrypto refuses. */
int qbb_hmac_sha256(uint8_t out[32], const uint8_t *key, size_t key_length, const uint8_t *data, size_t length);
/* cffi:end */
#endif
