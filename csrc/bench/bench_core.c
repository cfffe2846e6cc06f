/* Pad and tag of one packet against AES-256-GCM of libcrypto and against the XOR alone, in one run.
 *
 * Pads are cold: they come once, in order, from a pool far larger than the cache, as key does in a link, and are asked for
 * ahead of their use as a link does it (keybuf.c; for the XOR alone, pad itself). Each repetition measures all contestants
 * one after the other, so that a change of the machine's speed meets them alike; ratios are the medians of the
 * repetitions' ratios. Text and packet stay in the cache for all. AES-256-GCM authenticates the 20 header bytes as
 * additional data and uses a new IV for each packet under one expanded key.
 *
 * "floor" is what a tag costs without any hash: the XOR, 16 bytes of mask more, and the fixed block written. No hash, however
 * fast, brings pad and tag below it. Prints JSON lines. */
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <string.h>
#include <sys/mman.h>

#include "hash.h"
#include "keybuf.h"
#include "measure.h"
#include "pad.h"
#include "tag.h"

#define POOL_BYTES (512ull << 20)
#define REPETITIONS 9
#define ROUND_BYTES (48ull << 20) /* payload of one contestant in one repetition */

static qbb_keybuf pool = {.size_words = POOL_BYTES / 8};
static size_t pool_at;
static uint8_t text[2048], packet[2048], tag[16];
static qbb_hash_key hash_key;
static EVP_CIPHER_CTX *gcm;
static uint64_t counter;

/* The next bytes of cold pad. */
static const uint8_t *cold(size_t bytes)
{
    if (pool_at + bytes + 8192 > POOL_BYTES)
        pool_at = 0;
    const uint8_t *pad = pool.base + pool_at;
    pool_at += bytes;
    return pad;
}

static void pad_and_tag(size_t size)
{
    uint8_t fixed[64], header[20] = {0};
    qbb_keybuf_prefetch(&pool, pool_at / 8, (size + 16) / 8);
    const uint8_t *pad = cold(size + 16);
    counter++;
    qbb_tag_fixed(fixed, 7, 1, 0, counter, counter + size / 8, header);
    qbb_pad_and_tag(packet, tag, &hash_key, fixed, text, size, 0, NULL, pad, pad + size);
}

static void floor_of_tag(size_t size)
{
    uint8_t fixed[64], header[20] = {0};
    qbb_keybuf_prefetch(&pool, pool_at / 8, (size + 16) / 8);
    const uint8_t *pad = cold(size + 16);
    counter++;
    qbb_tag_fixed(fixed, 7, 1, 0, counter, counter + size / 8, header);
    __asm__ __volatile__("" : : "r"(fixed) : "memory");
    qbb_pad(packet, text, pad, size);
    memcpy(tag, pad + size, 16);
}

static void xor_alone(size_t size)
{
    qbb_pad(packet, text, cold(size), size);
}

static void aes_256_gcm(size_t size)
{
    static const uint8_t header[20];
    uint8_t iv[12] = {0};
    int n;
    counter++;
    memcpy(iv, &counter, sizeof counter);
    EVP_EncryptInit_ex(gcm, NULL, NULL, NULL, iv);
    EVP_EncryptUpdate(gcm, NULL, &n, header, sizeof header);
    EVP_EncryptUpdate(gcm, packet, &n, text, (int)size);
    EVP_EncryptFinal_ex(gcm, packet + size, &n);
    EVP_CIPHER_CTX_ctrl(gcm, EVP_CTRL_AEAD_GET_TAG, 16, tag);
}

/* Nanoseconds a packet. */
static double timed(void (*operation)(size_t), size_t size)
{
    size_t packets = ROUND_BYTES / size;
    double begin = worked_seconds();
    for (size_t i = 0; i < packets; i++) {
        operation(size);
        __asm__ __volatile__("" : : "r"(packet), "r"(tag) : "memory");
    }
    return (worked_seconds() - begin) * 1e9 / (double)packets;
}

static void compare(size_t size)
{
    enum { OURS, XOR, GCM, FLOOR, CONTESTANTS };
    static void (*const contestants[CONTESTANTS])(size_t) = {pad_and_tag, xor_alone, aes_256_gcm, floor_of_tag};
    double ns[CONTESTANTS][REPETITIONS], against[CONTESTANTS][REPETITIONS], floor_xor[REPETITIONS];
    for (int c = 0; c < CONTESTANTS; c++)
        timed(contestants[c], size); /* warm up */
    for (int r = 0; r < REPETITIONS; r++) {
        for (int c = 0; c < CONTESTANTS; c++)
            ns[c][r] = timed(contestants[c], size);
        for (int c = 0; c < CONTESTANTS; c++)
            against[c][r] = ns[c][r] / ns[OURS][r];
        floor_xor[r] = ns[XOR][r] / ns[FLOOR][r];
    }
    printf("{\"bench\": \"pad_and_tag\", \"size_bytes\": %zu, \"kind\": \"%s\", \"pad_tag_ns\": %.1f, "
           "\"xor_ns\": %.1f, \"aes256gcm_ns\": %.1f, \"floor_ns\": %.1f, \"ratio_aes256gcm\": %.2f, \"ratio_xor\": %.2f, "
           "\"ratio_xor_floor\": %.2f, \"repetitions\": %d, \"libcrypto\": \"%s\"}\n",
        size, qbb_hash_name(qbb_hash_selected()), median(ns[OURS], REPETITIONS), median(ns[XOR], REPETITIONS),
        median(ns[GCM], REPETITIONS), median(ns[FLOOR], REPETITIONS), median(against[GCM], REPETITIONS),
        median(against[XOR], REPETITIONS), median(floor_xor, REPETITIONS), REPETITIONS,
        OpenSSL_version(OPENSSL_VERSION));
}

int main(void)
{
    static const uint8_t key[32] = {1};
    static const size_t sizes[] = {64, 512, 1400};
    if (qbb_selftest() != 0)
        return 1;
    pool.base = mmap(NULL, POOL_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pool.base == MAP_FAILED)
        return 1;
    for (size_t i = 0; i < POOL_BYTES; i += 8)
        *(uint64_t *)(pool.base + i) = i * 0x9e3779b97f4a7c15;
    qbb_hash_key_expand(&hash_key, pool.base + 4096);
    gcm = EVP_CIPHER_CTX_new();
    if (gcm == NULL || EVP_EncryptInit_ex(gcm, EVP_aes_256_gcm(), NULL, key, NULL) != 1)
        return 1;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        compare(sizes[i]);
    EVP_CIPHER_CTX_free(gcm);
    return 0;
}
