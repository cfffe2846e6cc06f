/* Error control of the link: acknowledgements and what they cost, duplicates, giving up, how far a sender may run ahead,
 * and streams beyond 32 bits. */
#include "bytes.h"
#include "ends.h"

static uint8_t packet[QBB_PACKET_MAX], kept[QBB_PACKET_MAX], ack[QBB_PACKET_MAX];

static size_t send_one(uint64_t now_ns)
{
    CHECK(submit(&left, "12345678", 8, 8, 1) == 0);
    size_t length = qbb_link_poll(left.link, now_ns, packet);
    CHECK(length != 0);
    return length;
}

/* A lone acknowledgement after ack_delay, for all that arrived until then; it is not acknowledged itself. */
static void lone_acknowledgement(void)
{
    fresh(usual_params());
    load(&left, &right, 256);
    for (int i = 0; i < 3; i++)
        CHECK(receive(&right, 10 * MS * (uint64_t)i, packet, send_one(0)) == QBB_DELIVER);
    CHECK(qbb_link_deadline(right.link) == 50 * MS && qbb_link_poll(right.link, 50 * MS - 1, ack) == 0);
    CHECK(qbb_link_poll(right.link, 50 * MS, ack) == 44 && qbb_get32(ack + 20) == 3);
    CHECK(qbb_link_deadline(right.link) == UINT64_MAX);
    CHECK(receive(&left, 50 * MS, ack, 44) == QBB_ABSORBED && stats_of(&left).in_flight == 0);
    CHECK(qbb_link_deadline(left.link) == UINT64_MAX && stats_of(&left).out_settled == 9);
    CHECK(stats_of(&right).spent_words[QBB_SPENT_TAG_ACK] == 2);
    CHECK(receive(&left, 51 * MS, ack, 44) == QBB_DROP_DUPLICATE);

    /* A packet of its own carries it for nothing. */
    CHECK(receive(&right, 60 * MS, packet, send_one(60 * MS)) == QBB_DELIVER);
    submit(&right, "reply", 5, 0, 0);
    size_t length = qbb_link_poll(right.link, 61 * MS, ack);
    CHECK(length > 44 && qbb_link_deadline(right.link) == UINT64_MAX);
    CHECK(receive(&left, 61 * MS, ack, length) == QBB_DELIVER && stats_of(&left).in_flight == 0);
    CHECK(qbb_link_poll(right.link, 500 * MS, ack) == 0); /* and the reply, unreliable, is not repeated */
}

/* At once when half the flight window, or half the window's words, arrived. */
static void full_acknowledgement(void)
{
    fresh(usual_params());
    load(&left, &right, 1500);
    for (int i = 1; i <= 32; i++) {
        CHECK(receive(&right, 0, packet, send_one(0)) == QBB_DELIVER);
        CHECK(qbb_link_deadline(right.link) == (i < 32 ? 50 * MS : 0));
    }
    fresh(usual_params());
    load(&left, &right, 1500);
    static uint8_t payload[QBB_PAYLOAD_MAX];
    for (int i = 1; i <= 3; i++) {
        submit(&left, payload, sizeof payload, sizeof payload, 1);
        CHECK(receive(&right, 0, packet, qbb_link_poll(left.link, 0, packet)) == QBB_DELIVER);
        CHECK(qbb_link_deadline(right.link) == (i < 3 ? 50 * MS : 0));
    }
}

/* The acknowledgement was lost. The resend is the identical packet; it triggers the identical acknowledgement, once per
 * time-out, and no key is spent on either. */
