#include "wipe.h"

#include <string.h>

void qbb_wipe(void *bytes, size_t length)
{
    if (length == 0)
        return;
    memset(bytes, 0, length);
    /* The compiler must believe that somebody reads the zeros, or it removes a memset before a free or a return. */
    __asm__ __volatile__("" : : "r"(bytes) : "memory");
}

int qbb_equal(const void *a, const void *b, size_t length)
{
    const uint8_t *x = a, *y = b;
    uint32_t difference = 0;
    for (size_t i = 0; i < length; i++) {
        difference |= (uint32_t)(x[i] ^ y[i]);
        /* Hides the value, so that no early exit is derived from a difference already found. */
        __asm__("" : "+r"(difference));
    }
    return (int)((difference - 1) >> 31);
}
