/* Fingerprints that tell whether two ends hold the same device block: POLYVAL under a random H drawn after the block
 * was fixed, sent under one-time pad. */
#ifndef QBB_FINGERPRINT_H
#define QBB_FINGERPRINT_H
#include <stddef.h>
#include <stdint.h>
/* cffi:begin */
void qbb_fingerprint(uint8_t out[16], const uint8_t h[16], const uint8_t *block, size_t length);
/* cffi:end */
#endif
