/* The shared ring: order, limits, wiped slots; and a peer that writes nonsense, which must never move a bound. */
#include <string.h>

#include "check.h"
#include "shmring.h"

static void *new_ring(void)
{
    void *ring = aligned_alloc(64, qbb_ring_bytes());
    CHECK(ring != NULL);
    qbb_ring_init(ring);
    return ring;
}

static void holds_all_its_slots_in_order(void)
{
    void *ring = new_ring();
    uint8_t packet[QBB_RING_SLOT_BYTES], out[QBB_RING_SLOT_BYTES];
    size_t clear;
    for (int round = 0; round < 3; round++) {
        for (unsigned i = 0; i < QBB_RING_SLOTS; i++) {
            memset(packet, (int)i, sizeof packet);
            CHECK_EQUAL(qbb_ring_put(ring, packet, i + 1, i / 2), 0);
        }
        CHECK_EQUAL(qbb_ring_put(ring, packet, 1, 0), -1);
        for (unsigned i = 0; i < QBB_RING_SLOTS; i++) {
            CHECK_EQUAL(qbb_ring_take(ring, out, &clear), i + 1);
            CHECK_EQUAL(clear, i / 2);
            CHECK(out[0] == (uint8_t)i && out[i] == (uint8_t)i);
        }
        CHECK_EQUAL(qbb_ring_take(ring, out, &clear), 0);
    }
    free(ring);
}

static void takes_the_pad_off_and_wipes(void)
{
    void *ring = new_ring();
    uint8_t packet[100], pad[60], out[QBB_RING_SLOT_BYTES];
    size_t clear, found = 0;
    memset(packet, 0xa0, sizeof packet);
    memset(pad, 0x0b, sizeof pad);
    CHECK_EQUAL(qbb_ring_put_padded(ring, packet, 100, 40, pad), 0);
    CHECK_EQUAL(qbb_ring_take(ring, out, &clear), 100);
    for (int i = 0; i < 100; i++)
        CHECK_EQUAL(out[i], i < 40 ? 0xa0 : 0xab);
    for (size_t i = 0; i < qbb_ring_bytes(); i++)
        found += ((uint8_t *)ring)[i] == 0xab;
    CHECK_EQUAL(found, 0);
    free(ring);
}

static void refuses_what_does_not_fit(void)
{
    void *ring = new_ring();
    static uint8_t packet[QBB_RING_SLOT_BYTES + 1], out[QBB_RING_SLOT_BYTES];
    size_t clear;
    CHECK_EQUAL(qbb_ring_put(ring, packet, QBB_RING_SLOT_BYTES + 1, 0), -1);
    CHECK_EQUAL(qbb_ring_put(ring, packet, 0, 0), -1);
    CHECK_EQUAL(qbb_ring_put(ring, packet, 10, 11), -1);
    CHECK_EQUAL(qbb_ring_put(ring, packet, QBB_RING_SLOT_BYTES, QBB_RING_SLOT_BYTES), 0);
    CHECK_EQUAL(qbb_ring_take(ring, out, &clear), QBB_RING_SLOT_BYTES);
    free(ring);
}

/* Every 4-byte word of the ring's head and first slots set to strange values in turn: takes stay inside. */
static void survives_a_hostile_peer(void)
{
    static const uint32_t values[] = {0, 1, 511, 512, 513, 1536, 1537, 0x7fffffff, 0x80000000, 0xffffffff};
    uint8_t packet[64] = {1}, *out = malloc(QBB_RING_SLOT_BYTES);
    size_t clear;
    for (size_t at = 0; at < 256; at += 4) {
        for (size_t v = 0; v < sizeof values / sizeof *values; v++) {
            void *ring = new_ring();
            for (int i = 0; i < 3; i++)
                CHECK_EQUAL(qbb_ring_put(ring, packet, sizeof packet, 20), 0);
            memcpy((uint8_t *)ring + at, &values[v], 4);
            for (int i = 0; i < 1200; i++) {
                clear = 0;
                int length = qbb_ring_take(ring, out, &clear);
                CHECK(length >= -1 && length <= QBB_RING_SLOT_BYTES);
                CHECK(length <= 0 || clear <= (size_t)length);
            }
            qbb_ring_put(ring, packet, sizeof packet, 20);
            free(ring);
        }
    }
    free(out);
}

/* A count that cannot be is taken as a new start, not as thousands of packets. */
static void starts_again_after_an_impossible_count(void)
{
    void *ring = new_ring();
    uint8_t packet[64] = {1}, out[QBB_RING_SLOT_BYTES];
    size_t clear;
    uint32_t head = 5000;
    memcpy(ring, &head, sizeof head); /* the first field */
    CHECK_EQUAL(qbb_ring_take(ring, out, &clear), -1);
    CHECK_EQUAL(qbb_ring_take(ring, out, &clear), 0);
    CHECK_EQUAL(qbb_ring_put(ring, packet, sizeof packet, 20), 0);
    CHECK_EQUAL(qbb_ring_take(ring, out, &clear), sizeof packet);
    free(ring);
}

int main(void)
{
    holds_all_its_slots_in_order();
    takes_the_pad_off_and_wipes();
    refuses_what_does_not_fit();
    survives_a_hostile_peer();
    starts_again_after_an_impossible_count();
    return 0;
}
