/* The link's life: memory, epochs, loading of key, the queue's entrance, statistics. link_internal.h maps the files. */
#include "link_internal.h"

#include <string.h>

#include "probe.h"
#include "qkd.h"
#include "wipe.h"

#define ALIGN 64
#define PAGE_WORDS 512
/* A buffer's words must stay far below the 2^32 that an offset on the wire can tell apart. */
#define BUFFER_WORDS_MAX ((uint64_t)1 << 28)
#define QUEUE_SLOTS_MAX (1u << 20)
/* Time-outs are shifted left by up to QBB_TIMER_LISTS bits. */
#define TIME_MAX_NS ((uint64_t)1 << 50)
#define HASH_KEY_OFFSET 0 /* in a slot's half: H, then the starter words */
#define STARTER_OFFSET 16

static size_t aligned(size_t bytes)
{
    return (bytes + ALIGN - 1) / ALIGN * ALIGN;
}

static int power_of_two(uint64_t value)
{
    return value != 0 && (value & (value - 1)) == 0;
}

static uint64_t bitmap_words(const qbb_link_params *params)
{
    uint64_t words = 64;
    while (words < params->window_words)
        words *= 2;
    return words;
}

static int params_good(const qbb_link_params *p)
{
    return p->queue_slots >= 1 && p->queue_slots <= QUEUE_SLOTS_MAX
        && power_of_two(p->flight_slots) && p->flight_slots >= 4 && p->flight_slots <= QBB_NUMBERS_AHEAD
        && p->window_words >= PAGE_WORDS && p->window_words <= BUFFER_WORDS_MAX
        && p->rto_ns >= 1 && p->rto_ns <= p->rto_max_ns && p->rto_max_ns <= TIME_MAX_NS && p->ack_delay_ns <= TIME_MAX_NS
        && p->give_up_tries >= 1;
}

size_t qbb_link_secret_bytes(const qbb_link_params *params)
{
    if (!params_good(params))
        return 0;
    return 2 * aligned(sizeof(qbb_hash_key)) + (size_t)params->queue_slots * sizeof(qbb_waiting);
}

size_t qbb_link_plain_bytes(const qbb_link_params *params)
{
    if (!params_good(params))
        return 0;
    return aligned(sizeof(qbb_link)) + (size_t)params->flight_slots * sizeof(qbb_flight_slot)
        + aligned(params->flight_slots * sizeof(uint32_t)) + aligned(bitmap_words(params) / 8);
}

qbb_link *qbb_link_init(const qbb_link_params *params, void *secret, void *plain, uint8_t *out_base, uint8_t *in_base,
    uint64_t buffer_words)
{
    if (!params_good(params) || secret == NULL || plain == NULL || out_base == NULL || in_base == NULL)
        return NULL;
    /* A window wider than the buffer would never let go of the buffer's words. */
    if (!power_of_two(buffer_words) || buffer_words < PAGE_WORDS || buffer_words > BUFFER_WORDS_MAX
        || params->window_words > buffer_words)
        return NULL;
    uint8_t *keys = secret, *memory = plain;
    qbb_link *link = plain;
    memset(link, 0, sizeof *link);
    link->params = *params;
    link->out_hash = (qbb_hash_key *)keys;
    link->in_hash = (qbb_hash_key *)(keys + aligned(sizeof(qbb_hash_key)));
    qbb_queue_init(&link->queue, (qbb_waiting *)(keys + 2 * aligned(sizeof(qbb_hash_key))), params->queue_slots);

    memory += aligned(sizeof *link);
    link->flight.rto_ns = params->rto_ns;
    link->flight.rto_max_ns = params->rto_max_ns;
    link->flight.give_up_tries = params->give_up_tries;
    qbb_flight_slot *slots = (qbb_flight_slot *)memory;
    memory += (size_t)params->flight_slots * sizeof(qbb_flight_slot);
    qbb_flight_init(&link->flight, slots, (uint32_t *)memory, params->flight_slots);

    memory += aligned(params->flight_slots * sizeof(uint32_t));
    link->in.taken = (uint64_t *)memory;
    link->in.bitmap_words = bitmap_words(params);
    link->in.window_words = params->window_words;
    link->in.buf = (qbb_keybuf){.base = in_base, .size_words = buffer_words};
    link->out = (qbb_keybuf){.base = out_base, .size_words = buffer_words};
    qbb_arrivals_reset(&link->arrivals);
    return link;
}

static void load_starter(qbb_keybuf *buf, const uint8_t half[QBB_SLOT_HALF_BYTES])
{
    memcpy(qbb_keybuf_reserve(buf, QBB_STARTER_WORDS), half + STARTER_OFFSET, QBB_STARTER_WORDS * 8);
    qbb_keybuf_commit(buf, QBB_STARTER_WORDS);
}

static void load_hash_key(qbb_hash_key *key, const uint8_t half[QBB_SLOT_HALF_BYTES])
{
    QBB_NOTE(QBB_USE_HASH_KEY, half + HASH_KEY_OFFSET, QBB_HASH_BLOCK);
    qbb_hash_key_expand(key, half + HASH_KEY_OFFSET);
}

