/* Big-endian integers at any alignment. */
#ifndef QBB_BYTES_H
#define QBB_BYTES_H
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
