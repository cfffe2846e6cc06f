#include "expand.h"

#include <openssl/evp.h>

static const char domain[] = "QBB simulated block v1";

int qbb_expand(uint8_t *out, size_t length, const uint8_t seed[32])
{
    /* The context is cleansed when it is freed. */
    EVP_MD_CTX *shake = EVP_MD_CTX_new();
    int done = shake != NULL && EVP_DigestInit_ex(shake, EVP_shake256(), NULL) == 1
        && EVP_DigestUpdate(shake, domain, sizeof domain) == 1 && EVP_DigestUpdate(shake, seed, QBB_SEED_BYTES) == 1
        && EVP_DigestFinalXOF(shake, out, length) == 1;
    EVP_MD_CTX_free(shake);
    return done ? 0 : -1;
}

void qbb_expand_pattern(uint8_t *out, size_t length, const uint8_t *pattern, size_t pattern_length)
{
    for (size_t i = 0; i < length && pattern_length > 0; i++)
        out[i] = pattern[i % pattern_length];
}

void qbb_expand_flip(uint8_t *out, size_t length, uint64_t bit)
{
    if (length > 0)
        out[bit / 8 % length] ^= (uint8_t)(1u << (bit % 8));
}
