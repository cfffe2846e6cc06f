/* POLYVAL by PCLMULQDQ: 8 blocks to a reduction (the products of a run of blocks with falling powers of H are summed
 * before they are reduced, because reduction is linear). Padding by AVX2. */
#include "hash_kinds.h"

#if defined(__x86_64__)
#include <immintrin.h>
#include <string.h>

#define TARGET __attribute__((target("pclmul,avx2")))
#define INLINE inline TARGET __attribute__((always_inline))
#define BATCH 8

/* Sums of the unreduced products of the current batch, and what is still to come. */
typedef struct {
    __m128i low, middle, high, sum;
    const uint8_t *power; /* factor of the next block */
    size_t left;          /* blocks of the message not begun with any batch */
    unsigned room;        /* blocks that the current batch still takes */
} run;

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

static INLINE void begin_batch(run *r, const qbb_hash_key *key)
{
    r->room = r->left < BATCH ? (unsigned)r->left : BATCH;
    r->left -= r->room;
    r->power = qbb_hash_power(key, r->room);
    r->low = r->middle = r->high = _mm_setzero_si128();
}

static INLINE void absorb(run *r, const qbb_hash_key *key, __m128i block)
{
    if (r->room == 0) {
        begin_batch(r, key);
        block = _mm_xor_si128(block, r->sum);
    }
    __m128i h = _mm_loadu_si128((const __m128i *)r->power);
    r->low = _mm_xor_si128(r->low, _mm_clmulepi64_si128(block, h, 0x00));
    r->high = _mm_xor_si128(r->high, _mm_clmulepi64_si128(block, h, 0x11));
    r->middle = _mm_xor_si128(r->middle, _mm_clmulepi64_si128(block, h, 0x01));
    r->middle = _mm_xor_si128(r->middle, _mm_clmulepi64_si128(block, h, 0x10));
    r->power += QBB_HASH_BLOCK;
    if (--r->room == 0)
        r->sum = reduce(r->low, r->middle, r->high);
}

static INLINE void absorb_bytes(run *r, const qbb_hash_key *key, const uint8_t *data, size_t length)
{
    for (; length >= QBB_HASH_BLOCK; data += QBB_HASH_BLOCK, length -= QBB_HASH_BLOCK)
        absorb(r, key, _mm_loadu_si128((const __m128i *)data));
    if (length > 0) {
        uint8_t last[QBB_HASH_BLOCK] = {0};
        memcpy(last, data, length);
        absorb(r, key, _mm_loadu_si128((const __m128i *)last));
    }
}

/* A block that was just written word by word: one wide load would wait until all the words have left the store buffer, and
 * would hold up the next packet as well. volatile keeps the compiler from making one load of two. */
static INLINE __m128i load_words(const uint8_t *bytes)
{
    typedef long long word __attribute__((aligned(1), may_alias));
    const volatile word *words = (const volatile word *)bytes;
    return _mm_set_epi64x(words[1], words[0]);
}

static inline size_t blocks(size_t length)
{
    return (length + QBB_HASH_BLOCK - 1) / QBB_HASH_BLOCK;
}

static TARGET void update(const qbb_hash_key *key, uint8_t sum[16], const uint8_t *data, size_t length)
{
    run r = {.left = blocks(length), .sum = _mm_loadu_si128((const __m128i *)sum)};
    absorb_bytes(&r, key, data, length);
    _mm_storeu_si128((__m128i *)sum, r.sum);
}

static TARGET void tag(const qbb_hash_key *key, uint8_t out[16], const qbb_message *m)
{
    run r = {.left = 4 + blocks(m->length), .sum = _mm_setzero_si128()};
    for (int i = 0; i < 4; i++)
        absorb(&r, key, load_words(m->fixed + 16 * i));
    absorb_bytes(&r, key, m->payload, m->length);
    _mm_storeu_si128((__m128i *)out, _mm_xor_si128(r.sum, _mm_loadu_si128((const __m128i *)m->mask)));
}

static TARGET void pad(uint8_t *out, const uint8_t *in, const uint8_t *pad, size_t length)
{
    for (size_t i = 0; i < length; i++)
        out[i] = in[i] ^ pad[i];
}

static TARGET void fuse(uint8_t *out, const uint8_t *in, const uint8_t *pad_a, const uint8_t *pad_b, size_t length)
{
    for (size_t i = 0; i < length; i++)
        out[i] = in[i] ^ pad_a[i] ^ pad_b[i];
}

const qbb_hash_ops qbb_hash_pclmul = {"pclmulqdq", update, tag, pad, fuse};
#endif
