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

#if defined(__x86_64__)
#define LOW "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", \
    "xmm13", "xmm14", "xmm15"
#define HIGH "xmm16", "xmm17", "xmm18", "xmm19", "xmm20", "xmm21", "xmm22", "xmm23", "xmm24", "xmm25", "xmm26", "xmm27", \
    "xmm28", "xmm29", "xmm30", "xmm31"
#define ZERO(n) "vpxord %%zmm" #n ", %%zmm" #n ", %%zmm" #n "\n\t"

__attribute__((target("avx512f"))) static void wipe_avx512(void)
{
    __asm__ __volatile__("vzeroall\n\t" ZERO(16) ZERO(17) ZERO(18) ZERO(19) ZERO(20) ZERO(21) ZERO(22) ZERO(23) ZERO(24)
        ZERO(25) ZERO(26) ZERO(27) ZERO(28) ZERO(29) ZERO(30) ZERO(31) : : : LOW, HIGH);
}

__attribute__((target("avx"))) static void wipe_avx(void)
{
    __asm__ __volatile__("vzeroall" : : : LOW);
}

#define ZERO_SSE(n) "pxor %%xmm" #n ", %%xmm" #n "\n\t"

void qbb_wipe_registers(void)
{
    if (__builtin_cpu_supports("avx512f"))
        wipe_avx512();
    else if (__builtin_cpu_supports("avx"))
        wipe_avx();
    else
        __asm__ __volatile__(ZERO_SSE(0) ZERO_SSE(1) ZERO_SSE(2) ZERO_SSE(3) ZERO_SSE(4) ZERO_SSE(5) ZERO_SSE(6) ZERO_SSE(7)
            ZERO_SSE(8) ZERO_SSE(9) ZERO_SSE(10) ZERO_SSE(11) ZERO_SSE(12) ZERO_SSE(13) ZERO_SSE(14) ZERO_SSE(15) : : : LOW);
}
#elif defined(__aarch64__)
#define ZERO(n) "movi v" #n ".2d, #0\n\t"

/* The lower halves of v8 to v15 are the caller's: he, or one of his callers, put there what is in them. */
void qbb_wipe_registers(void)
{
    __asm__ __volatile__(ZERO(0) ZERO(1) ZERO(2) ZERO(3) ZERO(4) ZERO(5) ZERO(6) ZERO(7) ZERO(16) ZERO(17) ZERO(18) ZERO(19)
        ZERO(20) ZERO(21) ZERO(22) ZERO(23) ZERO(24) ZERO(25) ZERO(26) ZERO(27) ZERO(28) ZERO(29) ZERO(30) ZERO(31)
        : : : "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v16", "v17", "v18", "v19", "v20", "v21", "v22", "v23", "v24",
        "v25", "v26", "v27", "v28", "v29", "v30", "v31");
}
#else
void qbb_wipe_registers(void)
{
}
#endif

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
