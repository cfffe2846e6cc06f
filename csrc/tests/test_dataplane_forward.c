/* A relay whose table is swapped while packets flow; load, hold time, overload, reports, packets of its own. Real sockets and
 * threads; run under the thread sanitizer as well. */
#define _GNU_SOURCE
#include <pthread.h>

#include "blockfile.h"
#include "plane_pair.h"

#define A 0x01010101u
#define B 0x01010102u
#define C 0x01010103u
#define KEY_BYTES (512 << 10)
#define PACKETS 600
#define ROUTES 4000

static int directory;

/* A -- B -- C, and a second link from B to C. */
typedef struct {
    qbb_dataplane *planes[3];
    test_end ab, ba, bc, cb, bc2, cb2;
    test_ring ring_a, ring_c;
} row;

static row start_row(void)
{
    row r = {.planes = {started(A), started(B), started(C)}};
    r.ab = add_end(r.planes[0], A, B), r.ba = add_end(r.planes[1], B, A);
    r.bc = add_end(r.planes[1], B, C), r.cb = add_end(r.planes[2], C, B);
    r.bc2 = add_end(r.planes[1], B, C), r.cb2 = add_end(r.planes[2], C, B);
    r.ring_a = give_ring(r.planes[0]), r.ring_c = give_ring(r.planes[2]);
    join(r.ab, r.ba, SOCK_DGRAM);
    join(r.bc, r.cb, SOCK_DGRAM);
    join(r.bc2, r.cb2, SOCK_DGRAM);
    begin_epoch(r.ab, r.ba, 1, directory, "key", KEY_BYTES);
    begin_epoch(r.bc, r.cb, 1, directory, "key", KEY_BYTES);
    begin_epoch(r.bc2, r.cb2, 1, directory, "key", KEY_BYTES);
    qbb_way from_a[] = {route(A, 32, r.ab.link), route(C, 32, r.ab.link)};
    CHECK_EQUAL(qbb_dataplane_set_table(r.planes[0], from_a, 2, 0), 0);
    return r;
}

static void end_row(row *r)
{
    take_ring(r->planes[0], &r->ring_a);
    take_ring(r->planes[2], &r->ring_c);
    for (int i = 0; i < 3; i++)
        qbb_dataplane_free(r->planes[i]);
}

/* One key through the row. */
static void pass(row *r, uint8_t fill)
{
    uint8_t packet[QBB_RING_SLOT_BYTES], got[QBB_RING_SLOT_BYTES];
    size_t clear, got_clear, length = key_packet(packet, A, C, 9, 32, fill, &clear);
    ring_send(&r->ring_a, packet, length, clear);
    CHECK_EQUAL(ring_receive(&r->ring_c, got, &got_clear), length);
    CHECK(memcmp(got + 20, packet + 20, length - 20) == 0);
}

static uint64_t received(test_end end)
{
    qbb_link_stats stats;
    CHECK_EQUAL(qbb_dataplane_stats(end.plane, end.link, &stats), 0);
    return stats.verdicts[QBB_DELIVER];
}

/* Many prefixes, and C behind them all, by the first or the second link. */
typedef struct {
    row *r;
    int stop;
} swapper;

static void *swap(void *argument)
{
    swapper *s = argument;
    static qbb_way ways[ROUTES + 2];
    for (unsigned round = 0; !__atomic_load_n(&s->stop, __ATOMIC_RELAXED); round++) {
        size_t count = ROUTES / 2 + round % 2 * ROUTES / 2, n = 0;
        for (; n < count; n++)
            ways[n] = route(0x01000000u + (uint32_t)n * 4, 30, s->r->ba.link);
        ways[n++] = route(C, 32, round % 2 ? s->r->bc.link : s->r->bc2.link);
        CHECK_EQUAL(qbb_dataplane_set_table(s->r->planes[1], ways, n, 0), 0);
    }
    return NULL;
}

static void tables_change_while_packets_flow(void)
{
    row r = start_row();
    swapper s = {.r = &r};
    pthread_t thread;
    uint64_t drops[32];
    qbb_way first = route(C, 32, r.bc.link);
    CHECK_EQUAL(qbb_dataplane_set_table(r.planes[1], &first, 1, 0), 0);
    CHECK(pthread_create(&thread, NULL, swap, &s) == 0);
    /* A busy machine may let the swapper wait: until it was seen at work. The test's time-out ends what has no end. */
    for (int i = 0; i < PACKETS || received(r.cb) == 0 || received(r.cb2) == 0; i++)
        pass(&r, (uint8_t)i);
    __atomic_store_n(&s.stop, 1, __ATOMIC_RELAXED);
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK_EQUAL(qbb_dataplane_network_drops(r.planes[1], drops), 0);
    for (int reason = 0; reason < QBB_NET_DROPS; reason++)
        CHECK_EQUAL(drops[reason], 0);
    end_row(&r);
}

static qbb_way alternate(uint32_t prefix, int link)
{
    qbb_way way = route(prefix, 32, link);
    way.flags = QBB_WAY_LOOP_FREE;
    return way;
}

static void wait_for_drops(qbb_dataplane *plane, enum qbb_network_drop reason, uint64_t count)
{
    uint64_t drops[32] = {0}, deadline = test_clock_ns() + 20000 * MILLISECOND;
    while (drops[reason] < count && test_clock_ns() < deadline) {
        usleep(1000);
        qbb_dataplane_network_drops(plane, drops);
    }
    CHECK_EQUAL(drops[reason], count);
}

