#include "wipe.h"

#include <string.h>

#include "bytes.h"

void qbb_wipe(void *bytes, size_t length)
{
    if (length == 0)
        return;
    memset(bytes, 0, qbb_unbounded(length));
    /* The compiler must believe that somebody reads the zeros, or it removes a memset before a free or a return. */
    __asm__ __volatile__("" : : "r"(bytes) : "memory");
}

int qbb_equal(const void *a, const void *b, size_t length)
{
    const uint8_t *x = a, *y = b;
    uint64_t difference = 0;
    for (; length >= sizeof(uint64_t); x += sizeof(uint64_t), y += sizeof(uint64_t), length -= sizeof(uint64_t)) {
        uint64_t word_x, word_y;
        memcpy(&word_x, x, sizeof word_x);
        memcpy(&word_y, y, sizeof word_y);
        difference |= word_x ^ word_y;
        /* Hides the value, so that no early exit is derived from a difference already found. */
        __asm__("" : "+r"(difference));
    }
    for (size_t i = 0; i < length; i++) {
        difference |= (uint64_t)(x[i] ^ y[i]);
        __asm__("" : "+r"(difference));
    }
    return (int)(1 ^ ((difference | (0 - difference)) >> 63));
}