static void duplicates(void)
{
    fresh(usual_params());
    load(&left, &right, 64);
    load(&right, &left, 64);
    size_t length = send_one(0);
    memcpy(kept, packet, length);
    CHECK(receive(&right, 0, packet, length) == QBB_DELIVER);
    uint8_t first_ack[44];
    CHECK(qbb_link_poll(right.link, 50 * MS, first_ack) == 44);
    qbb_link_stats before_left = stats_of(&left), before_right = stats_of(&right);

    uint64_t now = 250 * MS;
    for (int i = 0; i < 5; i++) {
        CHECK(qbb_link_deadline(left.link) == now);
        CHECK(qbb_link_poll(left.link, now, packet) == length && memcmp(packet, kept, length) == 0);
        CHECK(receive(&right, now, packet, length) == QBB_DROP_DUPLICATE);
        CHECK(qbb_link_deadline(right.link) == 0);
        CHECK(qbb_link_poll(right.link, now, ack) == 44 && memcmp(ack, first_ack, 44) == 0);
        for (int again = 0; again < 3; again++) { /* a flood of replays within one time-out */
            CHECK(receive(&right, now + 249 * MS, kept, length) == QBB_DROP_DUPLICATE);
            CHECK(qbb_link_poll(right.link, now + 249 * MS, ack) == 0);
        }
        now = qbb_link_deadline(left.link);
    }
    qbb_link_stats after_left = stats_of(&left), after_right = stats_of(&right);
    CHECK(memcmp(before_left.spent_words, after_left.spent_words, sizeof before_left.spent_words) == 0);
    CHECK(memcmp(before_right.spent_words, after_right.spent_words, sizeof before_right.spent_words) == 0);
    CHECK(before_left.out_words == after_left.out_words && before_right.out_words == after_right.out_words);

    /* Once more has arrived, the next duplicate brings a new one. */
    length = send_one(now - MS);
    CHECK(receive(&right, now, packet, length) == QBB_DELIVER);
    CHECK(receive(&right, now + 1000 * MS, kept, length) == QBB_DROP_DUPLICATE);
    CHECK(qbb_link_poll(right.link, now + 1000 * MS, ack) == 44 && memcmp(ack, first_ack, 44) != 0);
    CHECK(receive(&left, now + 1000 * MS, ack, 44) == QBB_ABSORBED && stats_of(&left).in_flight == 0);
}

/* Replays of packets of which the peer knows that they arrived are answered by nothing: else they would drain key. */
static void replays(void)
{
    fresh(usual_params());
    load(&left, &right, 64);
    load(&right, &left, 64);
    size_t length = send_one(0);
    memcpy(kept, packet, length);
    CHECK(receive(&right, 0, packet, length) == QBB_DELIVER);
    submit(&right, "reply", 5, 0, 1); /* reliable: it tells of the arrival */
    size_t reply = qbb_link_poll(right.link, 0, ack);
    CHECK(receive(&right, 1000 * MS, kept, length) == QBB_DROP_DUPLICATE); /* lost, as far as we know */
    CHECK(qbb_link_poll(right.link, 1000 * MS, packet) == reply && qbb_link_poll(right.link, 1000 * MS, packet) == 44);
    CHECK(receive(&left, 1000 * MS, ack, reply) == QBB_DELIVER && stats_of(&left).in_flight == 0);
    CHECK(receive(&right, 1100 * MS, packet, send_one(1100 * MS)) == QBB_DELIVER); /* acknowledges the reply */
    CHECK(stats_of(&right).in_flight == 0 && qbb_link_poll(right.link, 1150 * MS, ack) == 44);
    CHECK(receive(&right, 2000 * MS, kept, length) == QBB_DROP_DUPLICATE && qbb_link_poll(right.link, 2000 * MS, packet) == 0);
    CHECK(qbb_link_deadline(right.link) == UINT64_MAX);
}

/* Sends one packet into the void until it is given up; the SKIP is left in `packet`. */
static size_t give_up_one(uint64_t *now_ns)
{
    uint32_t tries = usual_params().give_up_tries;
    size_t length = send_one(*now_ns);
    memcpy(kept, packet, length);
    for (uint32_t i = 1; i < tries; i++) {
        *now_ns = qbb_link_deadline(left.link);
        CHECK(qbb_link_poll(left.link, *now_ns, packet) == length && memcmp(packet, kept, length) == 0);
    }
    *now_ns = qbb_link_deadline(left.link);
    CHECK(qbb_link_poll(left.link, *now_ns, packet) == 44 && packet[9] == QBB_COMMAND_SKIP);
    return length;
}

