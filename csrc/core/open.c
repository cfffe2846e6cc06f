/* A datagram from the wire. Everything is checked on the header's word and the key's state first, then the tag; only then
 * does anything but a counter change. */
#include "link_internal.h"

#include <string.h>

#include "bytes.h"
#include "probe.h"
#include "qkd.h"
#include "tag.h"
#include "wipe.h"

/* What the checks found out about a packet. */
typedef struct {
    qbb_header header;
    size_t payload_bytes, pad_words; /* payload with preamble */
    uint64_t e_offset, a_offset;     /* 64-bit word counters */
    uint64_t number;                 /* 64-bit message number of a packet that is new; else 0 */
} opening;

/* The header alone: lengths, version, and fields that fit together. */
static enum qbb_verdict check_header(opening *o, const uint8_t *packet, size_t length)
{
    qbb_header *h = &o->header;
    if (length < QBB_HEADER_BYTES)
        return QBB_DROP_SHORT;
    qbb_header_read(h, packet);
    if (h->length != length || length > QBB_PACKET_MAX)
        return QBB_DROP_LENGTH;
    if (h->version != QBB_Q3P_VERSION)
        return QBB_DROP_VERSION;
    if (!h->authenticated) {
        if (h->encrypted)
            return QBB_DROP_FLAGS;
        return h->command == QBB_COMMAND_HELLO && h->channel == QBB_CHANNEL_CONTROL ? QBB_HELLO : QBB_DROP_COMMAND;
    }
    if (length < QBB_ACK_BYTES)
        return QBB_DROP_SHORT;
    o->payload_bytes = length - QBB_HEADER_BYTES - QBB_TAG_BYTES;
    if (h->clear < QBB_PREAMBLE_BYTES || h->clear > o->payload_bytes || h->encrypted != (h->clear < o->payload_bytes))
        return QBB_DROP_FLAGS;
    o->pad_words = (o->payload_bytes - h->clear + 7) / 8;
    if ((uint32_t)(h->a_offset - h->e_offset) != o->pad_words)
        return QBB_DROP_FLAGS;
    return QBB_DELIVER;
}

static enum qbb_verdict check_command(const opening *o)
{
    const qbb_header *h = &o->header;
    int control = h->channel == QBB_CHANNEL_CONTROL, bare = o->payload_bytes == QBB_PREAMBLE_BYTES;
    int allowed = 0;
    switch (h->command) {
    case QBB_COMMAND_DATA: allowed = !control; break;
    case QBB_COMMAND_CONTROL: allowed = control; break;
    case QBB_COMMAND_ACK: allowed = control && bare && h->message == 0; break;
    case QBB_COMMAND_SKIP: allowed = control && bare && h->message != 0; break;
    }
    return allowed ? QBB_DELIVER : QBB_DROP_COMMAND;
}

/* A reliable packet that arrived already. Its words are gone, so it cannot be verified again: all that it may do is to
 * have the last acknowledgement repeated, once per retransmission time-out; if more arrived since, as a new one. So that
 * replays cannot drain key by that, packets of which the peer knows that they arrived do not count: it would not resend. */
static enum qbb_verdict duplicate(qbb_link *link, uint64_t number, uint64_t now_ns)
{
    qbb_arrivals *arrivals = &link->arrivals;
    if (number > link->flight.peer_knows && now_ns >= arrivals->repeat_after_ns) {
        arrivals->repeat = 1;
        arrivals->repeat_after_ns = now_ns + link->params.rto_ns;
    }
    return QBB_DROP_DUPLICATE;
}

/* Is it new, and are its key words here and unused? */
static enum qbb_verdict check_fresh(qbb_link *link, opening *o, uint64_t now_ns)
{
    const qbb_header *h = &o->header;
    enum qbb_arrival arrival = QBB_ARRIVAL_NEW;
    uint64_t number = 0;
    if (h->message != 0)
        arrival = qbb_arrivals_classify(&link->arrivals, h->message, &number);
    o->number = arrival == QBB_ARRIVAL_NEW ? number : 0;
    if (arrival == QBB_ARRIVAL_FAR)
        return QBB_DROP_WINDOW;
    o->e_offset = qbb_window_restore(&link->in, h->e_offset);
    o->a_offset = o->e_offset + o->pad_words;
    int available = qbb_window_available(&link->in, o->e_offset, o->pad_words + QBB_TAG_WORDS);
    /* A SKIP may name a packet that did arrive: the peer missed the acknowledgement. It is verified like any other. */
    if (arrival == QBB_ARRIVAL_OLD && !(available && h->command == QBB_COMMAND_SKIP))
        return duplicate(link, number, now_ns);
    if (available)
        return QBB_DELIVER;
    return h->message == 0 && qbb_window_taken(&link->in, o->e_offset) ? QBB_DROP_DUPLICATE : QBB_DROP_WINDOW;
}

