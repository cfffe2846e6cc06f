/* Big-endian integers at any alignment; lengths that the compiler should not know. */
#ifndef QBB_BYTES_H
#define QBB_BYTES_H
#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline void qbb_put16(uint8_t *out, uint16_t value)
{
    value = __builtin_bswap16(value);
    memcpy(out, &value, sizeof value);
}

static inline void qbb_put32(uint8_t *out, uint32_t value)
{
    value = __builtin_bswap32(value);
    memcpy(out, &value, sizeof value);
}

static inline void qbb_put64(uint8_t *out, uint64_t value)
{
    value = __builtin_bswap64(value);
    memcpy(out, &value, sizeof value);
}

/* A length of which the compiler knows no bound: for a bounded one gcc makes `rep movs` or `rep stos`, which take as long to
 * begin as half a short packet's tag. */
static inline size_t qbb_unbounded(size_t length)
{
    __asm__("" : "+r"(length));
    return length;
}

static inline uint16_t qbb_get16(const uint8_t *in)
{
    uint16_t value;
    memcpy(&value, in, sizeof value);
    return __builtin_bswap16(value);
}

static inline uint32_t qbb_get32(const uint8_t *in)
{
    uint32_t value;
    memcpy(&value, in, sizeof value);
    return __builtin_bswap32(value);
}
#endif
