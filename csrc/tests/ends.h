/* Two ends of a link for tests: `left` is the master. All their memory is at hand, to be looked at. */
#ifndef QBB_ENDS_H
#define QBB_ENDS_H
#include <string.h>

#include "check.h"
#include "link_internal.h"
#include "mirror.h"
#include "pad.h"

#define BUFFER_WORDS 2048
#define MS ((uint64_t)1000000)

typedef struct {
    qbb_link *link;
    uint8_t *secret, *plain, *out, *in;
    size_t secret_bytes, plain_bytes;
} end;

static end left, right;
static qbb_delivery delivery;
static uint64_t key_random = 1;

static inline qbb_link_params usual_params(void)
{
    return (qbb_link_params){.link_id = 0x0101010101010102, .queue_slots = 32, .flight_slots = 64, .window_words = 1024,
        .ack_delay_ns = 50 * MS, .rto_ns = 250 * MS, .rto_max_ns = 4000 * MS, .give_up_tries = 10};
}

static inline void end_free(end *e)
{
    if (e->link == NULL)
        return;
    free(e->secret);
    free(e->plain);
    unmirrored(e->out, BUFFER_WORDS * 8);
    unmirrored(e->in, BUFFER_WORDS * 8);
    *e = (end){0};
}

static inline void end_new(end *e, qbb_link_params params, int master)
{
    end_free(e);
    params.master = (uint8_t)master;
    e->secret_bytes = qbb_link_secret_bytes(&params);
    e->plain_bytes = qbb_link_plain_bytes(&params);
    e->secret = zeroed(e->secret_bytes);
    e->plain = zeroed(e->plain_bytes);
    e->out = mirrored(BUFFER_WORDS * 8);
    e->in = mirrored(BUFFER_WORDS * 8);
    e->link = qbb_link_init(&params, e->secret, e->plain, e->out, e->in, BUFFER_WORDS);
    CHECK(e->link != NULL);
}

static inline void random_bytes(uint8_t *out, size_t length)
{
    for (size_t i = 0; i < length; i++)
        out[i] = (uint8_t)(next_random(&key_random) >> 40);
}

static inline void begin(uint64_t epoch)
{
    uint8_t a[QBB_SLOT_HALF_BYTES], b[QBB_SLOT_HALF_BYTES];
    random_bytes(a, sizeof a);
    random_bytes(b, sizeof b);
    qbb_link_begin(left.link, epoch, a, b);
    qbb_link_begin(right.link, epoch, b, a);
}

/* Fresh ends in epoch 1, with no key but the starter words. */
static inline void fresh(qbb_link_params params)
{
    end_new(&left, params, 1);
    end_new(&right, params, 0);
    begin(1);
}

/* A chunk of `words` for from's way out and to's way in; 0 when either has no room. */
static inline int load(end *from, end *to, uint64_t words)
{
    uint8_t *out = qbb_link_reserve(from->link, QBB_OUT, words), *in = qbb_link_reserve(to->link, QBB_IN, words);
    if (out == NULL || in == NULL)
        return 0;
    random_bytes(out, words * 8);
    memcpy(in, out, words * 8);
    qbb_link_commit(from->link, QBB_OUT, words);
    qbb_link_commit(to->link, QBB_IN, words);
    return 1;
}

static inline qbb_link_stats stats_of(const end *e)
{
    qbb_link_stats stats;
    qbb_link_read_stats(e->link, &stats);
    return stats;
}

/* A packet for a device channel, its last `padded` bytes padded. */
static inline int submit(end *e, const void *payload, size_t length, size_t padded, int reliable)
{
    return qbb_link_submit(e->link, QBB_CHANNEL_DEVICE, QBB_COMMAND_DATA, 3, reliable, payload, length, length - padded, NULL);
}

static inline enum qbb_verdict receive(end *e, uint64_t now_ns, const uint8_t *packet, size_t length)
{
    return qbb_link_receive(e->link, now_ns, packet, length, &delivery);
}

/* The payload of the last delivery, opened. */
static inline const uint8_t *opened(void)
{
    static uint8_t payload[QBB_PAYLOAD_MAX];
    memcpy(payload, delivery.payload, delivery.clear);
    qbb_pad(payload + delivery.clear, delivery.payload + delivery.clear, delivery.pad, delivery.length - delivery.clear);
    return payload;
}
#endif
