/* The link engine: nanoseconds a packet for seal, open, acknowledgements and the relay hop, and the same hop with
 * AES-256-GCM of libcrypto, in one run. Prints JSON lines; medians of repetitions.
 *
 * Three ends stand in a row: source -> relay -> sink. The hop is the relay's calls alone: receive on link A; submit and poll
 * on link B. The key buffers are far larger than the cache and kept full, so pads are cold, as key is in a node. Queues
 * are short, as they are when the link keeps up. Build: gcc -O3 -D_GNU_SOURCE -Icsrc/core -Icsrc/tests this csrc/core/*.c
 * -lcrypto. */
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <string.h>

#include "hash.h"
#include "link.h"
#include "measure.h"
#include "mirror.h"

#define BUFFER_WORDS (4u << 20)
#define BATCH 64
#define BATCHES 400
#define REPETITIONS 9

static const qbb_link_params params = {.link_id = 1, .queue_slots = 256, .flight_slots = 1024, .window_words = 1 << 17,
    .ack_delay_ns = 50000000, .rto_ns = 250000000, .rto_max_ns = 4000000000, .give_up_tries = 10};

typedef struct { qbb_link *from, *to; } way; /* one direction of a link */

static qbb_link *source, *relay_a, *relay_b, *sink;
static uint8_t sealed[BATCH][QBB_PACKET_MAX], hopped[BATCH][QBB_PACKET_MAX];
static size_t sealed_length[BATCH], hopped_length[BATCH];
static uint64_t now_ns;

static qbb_link *new_end(int master)
{
    qbb_link_params p = params;
    p.master = (uint8_t)master;
    return qbb_link_init(&p, zeroed(qbb_link_secret_bytes(&p)), zeroed(qbb_link_plain_bytes(&p)),
        mirrored(BUFFER_WORDS * 8), mirrored(BUFFER_WORDS * 8), BUFFER_WORDS);
}

/* The same words at both ends; their values do not matter for speed, but must not be all the same. */
static void load(way w)
{
    enum { WORDS = 4096 };
    for (;;) {
        uint8_t *out = qbb_link_reserve(w.from, QBB_OUT, WORDS), *in = qbb_link_reserve(w.to, QBB_IN, WORDS);
        if (out == NULL || in == NULL)
            return;
        for (size_t i = 0; i < WORDS * 8; i += 8) {
            uint64_t word = (now_ns + i) * 0x9e3779b97f4a7c15u;
            memcpy(out + i, &word, 8);
            memcpy(in + i, &word, 8);
        }
        qbb_link_commit(w.from, QBB_OUT, WORDS);
        qbb_link_commit(w.to, QBB_IN, WORDS);
    }
}

static void begin(qbb_link *a, qbb_link *b)
{
    uint8_t ab[QBB_SLOT_HALF_BYTES], ba[QBB_SLOT_HALF_BYTES];
    for (size_t i = 0; i < sizeof ab; i++)
        ab[i] = (uint8_t)(31 * i + 1), ba[i] = (uint8_t)(57 * i + 3);
    qbb_link_begin(a, 1, ab, ba);
    qbb_link_begin(b, 1, ba, ab);
}

/* Everything that one end has to send, to the other. */
static void drain(qbb_link *from, qbb_link *to)
{
    static uint8_t packet[QBB_PACKET_MAX];
    static qbb_delivery delivery;
    for (size_t length; (length = qbb_link_poll(from, now_ns, packet)) != 0;)
        qbb_link_receive(to, now_ns, packet, length, &delivery);
}

/* Seconds, of each batch: a batch that another program interrupted is only one of many, and the median passes over it. */
typedef struct { double seal[BATCHES], open[BATCHES], hop[BATCHES], acknowledge[BATCHES], aes[BATCHES]; } times;

/* One batch through the row, `clear` of `length` payload bytes unpadded, on a device channel (any payload goes). */
static void batch(times *t, int b, const uint8_t *payload, size_t length, size_t clear)
{
    static qbb_delivery delivery;
    double start = seconds_now();
    for (int i = 0; i < BATCH; i++) {
        qbb_link_submit(source, 16, QBB_COMMAND_DATA, 3, 1, payload, length, clear, NULL);
        sealed_length[i] = qbb_link_poll(source, now_ns, sealed[i]);
    }
    t->seal[b] = seconds_now() - start;

    start = seconds_now();
    for (int i = 0; i < BATCH; i++) {
        qbb_link_receive(relay_a, now_ns, sealed[i], sealed_length[i], &delivery);
        qbb_link_submit(relay_b, 16, QBB_COMMAND_DATA, 3, 1, delivery.payload, delivery.length, delivery.clear,
            delivery.pad);
        hopped_length[i] = qbb_link_poll(relay_b, now_ns, hopped[i]);
    }
    t->hop[b] = seconds_now() - start;

    start = seconds_now();
    for (int i = 0; i < BATCH; i++)
        if (qbb_link_receive(sink, now_ns, hopped[i], hopped_length[i], &delivery) != QBB_DELIVER)
            abort();
    t->open[b] = seconds_now() - start;

    start = seconds_now();
    drain(sink, relay_b);
    t->acknowledge[b] = seconds_now() - start;
    drain(relay_a, source);
    now_ns += 1000;
}

