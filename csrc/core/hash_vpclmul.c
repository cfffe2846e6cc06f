/* POLYVAL by VPCLMULQDQ on AVX-512: groups of 4 blocks in a register, 32 blocks to a reduction. (Padding in the
 * same pass over the packet was measured, and is slower: the packet is in the cache anyway.) */
#include "hash_kinds.h"

#if defined(__x86_64__)
#include <immintrin.h>

#define TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,vpclmulqdq,pclmul,bmi2")))
#define INLINE inline TARGET __attribute__((always_inline))
/* clang 14 cannot compile a function with several masked accesses under the address sanitizer. */
#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define MASKED TARGET __attribute__((noinline))
#endif
#endif
#ifndef MASKED
#define MASKED INLINE
#endif
#define GROUP 64 /* bytes: 4 blocks */
#define BATCH_BYTES ((QBB_HASH_POWERS - 4) * QBB_HASH_BLOCK) /* behind the head of a batch */
/* Pad bytes come from memory once and in order; asking this far ahead hides most of the wait. */
#define PREFETCH_BYTES 4096

static MASKED __m512i load_masked(__mmask64 where, const void *from)
{
    return _mm512_maskz_loadu_epi8(where, from);
}

static MASKED void store_masked(void *to, __mmask64 where, __m512i group)
{
    _mm512_mask_storeu_epi8(to, where, group);
}

/* Mask of the first n bytes of a group. */
static INLINE __mmask64 first(size_t n)
{
    return n >= GROUP ? ~(__mmask64)0 : _bzhi_u64(~0ull, (unsigned)n);
}