static void skips(void)
{
    fresh(usual_params());
    load(&left, &right, 64);
    uint64_t now = 0;
    size_t length = give_up_one(&now);
    qbb_link_stats stats = stats_of(&left);
    CHECK(stats.skipped_packets == 1 && stats.spent_words[QBB_SPENT_LOST] == 3 && stats.spent_words[QBB_SPENT_PAD] == 0);
    CHECK(stats.spent_words[QBB_SPENT_TAG_DATA] == 0 && stats.spent_words[QBB_SPENT_TAG_CONTROL] == 2);
    CHECK(stats.out_settled == 3 && qbb_get32(packet + 4) == 1);
    /* The skipped one comes late after all: its number counts as arrived. */
    CHECK(receive(&right, now, packet, 44) == QBB_ABSORBED);
    CHECK(receive(&right, now, kept, length) == QBB_DROP_DUPLICATE);
    CHECK(receive(&right, now, packet, 44) == QBB_DROP_DUPLICATE);
    CHECK(qbb_link_poll(right.link, now + 50 * MS, ack) == 44 && qbb_get32(ack + 20) == 1);
    CHECK(receive(&left, now, ack, 44) == QBB_ABSORBED && stats_of(&left).in_flight == 0);
    CHECK(stats_of(&left).delivered_key_bytes == 0);
    CHECK(receive(&right, now, packet, send_one(now)) == QBB_DELIVER);

    /* A SKIP of a packet that had arrived, when its acknowledgements were lost: once delivered, acknowledged again. */
    fresh(usual_params());
    load(&left, &right, 64);
    now = 0;
    length = give_up_one(&now);
    CHECK(receive(&right, 0, kept, length) == QBB_DELIVER);
    CHECK(qbb_link_poll(right.link, 50 * MS, ack) == 44);
    CHECK(receive(&right, now, packet, 44) == QBB_ABSORBED);
    CHECK(qbb_link_poll(right.link, now + 50 * MS, ack) == 44);
    CHECK(receive(&left, now, ack, 44) == QBB_ABSORBED && stats_of(&left).in_flight == 0);
    CHECK(right.link->arrivals.cumulative == 1 && qbb_arrivals_bitmap(&right.link->arrivals) == 0);
}

/* The link's own packets (CONFIRM, records) are resent for as long as it takes, word for word. */
static void control_lasts(void)
{
    fresh(usual_params());
    CHECK(qbb_link_submit(left.link, QBB_CHANNEL_CONTROL, QBB_COMMAND_CONTROL, 7, 1, (const uint8_t *)"confirm", 7, 7, NULL) == 0);
    size_t length = qbb_link_poll(left.link, 0, kept);
    uint64_t now = 0;
    for (uint32_t i = 0; i < 10 * usual_params().give_up_tries; i++) {
        now = qbb_link_deadline(left.link);
        CHECK(qbb_link_poll(left.link, now, packet) == length && memcmp(packet, kept, length) == 0);
    }
    CHECK(stats_of(&left).skipped_packets == 0 && receive(&right, now, packet, length) == QBB_DELIVER);
}

/* A SKIP that finds no key waits for it. */
static void skip_without_key(void)
{
    fresh(usual_params());
    uint32_t tries = usual_params().give_up_tries;
    uint8_t rest[64] = {0};
    send_one(0); /* 3 words */
    submit(&left, rest, 64, 64, 0);
    CHECK(qbb_link_poll(left.link, 0, packet) != 0 && stats_of(&left).out_words == 1);
    for (uint32_t i = 1; i < tries; i++)
        CHECK(qbb_link_poll(left.link, qbb_link_deadline(left.link), packet) != 0);
    uint64_t now = qbb_link_deadline(left.link);
    CHECK(qbb_link_poll(left.link, now, packet) == 0 && qbb_link_deadline(left.link) == UINT64_MAX);
    load(&left, &right, 1);
    CHECK(qbb_link_deadline(left.link) == 0 && qbb_link_poll(left.link, now, packet) == 44);
    CHECK(packet[9] == QBB_COMMAND_SKIP && receive(&right, now, packet, 44) == QBB_ABSORBED);
}

