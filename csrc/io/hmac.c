#include "hmac.h"

#include <limits.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

int qbb_hmac_sha256(uint8_t out[32], const uint8_t *key, size_t key_length, const uint8_t *data, size_t length)
{
    unsigned written = 0;
    if (key_length == 0 || key_length > INT_MAX)
        return -1;
    /* libcrypto cleanses its copies of the key when it frees them. */
    if (HMAC(EVP_sha256(), key, (int)key_length, data, length, out, &written) == NULL || written != 32)
        return -1;
    return 0;
}
