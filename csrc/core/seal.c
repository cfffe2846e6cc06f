#include "link_internal.h"

#include "tag.h"

enum qbb_cause qbb_tag_cause(uint16_t channel, uint8_t command, uint8_t priority)
{
    if (command == QBB_COMMAND_ACK)
        return QBB_SPENT_TAG_ACK;
    if (channel == QBB_CHANNEL_CONTROL && command == QBB_COMMAND_CONTROL)
        return priority == 7 ? QBB_SPENT_STORE : QBB_SPENT_TAG_CONTROL;
    if (channel == QBB_CHANNEL_CONTROL)
        return QBB_SPENT_TAG_CONTROL;
    return channel == QBB_CHANNEL_ROUTING ? QBB_SPENT_TAG_ROUTING : QBB_SPENT_TAG_DATA;
}

enum qbb_cause qbb_pad_cause(uint16_t channel, uint8_t priority)
{
    return channel == QBB_CHANNEL_CONTROL && priority == 7 ? QBB_SPENT_STORE : QBB_SPENT_PAD;
}

int qbb_may_seal(const qbb_link *link, unsigned priority, uint64_t words, int urgent)
{
    uint64_t next = link->out.floor, available = link->out.loaded - next;
    /* Acknowledgements and SKIPs leave the last words to control: a link without open chunks needs them to open the next,
     * and the peer's resends, which wait for the acknowledgement, cost it nothing. */
    uint64_t reserve = urgent || priority < QBB_PRIORITY_CONTROL ? link->params.reserve_words : 0;
    uint64_t window = link->params.window_words;
    uint64_t ahead = next + words - qbb_flight_oldest_word(&link->flight, next);
    return words <= available && available - words >= reserve && ahead <= (urgent ? window : window - window / 8);
}

size_t qbb_seal(qbb_link *link, uint8_t *out, const qbb_outgoing *packet)
{
    size_t padded = packet->length - packet->clear, payload_bytes = QBB_PREAMBLE_BYTES + packet->length;
    uint64_t e_offset = link->out.floor, a_offset = e_offset + (padded + 7) / 8;
    qbb_header header = {
        .length = (uint16_t)(QBB_HEADER_BYTES + payload_bytes + QBB_TAG_BYTES),
        .clear = (uint16_t)(QBB_PREAMBLE_BYTES + packet->clear),
        .message = packet->message,
        .encrypted = padded != 0,
        .authenticated = 1,
        .priority = packet->priority,
        .version = QBB_Q3P_VERSION,
        .command = packet->command,
        .channel = packet->channel,
        .e_offset = (uint32_t)e_offset,
        .a_offset = (uint32_t)a_offset,
    };
    uint8_t *payload = out + QBB_HEADER_BYTES, fixed[QBB_TAG_FIXED_BYTES];

    qbb_arrivals_write(&link->arrivals, packet->text);
    qbb_keybuf_prefetch(&link->out, e_offset, a_offset + QBB_TAG_WORDS - e_offset);
    qbb_header_write(out, &header);
    qbb_tag_fixed(fixed, link->params.link_id, link->epoch, !link->params.master, e_offset, a_offset, out);
    qbb_pad_and_tag(payload, payload + payload_bytes, link->out_hash, fixed, packet->text, payload_bytes, header.clear,
        packet->pad_a, qbb_keybuf_at(&link->out, e_offset), qbb_keybuf_at(&link->out, a_offset));

    qbb_keybuf_drop_below(&link->out, a_offset + QBB_TAG_WORDS);
    if (padded != 0)
        link->stats.spent_words[qbb_pad_cause(packet->channel, packet->priority)] += a_offset - e_offset;
    link->stats.spent_words[qbb_tag_cause(packet->channel, packet->command, packet->priority)] += QBB_TAG_WORDS;
    return header.length;
}