/* No more packets than flight slots, no further ahead than the window, and room in it for acknowledgements. */
static void limits(void)
{
    fresh(usual_params());
    load(&left, &right, 1800);
    size_t sent = 0;
    for (int i = 0; i < 100; i++) {
        submit(&left, "x", 1, 0, 1);
        sent += qbb_link_poll(left.link, 0, packet) != 0;
    }
    CHECK(sent == 63 && stats_of(&left).in_flight == 63);
    CHECK(qbb_link_deadline(left.link) == 250 * MS);

    fresh(usual_params());
    load(&left, &right, 1800);
    static uint8_t payload[800];
    uint64_t words = 0;
    for (int i = 0; i < 20; i++) {
        submit(&left, payload, 800, 800, i == 0); /* unreliable ones must not run away either */
        words += qbb_link_poll(left.link, 0, packet) != 0 ? 102 : 0;
    }
    CHECK(words == 816 && words + 102 > 1024 - 1024 / 8); /* seven eighths of the window */
    /* The way back is still open: what comes in can be acknowledged. */
    load(&right, &left, 64);
    submit(&right, "y", 1, 0, 1);
    CHECK(receive(&left, 0, packet, qbb_link_poll(right.link, 0, packet)) == QBB_DELIVER);
    CHECK(qbb_link_poll(left.link, 50 * MS, ack) == 44 && ack[9] == QBB_COMMAND_ACK);
    /* The oldest packet is still acceptable after the newest one was taken. */
    CHECK(receive(&right, 0, ack, 44) == QBB_ABSORBED);
    CHECK(qbb_link_poll(left.link, 250 * MS, packet) != 0 && receive(&right, 0, packet, 844) == QBB_DELIVER);
    CHECK(qbb_link_poll(right.link, 250 * MS, ack) == 44);
    CHECK(receive(&left, 0, ack, 44) == QBB_ABSORBED && qbb_link_deadline(left.link) == 0);
}

/* Word counters and message numbers on both sides of 2^32. */
static void wraps(void)
{
    const uint64_t wrap = (uint64_t)1 << 32;
    fresh(usual_params());
    left.link->out.floor = left.link->out.loaded = wrap - 700;
    right.link->in.buf.floor = right.link->in.buf.loaded = right.link->in.highest = wrap - 700;
    left.link->flight.base = left.link->flight.next = wrap - 60;
    right.link->arrivals.cumulative = wrap - 61;
    uint64_t now = 0;
    uint8_t payload[40], seen[200] = {0};
    for (int i = 0; i < 200 || stats_of(&left).in_flight != 0; i++) {
        load(&left, &right, 64);
        load(&right, &left, 64);
        memset(payload, i, sizeof payload);
        if (i < 200)
            CHECK(submit(&left, payload, 40, 40, 1) == 0);
        now += 60 * MS;
        size_t length;
        for (int n = i; (length = qbb_link_poll(left.link, now, packet)) != 0; n += 3) {
            if (i < 200 && n % 7 == 3)
                continue; /* lost */
            CHECK(receive(&right, now, packet, length) == QBB_DELIVER);
            uint8_t number = opened()[0];
            CHECK(number == opened()[39] && !seen[number]++);
        }
        while ((length = qbb_link_poll(right.link, now, packet)) != 0)
            CHECK(receive(&left, now, packet, length) == QBB_ABSORBED);
    }
    CHECK(left.link->flight.next > wrap + 100 && left.link->out.floor > wrap && right.link->in.buf.floor > wrap - 700);
    CHECK(stats_of(&right).verdicts[QBB_DELIVER] == 200 && stats_of(&left).resent_packets > 20);
}

int main(void)
{
    lone_acknowledgement();
    full_acknowledgement();
    duplicates();
    replays();
    skips();
    control_lasts();
    skip_without_key();
    limits();
    wraps();
    return 0;
}