static void load_all(void)
{
    load((way){source, relay_a});
    load((way){relay_a, source});
    load((way){relay_b, sink});
    load((way){sink, relay_b});
}

static EVP_CIPHER_CTX *gcm(int encrypt)
{
    static const uint8_t key[32] = {1, 2, 3};
    EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
    if (EVP_CipherInit_ex(context, EVP_aes_256_gcm(), NULL, key, NULL, encrypt) != 1)
        abort();
    return context;
}

/* One packet: the header as additional data, a fresh IV under an expanded key, the payload, the tag behind it. */
static void gcm_one(EVP_CIPHER_CTX *context, int encrypt, uint8_t *out, uint8_t *in, size_t length)
{
    static uint64_t counter[2];
    uint8_t iv[12] = {0};
    int n, good = 1;
    counter[encrypt]++;
    memcpy(out, in, 20);
    memcpy(iv, &counter[encrypt], 8);
    good &= EVP_CipherInit_ex(context, NULL, NULL, NULL, iv, encrypt);
    if (!encrypt)
        good &= EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_GCM_SET_TAG, 16, in + 20 + length);
    good &= EVP_CipherUpdate(context, NULL, &n, in, 20);
    good &= EVP_CipherUpdate(context, out + 20, &n, in + 20, (int)length);
    good &= EVP_CipherFinal_ex(context, out + 20 + length, &n);
    if (encrypt)
        good &= EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_GCM_GET_TAG, 16, out + 20 + length);
    if (!good)
        abort();
}

/* Seconds for BATCH hops: open under one key, seal under another (here the same: then the sealed text of one batch is the
 * next one's input). Text of `length` bytes. */
static double gcm_batch(size_t length)
{
    static EVP_CIPHER_CTX *opener, *sealer;
    static uint8_t clear[QBB_PACKET_MAX + 64];
    if (opener == NULL)
        opener = gcm(0), sealer = gcm(1);
    for (int i = 0; i < BATCH; i++)
        gcm_one(sealer, 1, sealed[i], clear, length);
    double start = seconds_now();
    for (int i = 0; i < BATCH; i++) {
        gcm_one(opener, 0, clear, sealed[i], length);
        gcm_one(sealer, 1, hopped[i], clear, length);
    }
    double spent = seconds_now() - start;
    /* The sealer ran BATCH ahead of the opener. */
    for (int i = 0; i < BATCH; i++)
        gcm_one(opener, 0, clear, hopped[i], length);
    return spent;
}

static void report(const char *what, size_t length, size_t padded, double *seconds, double divisor)
{
    for (int r = 0; r < REPETITIONS; r++)
        seconds[r] /= divisor;
    printf("{\"bench\": \"link\", \"what\": \"%s\", \"payload_bytes\": %zu, \"padded_bytes\": %zu, \"median\": %.2f}\n", what,
        length, padded, median(seconds, REPETITIONS));
}

/* `length` payload bytes, the last `padded` of them padded. */
static void measure(size_t length, size_t padded)
{
    static uint8_t payload[QBB_PAYLOAD_MAX];
    double seal[REPETITIONS], open[REPETITIONS], hop[REPETITIONS], ack[REPETITIONS], aes[REPETITIONS], ratio[REPETITIONS];
    for (int r = 0; r < REPETITIONS; r++) {
        static times t;
        for (int b = 0; b < BATCHES; b++) {
            load_all();
            batch(&t, b, payload, length, length - padded);
            t.aes[b] = gcm_batch(length);
        }
        seal[r] = median(t.seal, BATCHES), open[r] = median(t.open, BATCHES), hop[r] = median(t.hop, BATCHES);
        ack[r] = median(t.acknowledge, BATCHES), aes[r] = median(t.aes, BATCHES);
        ratio[r] = aes[r] / hop[r];
    }
    double ns = 1e-9 * BATCH;
    report("seal_ns", length, padded, seal, ns);
    report("open_ns", length, padded, open, ns);
    report("hop_ns", length, padded, hop, ns);
    report("acknowledge_ns", length, padded, ack, ns);
    report("hop_aes_256_gcm_ns", length, padded, aes, ns);
    report("hop_aes_256_gcm_to_ours_ratio", length, padded, ratio, 1);
}

int main(void)
{
    source = new_end(1), relay_a = new_end(0), relay_b = new_end(1), sink = new_end(0);
    begin(source, relay_a);
    begin(relay_b, sink);
    printf("{\"bench\": \"link\", \"hash\": \"%s\", \"libcrypto\": \"%s\", \"repetitions\": %d}\n",
        qbb_hash_name(qbb_hash_selected()), OpenSSL_version(OPENSSL_VERSION), REPETITIONS);
    measure(104, 32);    /* a session key of 256 bits: headers and ID clear */
    measure(104, 104);
    measure(1024, 1024);
    return 0;
}
