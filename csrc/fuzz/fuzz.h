/* What the fuzzers share: invariants that end the run, and reading the input piece by piece. */
#ifndef QBB_FUZZ_H
#define QBB_FUZZ_H
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define HOLDS(condition) \
    do { \
        if (!(condition)) \
            __builtin_trap(); \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef struct { const uint8_t *at; size_t left; } input;

static inline uint8_t take_byte(input *in)
{
    if (in->left == 0)
        return 0;
    in->left--;
    return *in->at++;
}

static inline uint16_t take_short(input *in)
{
    uint8_t high = take_byte(in);
    return (uint16_t)(high << 8 | take_byte(in));
}

/* A copy in memory of exactly its size, so that the sanitizer sees a byte too many; free it. */
static inline uint8_t *exact_copy(const uint8_t *bytes, size_t length)
{
    uint8_t *copy = malloc(length + (length == 0));
    if (length != 0)
        memcpy(copy, bytes, length);
    return copy;
}
#endif