static int verify(const qbb_link *link, const opening *o, const uint8_t *packet)
{
    const uint8_t *payload = packet + QBB_HEADER_BYTES, *mask = qbb_keybuf_at(&link->in.buf, o->a_offset);
    uint8_t fixed[QBB_TAG_FIXED_BYTES], tag[QBB_TAG_BYTES];
    qbb_tag_fixed(fixed, link->params.link_id, link->epoch, link->params.master, o->e_offset, o->a_offset, packet);
    qbb_tag(tag, link->in_hash, fixed, payload, o->payload_bytes, mask, QBB_USE_MASK_OPEN);
    int genuine = qbb_equal(tag, payload + o->payload_bytes, QBB_TAG_BYTES);
    /* The tag that a forged packet should have had must not lie about. */
    qbb_wipe(tag, sizeof tag);
    if (genuine)
        QBB_NOTE(QBB_USE_MASK_OPEN, mask, QBB_TAG_BYTES);
    return genuine;
}

/* A reliable packet arrived: an acknowledgement is owed, soon, or now if much has gathered. */
static void owe_acknowledgement(qbb_link *link, uint64_t words, uint64_t now_ns)
{
    qbb_arrivals *arrivals = &link->arrivals;
    uint64_t half_flight = link->params.flight_slots / 2;
    arrivals->pending_packets++;
    arrivals->pending_words += words;
    if (arrivals->due_ns == UINT64_MAX)
        arrivals->due_ns = now_ns + link->params.ack_delay_ns;
    if (arrivals->pending_packets >= (half_flight < 64 ? half_flight : 64)
        || arrivals->pending_words >= link->params.window_words / 2)
        arrivals->due_ns = 0;
}

/* The packet is genuine: count its number, take its acknowledgement and its key words. */
static void accept(qbb_link *link, const opening *o, const uint8_t *packet, uint64_t now_ns, uint8_t *pad)
{
    const uint8_t *preamble = packet + QBB_HEADER_BYTES;
    uint64_t words = o->pad_words + QBB_TAG_WORDS;
    qbb_keybuf_prefetch(&link->in.buf, o->e_offset, words);
    if (o->pad_words != 0) {
        const uint8_t *key = qbb_keybuf_at(&link->in.buf, o->e_offset);
        QBB_NOTE(QBB_USE_PAD_OPEN, key, o->pad_words * 8);
        memcpy(pad, key, qbb_unbounded(o->payload_bytes - o->header.clear));
    }
    qbb_window_take(&link->in, o->e_offset, words);
    qbb_flight_acknowledge(&link->flight, qbb_get32(preamble), qbb_get32(preamble + 4));
    if (o->number != 0)
        qbb_arrivals_add(&link->arrivals, o->number);
    if (o->header.message != 0)
        owe_acknowledgement(link, words, now_ns);
    link->stats.last_verified_ns = now_ns;
}

/* Padded where the packet inside says? A relay of the peer's might otherwise send key in the clear. */
static int padded_rightly(const opening *o, const qbb_delivery *delivery)
{
    if (o->header.channel != QBB_CHANNEL_NETWORK)
        return 1;
    return qbb_network_clear(delivery->payload, delivery->length) == (int)delivery->clear;
}

static enum qbb_verdict receive(qbb_link *link, uint64_t now_ns, const uint8_t *packet, size_t length,
    qbb_delivery *delivery)
{
    opening o = {0};
    enum qbb_verdict verdict = check_header(&o, packet, length);
    if (verdict != QBB_DELIVER)
        return verdict;
    verdict = check_command(&o);
    if (verdict != QBB_DELIVER)
        return verdict;
    if (!link->running)
        return QBB_DROP_NO_EPOCH;
    verdict = check_fresh(link, &o, now_ns);
    if (verdict != QBB_DELIVER)
        return verdict;
    if (!verify(link, &o, packet))
        return QBB_DROP_TAG;

    accept(link, &o, packet, now_ns, delivery->pad);
    if (o.header.command == QBB_COMMAND_ACK || o.header.command == QBB_COMMAND_SKIP)
        return QBB_ABSORBED;
    delivery->channel = o.header.channel;
    delivery->priority = o.header.priority;
    delivery->command = o.header.command;
    delivery->length = (uint32_t)(o.payload_bytes - QBB_PREAMBLE_BYTES);
    delivery->clear = (uint32_t)(o.header.clear - QBB_PREAMBLE_BYTES);
    delivery->payload = packet + QBB_HEADER_BYTES + QBB_PREAMBLE_BYTES;
    if (padded_rightly(&o, delivery))
        return QBB_DELIVER;
    /* Acknowledged all the same, or the peer would send it again and again; but its key is wiped unread. */
    qbb_wipe(delivery->pad, delivery->length - delivery->clear);
    return QBB_DROP_CLEAR;
}

enum qbb_verdict qbb_link_receive(qbb_link *link, uint64_t now_ns, const uint8_t *packet, size_t length,
    qbb_delivery *delivery)
{
    enum qbb_verdict verdict = receive(link, now_ns, packet, length, delivery);
    link->stats.received_packets++;
    link->stats.received_bytes += length;
    link->stats.verdicts[verdict]++;
    return verdict;
}
