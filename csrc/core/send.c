/* Which packet leaves next: resends (they cost no key), then SKIPs, then what waits, by priority, then an acknowledgement
 * that nothing else carried. */
#include "link_internal.h"

#include <string.h>

static size_t resend(qbb_link *link, uint64_t now_ns, uint8_t *out)
{
    qbb_flight_slot *slot = qbb_flight_due(&link->flight, now_ns);
    if (slot == NULL)
        return 0;
    qbb_flight_resent(&link->flight, slot, now_ns);
    memcpy(out, slot->packet, slot->length);
    link->stats.resent_packets++;
    return slot->length;
}

static size_t launch(qbb_link *link, uint64_t now_ns, uint8_t *out, qbb_flight_slot *slot, const qbb_outgoing *packet)
{
    slot->first_word = link->out.floor;
    slot->length = (uint16_t)qbb_seal(link, out, packet);
    memcpy(slot->packet, out, slot->length);
    qbb_flight_launch(&link->flight, slot, now_ns);
    return slot->length;
}

static int may_skip(const qbb_link *link)
{
    return qbb_flight_given_up(&link->flight) != NULL
        && qbb_may_seal(link, QBB_PRIORITY_ACK, qbb_span_words(0), 1);
}

static size_t seal_skip(qbb_link *link, uint64_t now_ns, uint8_t *out)
{
    if (!may_skip(link))
        return 0;
    qbb_flight_slot *slot = qbb_flight_given_up(&link->flight);
    uint8_t preamble[QBB_PREAMBLE_BYTES];
    qbb_outgoing skip = {.text = preamble, .command = QBB_COMMAND_SKIP, .priority = QBB_PRIORITY_ACK, .message = (uint32_t)slot->number};
    /* What the packet was spent for did not come about. */
    link->stats.spent_words[slot->pad_cause] -= slot->pad_words;
    link->stats.spent_words[slot->tag_cause] -= QBB_TAG_WORDS;
    link->stats.spent_words[QBB_SPENT_LOST] += slot->pad_words + QBB_TAG_WORDS;
    link->stats.skipped_packets++;
    slot->skip = 1;
    return launch(link, now_ns, out, slot, &skip);
}

static int may_send(const qbb_link *link, const qbb_waiting *waiting)
{
    return waiting != NULL && waiting->is.priority >= link->allow && (!waiting->is.reliable || qbb_flight_room(&link->flight))
        && qbb_may_seal(link, waiting->is.priority, qbb_span_words(waiting->is.length - waiting->is.clear), 0);
}

static size_t seal_waiting(qbb_link *link, uint64_t now_ns, uint8_t *out)
{
    qbb_waiting *waiting = qbb_queue_first(&link->queue);
    if (!may_send(link, waiting))
        return 0;
    qbb_outgoing packet = {
        .channel = waiting->is.channel,
        .command = waiting->is.command,
        .priority = waiting->is.priority,
        .text = waiting->bytes,
        .length = waiting->is.length,
        .clear = waiting->is.clear,
        .pad_a = qbb_waiting_pad(waiting),
    };
    size_t length, padded = packet.length - packet.clear;
    if (waiting->is.reliable) {
        qbb_flight_slot *slot = qbb_flight_claim(&link->flight);
        packet.message = (uint32_t)slot->number;
        slot->told = link->arrivals.cumulative;
        slot->lasting = packet.channel == QBB_CHANNEL_CONTROL;
        slot->key_bytes = packet.channel == QBB_CHANNEL_NETWORK ? (uint16_t)padded : 0;
        slot->pad_words = (uint16_t)((padded + 7) / 8);
        slot->pad_cause = (uint8_t)qbb_pad_cause(packet.channel, packet.priority);
        slot->tag_cause = (uint8_t)qbb_tag_cause(packet.channel, packet.command, packet.priority);
        length = launch(link, now_ns, out, slot, &packet);
    } else {
        length = qbb_seal(link, out, &packet);
    }
    qbb_queue_drop_first(&link->queue);
    return length;
}

/* Nothing changed since the last pure acknowledgement: it can go out again as it is. */
static int last_ack_still_says_all(const qbb_arrivals *arrivals)
{
    return arrivals->last_length != 0 && arrivals->last_cumulative == (uint32_t)arrivals->cumulative
        && arrivals->last_bitmap == qbb_arrivals_bitmap(arrivals);
}

/* When an acknowledgement of its own should leave; a duplicate makes it at once. */
static uint64_t ack_due_ns(const qbb_link *link)
{
    const qbb_arrivals *arrivals = &link->arrivals;
    uint64_t due = arrivals->repeat ? 0 : arrivals->due_ns;
    if (arrivals->repeat && last_ack_still_says_all(arrivals))
        return due;
    return qbb_may_seal(link, QBB_PRIORITY_ACK, qbb_span_words(0), 1) ? due : UINT64_MAX;
}

static size_t acknowledge(qbb_link *link, uint64_t now_ns, uint8_t *out)
{
    qbb_arrivals *arrivals = &link->arrivals;
    if (ack_due_ns(link) > now_ns)
        return 0;
    if (!arrivals->repeat || !last_ack_still_says_all(arrivals)) {
        uint8_t preamble[QBB_PREAMBLE_BYTES];
        qbb_outgoing ack = {.text = preamble, .command = QBB_COMMAND_ACK, .priority = QBB_PRIORITY_ACK};
        arrivals->last_cumulative = (uint32_t)arrivals->cumulative;
        arrivals->last_bitmap = qbb_arrivals_bitmap(arrivals);
        arrivals->last_length = qbb_seal(link, arrivals->last, &ack);
    }
    arrivals->repeat = 0;
    memcpy(out, arrivals->last, arrivals->last_length);
    return arrivals->last_length;
}

size_t qbb_link_poll(qbb_link *link, uint64_t now_ns, uint8_t *out)
{
    if (!link->running || link->allow >= QBB_ALLOW_NONE)
        return 0;
    size_t length = resend(link, now_ns, out);
    if (length == 0)
        length = seal_skip(link, now_ns, out);
    if (length == 0)
        length = seal_waiting(link, now_ns, out);
    if (length == 0)
        length = acknowledge(link, now_ns, out);
    if (length != 0) {
        link->stats.sent_packets++;
        link->stats.sent_bytes += length;
    }
    return length;
}

uint64_t qbb_link_deadline(const qbb_link *link)
{
    if (!link->running || link->allow >= QBB_ALLOW_NONE)
        return UINT64_MAX;
    if (may_skip(link) || may_send(link, qbb_queue_first(&link->queue)))
        return 0;
    uint64_t flight = qbb_flight_deadline(&link->flight), ack = ack_due_ns(link);
    return flight < ack ? flight : ack;
}
