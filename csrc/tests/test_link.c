/* The rules of the link: what a packet looks like, what is refused, what a drop leaves behind, and what an epoch's end
 * does. test_link_repeat.c has the error control, test_link_pipe.c a channel that does everything wrong. */
#include "bytes.h"
#include "ends.h"

static uint8_t packet[QBB_PACKET_MAX];

/* A packet's fields on the wire, and what arrives. */
static void one_packet(void)
{
    static const uint8_t expected[QBB_HEADER_BYTES] = {0, 20 + 8 + 13 + 16, 0, 8 + 4, 0, 0, 0, 1, 0x80 | 0x40 | 3 << 3 | 3,
        QBB_COMMAND_DATA, 0, 16, 0, 0, 0, 0, 0, 0, 0, 2};
    fresh(usual_params());
    CHECK(submit(&left, "clear and key", 13, 9, 1) == 0);
    CHECK(qbb_link_deadline(left.link) == 0);
    size_t length = qbb_link_poll(left.link, 5, packet);
    CHECK(length == 57 && memcmp(packet, expected, sizeof expected) == 0);
    CHECK(all_zero(packet + 20, 8)); /* nothing to acknowledge yet */
    CHECK(memcmp(packet + 28, "clea", 4) == 0 && memcmp(packet + 32, "r and key", 9) != 0);
    CHECK(all_zero(left.out, 4 * 8) && !all_zero(left.out + 4 * 8, 8)); /* the four words are gone */
    CHECK(receive(&right, 6, packet, length) == QBB_DELIVER);
    CHECK(delivery.channel == 16 && delivery.priority == 3 && delivery.command == QBB_COMMAND_DATA);
    CHECK(delivery.length == 13 && delivery.clear == 4 && memcmp(opened(), "clear and key", 13) == 0);
    CHECK(all_zero(right.in, 4 * 8) && !all_zero(right.in + 4 * 8, 8));
    qbb_link_stats stats = stats_of(&left);
    CHECK(stats.spent_words[QBB_SPENT_PAD] == 2 && stats.spent_words[QBB_SPENT_TAG_DATA] == 2);
    CHECK(stats.in_flight == 1 && stats.out_settled == 0 && stats.out_words == QBB_STARTER_WORDS - 4);
    CHECK(stats_of(&right).in_words == QBB_STARTER_WORDS - 4 && stats_of(&right).last_verified_ns == 6);
}

/* A relay's hop: in XOR pad_A, sealed with pad_A at hand, arrives as the text. */
static void relayed(void)
{
    uint8_t text[100], split[100];
    fresh(usual_params());
    load(&left, &right, 64);
    random_bytes(text, sizeof text);
    random_bytes(split, sizeof split);
    uint8_t shares[100];
    memcpy(shares, text, 40);
    qbb_pad(shares + 40, text + 40, split, 60);
    CHECK(qbb_link_submit(left.link, 16, QBB_COMMAND_DATA, 3, 1, shares, 100, 40, split) == 0);
    size_t length = qbb_link_poll(left.link, 0, packet);
    CHECK(receive(&right, 0, packet, length) == QBB_DELIVER && memcmp(opened(), text, 100) == 0);
}

/* All that a datagram may change is a counter: everything else is compared, at every byte. */
static struct { uint8_t *bytes; size_t length; } snapshot;

static void copy_state(const end *e, uint8_t *to)
{
    qbb_link_stats stats = e->link->stats;
    memset(&e->link->stats, 0, sizeof stats);
    memcpy(to, e->secret, e->secret_bytes);
    memcpy(to + e->secret_bytes, e->plain, e->plain_bytes);
    memcpy(to + e->secret_bytes + e->plain_bytes, e->out, BUFFER_WORDS * 8);
    memcpy(to + e->secret_bytes + e->plain_bytes + BUFFER_WORDS * 8, e->in, BUFFER_WORDS * 8);
    e->link->stats = stats;
}

