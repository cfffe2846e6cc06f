/* qbb_link_receive on one datagram after another. The first byte of each says how it is made:
 *   bit 0  the Length field is made right        bit 2  offsets are moved to where the receiver's words are
 *   bit 1  version, A, and E by Clear            bit 3  the tag is made right, as only the peer can
 * Raw datagrams reach the checks before the tag, those made right what lies behind it. */
#include "bytes.h"
#include "fuzz.h"
#include "link_internal.h"
#include "mirror.h"
#include "tag.h"

#define BUFFER_WORDS 1024

static qbb_link *end;

static void start(void)
{
    static uint8_t *secret, *plain, *out, *in;
    static const qbb_link_params params = {.link_id = 9, .queue_slots = 4, .flight_slots = 64, .window_words = 512,
        .ack_delay_ns = 50, .rto_ns = 250, .rto_max_ns = 4000, .give_up_tries = 3};
    uint8_t halves[2][QBB_SLOT_HALF_BYTES];
    if (secret == NULL) {
        secret = zeroed(qbb_link_secret_bytes(&params));
        plain = zeroed(qbb_link_plain_bytes(&params));
        out = mirrored(BUFFER_WORDS * 8);
        in = mirrored(BUFFER_WORDS * 8);
    } else {
        qbb_link_end(end);
    }
    end = qbb_link_init(&params, secret, plain, out, in, BUFFER_WORDS);
    for (size_t i = 0; i < QBB_SLOT_HALF_BYTES; i++)
        halves[0][i] = (uint8_t)(i * 37 + 11), halves[1][i] = (uint8_t)(i * 59 + 7);
    qbb_link_begin(end, 1, halves[0], halves[1]);
    for (int direction = 0; direction < 2; direction++) {
        uint8_t *place = qbb_link_reserve(end, direction, 900);
        for (size_t i = 0; i < 900 * 8; i++)
            place[i] = (uint8_t)(i * 151 + i / 97);
        qbb_link_commit(end, direction, 900);
    }
    /* Something in flight, so that acknowledgements have something to settle. */
    uint8_t packet[QBB_PACKET_MAX];
    for (int i = 0; i < 40; i++) {
        qbb_link_submit(end, 16, QBB_COMMAND_DATA, 3, 1, halves[0], 8, 4, NULL);
        qbb_link_poll(end, 0, packet);
    }
}

static int make_right(uint8_t how, uint8_t *packet, size_t length)
{
    if (how & 1 && length >= 2)
        qbb_put16(packet, (uint16_t)length);
    if (length < QBB_ACK_BYTES || length > QBB_PACKET_MAX)
        return 0;
    size_t payload_bytes = length - QBB_HEADER_BYTES - QBB_TAG_BYTES, clear = qbb_get16(packet + 2);
    if (how & 2) {
        if (clear < QBB_PREAMBLE_BYTES || clear > payload_bytes)
            clear = QBB_PREAMBLE_BYTES + clear % (payload_bytes - QBB_PREAMBLE_BYTES + 1);
        qbb_put16(packet + 2, (uint16_t)clear);
        packet[8] = (uint8_t)((packet[8] & 0x38) | 0x43 | (clear < payload_bytes ? 0x80 : 0));
        packet[9] = (uint8_t)(1 + packet[9] % 4);
    }
    uint64_t pad_words = clear < payload_bytes ? (payload_bytes - clear + 7) / 8 : 0;
    if (how & 4) {
        uint32_t first = (uint32_t)end->in.buf.floor + qbb_get32(packet + 12) % 2048;
        qbb_put32(packet + 12, first);
        qbb_put32(packet + 16, first + (uint32_t)pad_words);
    }
    if (!(how & 8))
        return 0;
    uint64_t e_offset = qbb_window_restore(&end->in, qbb_get32(packet + 12)), a_offset = e_offset + pad_words;
    if (!qbb_window_available(&end->in, e_offset, pad_words + QBB_TAG_WORDS))
        return 0;
    uint8_t fixed[QBB_TAG_FIXED_BYTES];
    qbb_tag_fixed(fixed, end->params.link_id, 1, 1, e_offset, a_offset, packet); /* our peer is the master's slave */
    qbb_tag(packet + length - QBB_TAG_BYTES, end->in_hash, fixed, packet + QBB_HEADER_BYTES, payload_bytes,
        qbb_keybuf_at(&end->in.buf, a_offset), QBB_USE_MASK_OPEN);
    return 1;
}

static void check_state(void)
{
    const qbb_window *in = &end->in;
    HOLDS(in->buf.floor <= in->buf.loaded && in->buf.loaded - in->buf.floor <= in->buf.size_words);
    HOLDS(in->highest <= in->buf.loaded && in->highest <= in->buf.floor + in->window_words);
    HOLDS(in->taken_words <= in->window_words);
    HOLDS(end->flight.base <= end->flight.next && end->flight.in_flight <= end->flight.next - end->flight.base);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static qbb_delivery delivery;
    input in = {data, size};
    uint64_t now_ns = 0;
    start();
    end->params.master = 1;
    while (in.left != 0) {
        uint8_t how = take_byte(&in);
        size_t length = take_byte(&in) * (how & 16 ? 6u : 1u);
        if (length > in.left)
            length = in.left;
        uint8_t *packet = exact_copy(in.at, length), out[QBB_PACKET_MAX];
        in.at += length;
        in.left -= length;
        now_ns += how >> 5;

        uint64_t floor = end->in.buf.floor, taken = end->in.taken_words, base = end->flight.base;
        uint64_t cumulative = end->arrivals.cumulative, in_flight = end->flight.in_flight;
        int genuine = make_right(how, packet, length);
        enum qbb_verdict verdict = qbb_link_receive(end, now_ns, packet, length, &delivery);
        if (verdict == QBB_DELIVER || verdict == QBB_ABSORBED || verdict == QBB_DROP_CLEAR)
            HOLDS(genuine);
        else /* a drop, or a hello: nothing was consumed */
            HOLDS(floor == end->in.buf.floor && taken == end->in.taken_words && base == end->flight.base
                && cumulative == end->arrivals.cumulative && in_flight == end->flight.in_flight);
        if (verdict == QBB_DELIVER) {
            HOLDS(delivery.clear <= delivery.length && delivery.length <= QBB_PAYLOAD_MAX);
            HOLDS(delivery.payload + delivery.length + QBB_TAG_BYTES == packet + length);
            HOLDS(qbb_link_receive(end, now_ns, packet, length, &delivery) >= QBB_DROP_SHORT);
        }
        check_state();
        if (how & 32)
            qbb_link_poll(end, now_ns, out);
        free(packet);
    }
    return 0;
}