static INLINE __m128i fold_lanes(__m512i x)
{
    __m256i half = _mm256_xor_si256(_mm512_castsi512_si256(x), _mm512_extracti64x4_epi64(x, 1));
    return _mm_xor_si128(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
}

/* Gueron's reduction modulo x^128 + x^127 + x^126 + x^121 + 1, with the factor x^-128. */
static INLINE __m128i reduce(__m128i low, __m128i middle, __m128i high)
{
    const __m128i polynomial = _mm_set_epi64x((long long)0xc200000000000000, 1);
    low = _mm_xor_si128(low, _mm_slli_si128(middle, 8));
    high = _mm_xor_si128(high, _mm_srli_si128(middle, 8));
    for (int i = 0; i < 2; i++)
        low = _mm_xor_si128(_mm_clmulepi64_si128(low, polynomial, 0x10), _mm_shuffle_epi32(low, 0x4e));
    return _mm_xor_si128(low, high);
}

/* Unreduced products, four lanes wide. */
typedef struct {
    __m512i low, middle, high;
} sums;

static INLINE sums product(__m512i group, __m512i h)
{
    __m512i crossed = _mm512_clmulepi64_epi128(group, h, 0x01);
    return (sums){_mm512_clmulepi64_epi128(group, h, 0x00),
        _mm512_xor_si512(crossed, _mm512_clmulepi64_epi128(group, h, 0x10)), _mm512_clmulepi64_epi128(group, h, 0x11)};
}

static INLINE void add(sums *s, __m512i group, __m512i h)
{
    s->low = _mm512_xor_si512(s->low, _mm512_clmulepi64_epi128(group, h, 0x00));
    s->high = _mm512_xor_si512(s->high, _mm512_clmulepi64_epi128(group, h, 0x11));
    /* 0x96: XOR of three. */
    s->middle = _mm512_ternarylogic_epi64(
        s->middle, _mm512_clmulepi64_epi128(group, h, 0x01), _mm512_clmulepi64_epi128(group, h, 0x10), 0x96);
}

static INLINE __m128i reduced(const sums *s)
{
    return reduce(fold_lanes(s->low), fold_lanes(s->middle), fold_lanes(s->high));
}

static inline size_t blocks(size_t length)
{
    return (length + QBB_HASH_BLOCK - 1) / QBB_HASH_BLOCK;
}

/* The last n powers, n less than 4; the other lanes are zero. */
static INLINE __m512i last_powers(const qbb_hash_key *key, size_t n)
{
    return _mm512_maskz_loadu_epi64((__mmask8)((1u << 2 * n) - 1), qbb_hash_power(key, n));
}

/* A head of one group, then at most BATCH_BYTES more, which need not be whole blocks. */
static INLINE __m128i batch(const qbb_hash_key *key, __m512i head, const uint8_t *data, size_t length)
{
    const uint8_t *power = qbb_hash_power(key, 4 + blocks(length));
    sums s = product(head, _mm512_loadu_si512(power));
    for (power += GROUP; length >= GROUP; data += GROUP, length -= GROUP, power += GROUP)
        add(&s, _mm512_loadu_si512(data), _mm512_loadu_si512(power));
    if (length > 0)
        add(&s, load_masked(first(length), data), last_powers(key, blocks(length)));
    return reduced(&s);
}

/* POLYVAL of a head and of any data behind it. Short packets are one batch: they pay for one reduction and no more. */
static INLINE __m128i polyval(const qbb_hash_key *key, __m512i head, const uint8_t *data, size_t length)
{
    for (;;) {
        size_t now = length < BATCH_BYTES ? length : BATCH_BYTES;
        __m128i sum = batch(key, head, data, now);
        data += now;
        length -= now;
        if (length == 0)
            return sum;
        head = _mm512_zextsi128_si512(sum);
        if (length < GROUP) {
            sums s = product(
                _mm512_xor_si512(head, load_masked(first(length), data)), last_powers(key, blocks(length)));
            return reduced(&s);
        }
        head = _mm512_xor_si512(head, _mm512_loadu_si512(data));
        data += GROUP;
        length -= GROUP;
    }
}

/* A group that was just written word by word: one wide load would wait until all the words have left the store buffer, and
 * would hold up the next packet as well. volatile keeps the compiler from making one load of several. */
static INLINE __m512i load_words(const uint8_t *bytes)
{
    typedef long long word __attribute__((aligned(1), may_alias));
    const volatile word *w = (const volatile word *)bytes;
    __m128i a = _mm_set_epi64x(w[1], w[0]), b = _mm_set_epi64x(w[3], w[2]);
    __m128i c = _mm_set_epi64x(w[5], w[4]), d = _mm_set_epi64x(w[7], w[6]);
    return _mm512_inserti64x4(_mm512_castsi256_si512(_mm256_set_m128i(b, a)), _mm256_set_m128i(d, c), 1);
}

static TARGET void update(const qbb_hash_key *key, uint8_t sum[16], const uint8_t *data, size_t length)
{
    __m512i head = _mm512_zextsi128_si512(_mm_loadu_si128((const __m128i *)sum));
    size_t n = length < GROUP ? length : GROUP;
    if (length == 0)
        return;
    head = _mm512_xor_si512(head, load_masked(first(n), data));
    if (n == GROUP) {
        _mm_storeu_si128((__m128i *)sum, polyval(key, head, data + GROUP, length - GROUP));
    } else {
        sums s = product(head, last_powers(key, blocks(n)));
        _mm_storeu_si128((__m128i *)sum, reduced(&s));
    }
}

static TARGET void tag(const qbb_hash_key *key, uint8_t out[16], const qbb_message *m)
{
    __m128i sum = polyval(key, load_words(m->fixed), m->payload, m->length);
    _mm_storeu_si128((__m128i *)out, _mm_xor_si128(sum, _mm_loadu_si128((const __m128i *)m->mask)));
}

static TARGET void pad(uint8_t *out, const uint8_t *in, const uint8_t *pad, size_t length)
{
    size_t at = 0;
    for (; at + GROUP <= length; at += GROUP) {
        _mm_prefetch((const char *)pad + at + PREFETCH_BYTES, _MM_HINT_T0);
        _mm512_storeu_si512(out + at, _mm512_xor_si512(_mm512_loadu_si512(in + at), _mm512_loadu_si512(pad + at)));
    }
    if (at == length)
        return;
    __mmask64 rest = first(length - at);
    __m512i x = _mm512_xor_si512(load_masked(rest, in + at), load_masked(rest, pad + at));
    store_masked(out + at, rest, x);
}

static TARGET void fuse(uint8_t *out, const uint8_t *in, const uint8_t *pad_a, const uint8_t *pad_b, size_t length)
{
    size_t at = 0;
    for (; at + GROUP <= length; at += GROUP) {
        _mm_prefetch((const char *)pad_b + at + PREFETCH_BYTES, _MM_HINT_T0);
        _mm512_storeu_si512(out + at, _mm512_ternarylogic_epi64(_mm512_loadu_si512(in + at),
            _mm512_loadu_si512(pad_a + at), _mm512_loadu_si512(pad_b + at), 0x96));
    }
    if (at == length)
        return;
    __mmask64 rest = first(length - at);
    __m512i x = _mm512_ternarylogic_epi64(load_masked(rest, in + at),
        load_masked(rest, pad_a + at), load_masked(rest, pad_b + at), 0x96);
    store_masked(out + at, rest, x);
}

const qbb_hash_ops qbb_hash_vpclmul = {"vpclmulqdq", update, tag, pad, fuse};
#endif