static void load_makes_the_choice(void)
{
    row r = start_row();
    qbb_load load;
    qbb_way ways[] = {route(A, 32, r.ba.link), route(C, 32, r.bc.link), alternate(C, r.bc2.link)};
    CHECK_EQUAL(qbb_dataplane_set_table(r.planes[1], ways, 3, 0), 0);
    CHECK_EQUAL(qbb_dataplane_set_link_policy(r.planes[1], r.bc.link, 0.5, 0.9, 10), -EINVAL);
    CHECK_EQUAL(qbb_dataplane_set_link_policy(r.planes[1], 9, 2, 0.9, 10), -EINVAL);
    /* w so large that the load, once there, stays for the test; L_cr so low that one packet reaches it. */
    CHECK_EQUAL(qbb_dataplane_set_link_policy(r.planes[1], r.bc.link, 10000, 1e-9, 200), 0);
    CHECK_EQUAL(qbb_dataplane_set_supply(r.planes[1], r.bc.link, 1000), 0);
    pass(&r, 1);
    uint64_t first = received(r.cb);
    CHECK(first == 1 && received(r.cb2) == 0);
    do {
        usleep(1000);
        CHECK_EQUAL(qbb_dataplane_link_load(r.planes[1], r.bc.link, &load), 0);
    } while (load.load == 0);
    for (uint8_t i = 0; i < 10; i++)
        pass(&r, i);
    CHECK(received(r.cb) == first && received(r.cb2) == 10); /* all by the alternate */
    /* In the hold time, or when the alternate is down, nothing but the first: dropped, or sent nevertheless. */
    uint8_t packet[QBB_RING_SLOT_BYTES];
    size_t clear, length = key_packet(packet, A, C, 9, 32, 3, &clear);
    CHECK_EQUAL(qbb_dataplane_set_table(r.planes[1], ways, 3, 3600000 * MILLISECOND), 0);
    ring_send(&r.ring_a, packet, length, clear);
    wait_for_drops(r.planes[1], QBB_NET_OVERLOAD, 1);
    CHECK_EQUAL(qbb_dataplane_set_overload(r.planes[1], QBB_OVERLOAD_DEFAULT_LINK, 9), -EINVAL);
    CHECK_EQUAL(qbb_dataplane_set_overload(r.planes[1], QBB_OVERLOAD_DEFAULT_LINK, -1), 0);
    pass(&r, 4);
    CHECK(received(r.cb) == first + 1);
    CHECK_EQUAL(qbb_dataplane_set_usable(r.planes[1], r.bc.link, 0), 0);
    ring_send(&r.ring_a, packet, length, clear);
    wait_for_drops(r.planes[1], QBB_NET_LINK_DOWN, 1);
    end_row(&r);
}

/* Dropped packets are told at a limited rate; what the node itself says goes where the table says. */
static void reports(void)
{
    row r = start_row();
    qbb_way ways[] = {route(A, 32, r.ba.link)};
    CHECK_EQUAL(qbb_dataplane_set_table(r.planes[1], ways, 1, 0), 0);
    CHECK_EQUAL(qbb_dataplane_set_report_rate(r.planes[1], 0, 1), -EINVAL);
    CHECK_EQUAL(qbb_dataplane_set_report_rate(r.planes[1], 3600000 * MILLISECOND, 3), 0);
    uint8_t packet[QBB_RING_SLOT_BYTES];
    size_t clear, length = key_packet(packet, A, C, 9, 32, 3, &clear);
    for (int i = 0; i < 8; i++)
        ring_send(&r.ring_a, packet, length, clear);
    wait_for_drops(r.planes[1], QBB_NET_NO_ROUTE, 8);
    wait_for_drops(r.planes[1], QBB_NET_PUNT_RATE, 5);
    for (int i = 0; i < 3; i++)
        CHECK_EQUAL(next_punt(r.planes[1]).reason, 1 + QBB_NET_NO_ROUTE);

    uint8_t own[28] = {0x45, 0, 0, sizeof own, [8] = 64, [9] = QBB_PROTOCOL_ICMP};
    qbb_put32(own + 12, B);
    qbb_put32(own + 16, A);
    qbb_put16(own + 10, qbb_checksum(own, 20, 0));
    CHECK_EQUAL(qbb_dataplane_originate(r.planes[1], own, sizeof own), 1);
    qbb_punt punt = next_punt(r.planes[0]);
    CHECK(punt.kind == QBB_PUNT_NETWORK && punt.reason == 0 && punt.length == sizeof own);
    CHECK(memcmp(punt.bytes, own, sizeof own) == 0); /* no relay between: the TTL is whole */
    CHECK_EQUAL(ring_receive(&r.ring_a, packet, &clear), sizeof own); /* the transport hears of it as well */
    CHECK(clear == sizeof own && memcmp(packet, own, sizeof own) == 0);
    CHECK_EQUAL(qbb_dataplane_originate(r.planes[1], own, sizeof own - 1), 0);
    own[19] = 0x77; /* nowhere, and wrong now */
    CHECK_EQUAL(qbb_dataplane_originate(r.planes[1], own, sizeof own), 0);
    wait_for_drops(r.planes[1], QBB_NET_CHECKSUM, 1);
    wait_for_drops(r.planes[1], QBB_NET_SHORT, 1);
    end_row(&r);
}

int main(void)
{
    char path[] = "/tmp/qbb-test-XXXXXX";
    CHECK(mkdtemp(path) != NULL);
    directory = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    uint8_t *key = malloc(KEY_BYTES);
    test_key(key, KEY_BYTES, 99);
    CHECK_EQUAL(qbb_block_write(directory, "key", key, KEY_BYTES), 0);
    free(key);
    tables_change_while_packets_flow();
    load_makes_the_choice();
    reports();
    CHECK_EQUAL(qbb_block_destroy(directory, "key"), 0);
    close(directory);
    CHECK(rmdir(path) == 0);
    return 0;
}