void qbb_link_begin(qbb_link *link, uint64_t epoch, const uint8_t out_half[QBB_SLOT_HALF_BYTES],
    const uint8_t in_half[QBB_SLOT_HALF_BYTES])
{
    qbb_link_end(link);
    link->epoch = epoch;
    load_hash_key(link->out_hash, out_half);
    load_hash_key(link->in_hash, in_half);
    load_starter(&link->out, out_half);
    load_starter(&link->in.buf, in_half);
    qbb_wipe_registers();
    link->running = 1;
}

void qbb_link_end(qbb_link *link)
{
    link->running = 0;
    link->reserved_words[QBB_OUT] = link->reserved_words[QBB_IN] = 0;
    link->stats.verdicts[QBB_DROP_QUEUE_EPOCH] += qbb_queue_clear(&link->queue);
    qbb_flight_reset(&link->flight);
    qbb_arrivals_reset(&link->arrivals);
    qbb_window_reset(&link->in);
    qbb_keybuf_reset(&link->out);
    qbb_wipe(link->out_hash, sizeof *link->out_hash);
    qbb_wipe(link->in_hash, sizeof *link->in_hash);
}

int qbb_link_running(const qbb_link *link)
{
    return link->running;
}

static qbb_keybuf *buffer_of(qbb_link *link, enum qbb_direction direction)
{
    return direction == QBB_OUT ? &link->out : &link->in.buf;
}

uint8_t *qbb_link_reserve(qbb_link *link, enum qbb_direction direction, uint64_t words)
{
    /* Without an epoch there is no stream: begin would wipe what is loaded now. */
    uint8_t *place = link->running ? qbb_keybuf_reserve(buffer_of(link, direction), words) : NULL;
    link->reserved_words[direction] = place != NULL ? words : 0;
    return place;
}

void qbb_link_commit(qbb_link *link, enum qbb_direction direction, uint64_t words)
{
    /* If the epoch ended since the words were reserved, their place was wiped: zeros must never count as key. */
    if (words > link->reserved_words[direction])
        return;
    link->reserved_words[direction] = 0;
    qbb_keybuf_commit(buffer_of(link, direction), words);
}

void qbb_link_close_below(qbb_link *link, enum qbb_direction direction, uint64_t word)
{
    if (direction == QBB_IN) {
        qbb_window_raise(&link->in, word);
        return;
    }
    uint64_t before = link->out.floor;
    qbb_keybuf_drop_below(&link->out, word);
    link->stats.spent_words[QBB_SPENT_LOST] += link->out.floor - before;
}

void qbb_link_allow(qbb_link *link, unsigned priority)
{
    link->allow = priority;
}

static int refusal(const qbb_link *link, const qbb_waiting_fields *fields, const uint8_t *payload, size_t length, size_t clear)
{
    if (!link->running)
        return QBB_DROP_NO_EPOCH;
    if (length > QBB_PAYLOAD_MAX || clear > length || fields->priority >= QBB_PRIORITIES)
        return QBB_DROP_LENGTH;
    if (fields->command != (fields->channel == QBB_CHANNEL_CONTROL ? QBB_COMMAND_CONTROL : QBB_COMMAND_DATA))
        return QBB_DROP_COMMAND;
    if (fields->channel == QBB_CHANNEL_NETWORK && qbb_network_clear(payload, length) != (int)clear)
        return QBB_DROP_CLEAR;
    return 0;
}

/* A quarter of the slots is control's. Traffic that waits for key must not shut out the records that open key: such a link
 * would wait for ever. */
static int room_for(const qbb_queue *queue, unsigned priority)
{
    uint32_t kept = priority < QBB_PRIORITY_CONTROL ? queue->slot_count / 4 : 0;
    return queue->waiting + kept < queue->slot_count;
}

int qbb_link_submit(qbb_link *link, uint16_t channel, uint8_t command, uint8_t priority, int reliable,
    const uint8_t *payload, size_t length, size_t clear, const uint8_t *pad_a)
{
    qbb_waiting_fields fields = {.channel = channel, .command = command, .priority = priority, .reliable = reliable != 0,
        .length = (uint16_t)length, .clear = (uint16_t)clear};
    int reason = refusal(link, &fields, payload, length, clear);
    if (reason == 0 && !(room_for(&link->queue, priority) && qbb_queue_put(&link->queue, &fields, payload, pad_a)))
        reason = QBB_DROP_QUEUE_FULL;
    if (reason != 0)
        link->stats.verdicts[reason]++;
    return -reason;
}

uint32_t qbb_link_waiting(const qbb_link *link)
{
    return link->queue.waiting;
}

void qbb_link_read_stats(const qbb_link *link, qbb_link_stats *stats)
{
    *stats = link->stats;
    stats->delivered_key_bytes = link->flight.acknowledged_key_bytes;
    stats->queued = link->queue.waiting;
    stats->queued_control_words = link->queue.control_words;
    stats->in_flight = link->flight.in_flight;
    stats->out_words = link->out.loaded - link->out.floor;
    stats->in_words = link->in.buf.loaded - link->in.buf.floor - link->in.taken_words;
    stats->out_loaded = link->out.loaded;
    stats->in_loaded = link->in.buf.loaded;
    stats->out_settled = qbb_flight_oldest_word(&link->flight, link->out.floor);
}