static void take_snapshot(const end *e)
{
    snapshot.length = e->secret_bytes + e->plain_bytes + 2 * BUFFER_WORDS * 8;
    free(snapshot.bytes);
    snapshot.bytes = zeroed(snapshot.length);
    copy_state(e, snapshot.bytes);
}

static int unchanged(const end *e)
{
    static uint8_t *now;
    free(now);
    now = zeroed(snapshot.length);
    copy_state(e, now);
    return memcmp(now, snapshot.bytes, snapshot.length) == 0;
}

/* Each bit of a packet flipped, each length cut; then it is still accepted, once. */
static void forged(void)
{
    fresh(usual_params());
    load(&left, &right, 1024);
    submit(&left, "0123456789abcdef0123456789", 26, 16, 1);
    size_t length = qbb_link_poll(left.link, 0, packet);
    take_snapshot(&right);
    for (size_t bit = 0; bit < length * 8; bit++) {
        packet[bit / 8] ^= (uint8_t)(1 << bit % 8);
        enum qbb_verdict verdict = receive(&right, 1, packet, length);
        CHECK(verdict >= QBB_DROP_SHORT);
        packet[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    CHECK(unchanged(&right));
    CHECK(stats_of(&right).verdicts[QBB_DROP_TAG] > 26 * 8);
    for (size_t cut = 0; cut < length; cut++) {
        uint8_t *exact = malloc(cut + 1); /* so that the sanitizer sees a byte too many */
        memcpy(exact, packet, cut);
        CHECK(receive(&right, 1, exact, cut) >= QBB_DROP_SHORT);
        if (cut >= 2) {
            exact[0] = (uint8_t)(cut >> 8);
            exact[1] = (uint8_t)cut;
        }
        CHECK(receive(&right, 1, exact, cut) >= QBB_DROP_SHORT);
        free(exact);
    }
    CHECK(unchanged(&right));
    CHECK(receive(&right, 2, packet, length) == QBB_DELIVER && !unchanged(&right));
    CHECK(receive(&right, 2, packet, length) == QBB_DROP_DUPLICATE);
}

/* Forged packets whose offsets lie at the window's end neither move it nor take words; those of another direction, link
 * or epoch do not verify. */
static void forged_offsets(void)
{
    fresh(usual_params());
    load(&left, &right, 1900);
    submit(&left, "x", 1, 0, 1);
    size_t length = qbb_link_poll(left.link, 0, packet);
    take_snapshot(&right);
    for (uint32_t offset = 0; offset < 2100; offset++) {
        uint8_t forgery[QBB_PACKET_MAX];
        memcpy(forgery, packet, length);
        qbb_put32(forgery + 12, offset);
        qbb_put32(forgery + 16, offset);
        qbb_put32(forgery + 4, 2 + offset);
        enum qbb_verdict verdict = receive(&right, 1, forgery, length);
        CHECK(verdict == (offset + 2 > QBB_STARTER_WORDS + 1900 ? QBB_DROP_WINDOW : QBB_DROP_TAG));
    }
    qbb_put32(packet + 4, QBB_NUMBERS_AHEAD + 1);
    CHECK(receive(&right, 1, packet, length) == QBB_DROP_WINDOW);
    qbb_put32(packet + 4, 1);
    CHECK(unchanged(&right));
    CHECK(receive(&left, 1, packet, length) == QBB_DROP_TAG); /* reflected */

    /* The same key under another epoch number, another link. */
    for (int other = 0; other < 2; other++) {
        uint8_t halves[2][QBB_SLOT_HALF_BYTES];
        random_bytes(halves[0], sizeof halves);
        qbb_link_params params = usual_params();
        end_new(&left, params, 1);
        params.link_id += (uint64_t)other;
        end_new(&right, params, 0);
        qbb_link_begin(left.link, 1, halves[0], halves[1]);
        qbb_link_begin(right.link, other ? 1 : 2, halves[1], halves[0]);
        submit(&left, "x", 1, 0, 1);
        length = qbb_link_poll(left.link, 0, packet);
        CHECK(receive(&right, 1, packet, length) == QBB_DROP_TAG);
    }
}

static void refusals(void)
{
    uint8_t payload[QBB_PAYLOAD_MAX + 1] = {0};
    qbb_link_params params = usual_params();
    fresh(params);
    CHECK(qbb_link_submit(left.link, 16, QBB_COMMAND_DATA, 3, 1, payload, QBB_PAYLOAD_MAX + 1, 0, NULL) == -QBB_DROP_LENGTH);
    CHECK(qbb_link_submit(left.link, 16, QBB_COMMAND_DATA, 3, 1, payload, 10, 11, NULL) == -QBB_DROP_LENGTH);
    CHECK(qbb_link_submit(left.link, 16, QBB_COMMAND_DATA, 8, 1, payload, 10, 10, NULL) == -QBB_DROP_LENGTH);
    CHECK(qbb_link_submit(left.link, 16, QBB_COMMAND_CONTROL, 3, 1, payload, 10, 10, NULL) == -QBB_DROP_COMMAND);
    CHECK(qbb_link_submit(left.link, 0, QBB_COMMAND_DATA, 3, 1, payload, 10, 10, NULL) == -QBB_DROP_COMMAND);
    CHECK(qbb_link_submit(left.link, 0, QBB_COMMAND_SKIP, 3, 1, payload, 0, 0, NULL) == -QBB_DROP_COMMAND);
    CHECK(qbb_link_submit(left.link, 1, QBB_COMMAND_DATA, 3, 1, payload, 40, 40, NULL) == -QBB_DROP_CLEAR);
    /* A quarter of the queue is control's. */
    for (uint32_t i = 0; i < params.queue_slots - params.queue_slots / 4; i++)
        CHECK(submit(&left, payload, QBB_PAYLOAD_MAX, QBB_PAYLOAD_MAX, 1) == 0);
    CHECK(submit(&left, payload, 1, 0, 1) == -QBB_DROP_QUEUE_FULL);
    for (uint32_t i = 0; i < params.queue_slots / 4; i++)
        CHECK(qbb_link_submit(left.link, 0, QBB_COMMAND_CONTROL, 6, 1, payload, 10, 10, NULL) == 0);
    CHECK(qbb_link_submit(left.link, 0, QBB_COMMAND_CONTROL, 7, 1, payload, 10, 10, NULL) == -QBB_DROP_QUEUE_FULL);
    qbb_link_end(left.link);
    CHECK(submit(&left, payload, 1, 0, 1) == -QBB_DROP_NO_EPOCH);
    CHECK(stats_of(&left).verdicts[QBB_DROP_QUEUE_EPOCH] == params.queue_slots);
    CHECK(stats_of(&left).verdicts[QBB_DROP_COMMAND] == 3 && stats_of(&left).verdicts[QBB_DROP_LENGTH] == 3);

    params.flight_slots = 48;
    CHECK(qbb_link_secret_bytes(&params) == 0 && qbb_link_plain_bytes(&params) == 0);
    params = usual_params();
    params.window_words = 2 * BUFFER_WORDS;
    CHECK(qbb_link_init(&params, left.secret, left.plain, left.out, left.in, BUFFER_WORDS) == NULL);
    params = usual_params();
    CHECK(qbb_link_init(&params, left.secret, left.plain, left.out, left.in, BUFFER_WORDS - 1) == NULL);
}

/* A KEY segment of one 16-byte key. */
static size_t key_segment(uint8_t *p)
{
    memset(p, 0, 76);
    p[0] = 0x45, p[3] = 76, p[9] = 253, p[32] = 16, p[37] = 40, p[41] = 1, p[43] = 16;
    memset(p + 60, 0x77, 16);
    return 76;
}

/* Padded from the end of the key IDs on, not a byte later or earlier: refused here, an alarm there. */
static void key_segments(void)
{
    uint8_t p[100];
    fresh(usual_params());
    load(&left, &right, 64);
    size_t length = key_segment(p);
    for (size_t clear = 0; clear <= length; clear++)
        CHECK(qbb_link_submit(left.link, 1, QBB_COMMAND_DATA, 3, 1, p, length, clear, NULL)
            == (clear == 60 ? 0 : -QBB_DROP_CLEAR));
    size_t sealed = qbb_link_poll(left.link, 0, packet);
    CHECK(receive(&right, 0, packet, sealed) == QBB_DELIVER && memcmp(opened(), p, length) == 0);
    /* A peer that is broken sends the key ID's end padded, or half the key clear: its tag is right. */
    for (uint16_t clear = 56; clear <= 68; clear += 12) {
        qbb_waiting_fields fields = {.channel = 1, .command = QBB_COMMAND_DATA, .priority = 3, .reliable = 1, .length = 76,
            .clear = clear};
        CHECK(qbb_queue_put(&left.link->queue, &fields, p, NULL));
        sealed = qbb_link_poll(left.link, 0, packet);
        CHECK(receive(&right, 0, packet, sealed) == QBB_DROP_CLEAR);
        CHECK(all_zero(delivery.pad, 20));
        CHECK(receive(&right, 0, packet, sealed) == QBB_DROP_DUPLICATE); /* it is acknowledged, not sent for ever */
    }
}

/* After the end of an epoch no byte of key or text is left, and nothing of it leaves or is accepted. */
static void epoch_ends(void)
{
    uint8_t payload[600];
    fresh(usual_params());
    for (int restart = 0; restart < 2; restart++) {
        load(&left, &right, 1000);
        memset(payload, 0xee, sizeof payload);
        for (int i = 0; i < 20; i++)
            submit(&left, payload, sizeof payload, 300, 1);
        size_t length = 0;
        for (int i = 0; i < 10; i++) {
            length = qbb_link_poll(left.link, 0, packet);
            receive(&right, 0, packet, length);
        }
        length = qbb_link_poll(left.link, 0, packet);
        memset(qbb_link_reserve(left.link, QBB_OUT, 100), 0xdd, 800); /* never committed */
        if (restart) {
            begin(2);
            qbb_link_commit(left.link, QBB_OUT, 100); /* too late: it must not count */
            CHECK(stats_of(&left).out_loaded == QBB_STARTER_WORDS);
            CHECK(all_zero(left.out + QBB_STARTER_WORDS * 8, (BUFFER_WORDS - QBB_STARTER_WORDS) * 8));
        } else {
            qbb_link_end(left.link);
            qbb_link_end(right.link);
            CHECK(!qbb_link_running(left.link) && qbb_link_reserve(left.link, QBB_OUT, 1) == NULL);
            CHECK(all_zero(left.out, BUFFER_WORDS * 16) && all_zero(right.in, BUFFER_WORDS * 16));
            CHECK(all_zero(left.secret, 2 * sizeof(qbb_hash_key)) && all_zero(right.secret, 2 * sizeof(qbb_hash_key)));
        }
        for (uint32_t i = 0; i < 32; i++)
            CHECK(all_zero(left.link->queue.slots[i].bytes, sizeof left.link->queue.slots[i].bytes));
        CHECK(qbb_link_poll(left.link, 10000 * MS, packet + 700) == 0 && qbb_link_deadline(left.link) == UINT64_MAX);
        CHECK(receive(&right, 0, packet, length) == (restart ? QBB_DROP_WINDOW : QBB_DROP_NO_EPOCH));
        CHECK(stats_of(&left).in_flight == 0 && stats_of(&left).queued == 0);
        if (!restart)
            begin(2);
        /* The new epoch counts from the start: word 0 and number 1, both ways. */
        CHECK(submit(&left, "new", 3, 3, 1) == 0 && (length = qbb_link_poll(left.link, 0, packet)) != 0);
        CHECK(qbb_get32(packet + 4) == 1 && qbb_get32(packet + 12) == 0);
        CHECK(receive(&right, 0, packet, length) == QBB_DELIVER && memcmp(opened(), "new", 3) == 0);
    }
}

/* The reserve is for priorities 6 and 7; qbb_link_allow closes priorities; a high one goes first. */
static void who_may_send(void)
{
    qbb_link_params params = usual_params();
    params.reserve_words = QBB_STARTER_WORDS;
    fresh(params);
    CHECK(submit(&left, "x", 1, 0, 1) == 0 && qbb_link_poll(left.link, 0, packet) == 0);
    CHECK(qbb_link_deadline(left.link) == UINT64_MAX);
    /* An acknowledgement leaves the reserve alone as well: the peer's resends cost it nothing. */
    CHECK(qbb_link_submit(right.link, 0, QBB_COMMAND_CONTROL, 6, 1, (const uint8_t *)"z", 1, 1, NULL) == 0);
    CHECK(receive(&left, 0, packet, qbb_link_poll(right.link, 0, packet)) == QBB_DELIVER);
    CHECK(qbb_link_poll(left.link, 1000 * MS, packet) == 0 && qbb_link_deadline(left.link) == UINT64_MAX);
    CHECK(qbb_link_submit(left.link, 0, QBB_COMMAND_CONTROL, 6, 1, (const uint8_t *)"y", 1, 1, NULL) == 0);
    CHECK(qbb_link_poll(left.link, 0, packet) != 0 && packet[28] == 'y');
    load(&left, &right, 3);
    CHECK(qbb_link_poll(left.link, 0, packet) == 0);
    load(&left, &right, 1);
    CHECK(qbb_link_poll(left.link, 0, packet) != 0 && packet[28] == 'x');

    load(&left, &right, 100);
    for (uint8_t priority = 0; priority < 8; priority++)
        CHECK(qbb_link_submit(left.link, 0, QBB_COMMAND_CONTROL, priority, 0, &priority, 1, 1, NULL) == 0);
    static const uint8_t allowed[] = {8, 7, 6, 0};
    int next = 7;
    for (size_t i = 0; i < sizeof allowed; i++) {
        qbb_link_allow(left.link, allowed[i]);
        for (; next >= allowed[i]; next--)
            CHECK(qbb_link_poll(left.link, 0, packet) != 0 && packet[28] == next);
        CHECK(qbb_link_poll(left.link, 0, packet) == 0 && qbb_link_deadline(left.link) != 0);
    }
    CHECK(stats_of(&left).spent_words[QBB_SPENT_STORE] == 2 && stats_of(&left).spent_words[QBB_SPENT_TAG_CONTROL] == 16);
}

static void hello(void)
{
    uint8_t h[60] = {0, 60, 0, 40, 0, 0, 0, 0, 0x03, QBB_COMMAND_HELLO};
    fresh(usual_params());
    take_snapshot(&right);
    CHECK(receive(&right, 0, h, 60) == QBB_HELLO);
    h[8] = 0x83;
    CHECK(receive(&right, 0, h, 60) == QBB_DROP_FLAGS);
    h[8] = 0x43, h[3] = 24;
    CHECK(receive(&right, 0, h, 60) == QBB_DROP_COMMAND);
    h[8] = 0x03;
    h[9] = QBB_COMMAND_DATA;
    CHECK(receive(&right, 0, h, 60) == QBB_DROP_COMMAND);
    h[8] = 0x02;
    CHECK(receive(&right, 0, h, 60) == QBB_DROP_VERSION);
    CHECK(unchanged(&right));
    qbb_link_end(right.link);
    h[8] = 0x03, h[9] = QBB_COMMAND_HELLO;
    CHECK(receive(&right, 0, h, 60) == QBB_HELLO);
}

int main(void)
{
    one_packet();
    relayed();
    forged();
    forged_offsets();
    refusals();
    key_segments();
    epoch_ends();
    who_may_send();
    hello();
    return 0;
}
