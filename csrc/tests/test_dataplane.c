/* Two and three data planes with real sockets: control messages both ways, relaying into rings, garbage, channels that end
 * and come back, a peer that does not read. Run under the thread sanitizer as well. */
#define _GNU_SOURCE
#include "blockfile.h"
#include "plane_pair.h"

#define A 0x01010101u
#define B 0x01010102u
#define C 0x01010103u
#define KEY_BYTES (256 << 10)
#define SLOW_PACKETS 180 /* less than a queue takes */

static int directory;

static void send_control(test_end from, uint8_t fill)
{
    uint8_t message[80];
    memset(message, fill, sizeof message);
    CHECK_EQUAL(qbb_dataplane_submit(
                    from.plane, from.link, QBB_CHANNEL_CONTROL, QBB_COMMAND_CONTROL, 6, 1, message, sizeof message, 16), 0);
}

static void expect_control(test_end at, uint8_t fill)
{
    qbb_punt punt = next_punt(at.plane);
    CHECK_EQUAL(punt.kind, QBB_PUNT_CONTROL);
    CHECK_EQUAL(punt.link, at.link);
    CHECK_EQUAL(punt.length, 80);
    CHECK_EQUAL(punt.clear, 16);
    for (unsigned i = 0; i < punt.length; i++)
        CHECK_EQUAL(punt.bytes[i], fill);
}

static size_t hello(uint8_t out[40], uint8_t fill)
{
    qbb_header header = {.length = 40, .clear = 20, .version = QBB_Q3P_VERSION, .command = QBB_COMMAND_HELLO};
    qbb_header_write(out, &header);
    memset(out + QBB_HEADER_BYTES, fill, 20);
    return 40;
}

static void hellos_and_control(int type)
{
    qbb_dataplane *planes[2] = {started(A), started(B)};
    test_end a = add_end(planes[0], A, B), b = add_end(planes[1], B, A);
    uint8_t packet[40];
    size_t length = hello(packet, 9);
    CHECK_EQUAL(qbb_dataplane_send_hello(a.plane, a.link, packet, length), -ENOTCONN);
    join(a, b, type);
    CHECK_EQUAL(qbb_dataplane_send_hello(a.plane, a.link, packet, length - 1), -EINVAL);
    CHECK_EQUAL(qbb_dataplane_send_hello(a.plane, a.link, packet, length), 0);
    qbb_punt punt = next_punt(b.plane);
    CHECK_EQUAL(punt.kind, QBB_PUNT_HELLO);
    CHECK_EQUAL(punt.length, length);
    CHECK(memcmp(punt.bytes, packet, length) == 0);

    CHECK_EQUAL(qbb_dataplane_load(a.plane, a.link, QBB_OUT, directory, "key", KEY_BYTES), -ENOTCONN);
    begin_epoch(a, b, 1, directory, "key", KEY_BYTES);
    for (int i = 0; i < 20; i++) {
        send_control(a, (uint8_t)i);
        send_control(b, (uint8_t)(100 + i));
        expect_control(b, (uint8_t)i);
        expect_control(a, (uint8_t)(100 + i));
    }
    /* The channel goes and another comes; what was sealed meanwhile arrives, the epoch goes on. */
    CHECK_EQUAL(qbb_dataplane_set_channel(a.plane, a.link, QBB_CHANNEL_NONE, -1), 0);
    if (type == SOCK_STREAM)
        CHECK_EQUAL(next_punt(b.plane).kind, QBB_PUNT_CHANNEL_LOST);
    send_control(a, 201);
    join(a, b, type);
    expect_control(b, 201);
    /* A stopped thread can be started again. */
    CHECK_EQUAL(qbb_dataplane_stop(a.plane), 0);
    send_control(b, 202);
    CHECK_EQUAL(qbb_dataplane_start(a.plane), 0);
    expect_control(a, 202);
    /* A new epoch starts from nothing. */
    begin_epoch(a, b, 2, directory, "key", KEY_BYTES);
    send_control(a, 203);
    expect_control(b, 203);
    qbb_dataplane_free(planes[0]);
    qbb_dataplane_free(planes[1]);
}

static void wait_for_drop(qbb_dataplane *plane, enum qbb_network_drop reason, uint64_t count)
{
    uint64_t drops[32] = {0}, deadline = test_clock_ns() + 20000 * MILLISECOND;
    while (drops[reason] < count && test_clock_ns() < deadline) {
        usleep(1000);
        qbb_dataplane_network_drops(plane, drops);
    }
    CHECK_EQUAL(drops[reason], count);
}

/* A -- B -- C: keys from A's ring to C's ring, relayed by B. */
static void relay(int type)
{
    qbb_dataplane *planes[3] = {started(A), started(B), started(C)};
    test_end ab = add_end(planes[0], A, B), ba = add_end(planes[1], B, A);
    test_end bc = add_end(planes[1], B, C), cb = add_end(planes[2], C, B);
    test_ring ring_a = give_ring(planes[0]), ring_c = give_ring(planes[2]);
    qbb_way from_a[] = {route(0x01010000, 16, ab.link), route(C, 32, ab.link)};
    qbb_way from_b[] = {route(A, 32, ba.link), route(C, 32, bc.link)};
    CHECK_EQUAL(qbb_dataplane_set_table(planes[0], from_a, 2, 0), 0);
    CHECK_EQUAL(qbb_dataplane_set_table(planes[1], from_b, 2, 0), 0);
    qbb_way wrong[] = {route(C, 32, 7)}, unsorted[] = {route(C, 32, 0), route(0, 0, 0)};
    CHECK_EQUAL(qbb_dataplane_set_table(planes[1], wrong, 1, 0), -EINVAL);
    CHECK_EQUAL(qbb_dataplane_set_table(planes[1], unsorted, 2, 0), -EINVAL);
    join(ab, ba, type);
    join(bc, cb, type);
    begin_epoch(ab, ba, 1, directory, "key", KEY_BYTES);
    begin_epoch(bc, cb, 1, directory, "key", KEY_BYTES);

    uint8_t packet[QBB_RING_SLOT_BYTES], got[QBB_RING_SLOT_BYTES];
    size_t clear, got_clear;
    for (int i = 0; i < 200; i++) {
        size_t length = key_packet(packet, A, C, 9, 32 + (size_t)i, (uint8_t)i, &clear);
        ring_send(&ring_a, packet, length, clear);
        CHECK_EQUAL(ring_receive(&ring_c, got, &got_clear), length);
        CHECK_EQUAL(got_clear, clear);
        CHECK_EQUAL(got[8], 8); /* one hop */
        CHECK_EQUAL(qbb_checksum(got, 20, 0), 0);
        CHECK(memcmp(got + 20, packet + 20, length - 20) == 0);
    }
    /* What goes no further: TTL, no route, a strange source, a link out of use. */
    size_t length = key_packet(packet, A, C, 1, 32, 1, &clear);
    ring_send(&ring_a, packet, length, clear);
    qbb_punt punt = next_punt(planes[1]);
    CHECK_EQUAL(punt.kind, QBB_PUNT_NETWORK);
    CHECK_EQUAL(punt.reason, 1 + QBB_NET_TTL);
    CHECK_EQUAL(punt.length, clear); /* no key, padded or not */
    CHECK(memcmp(punt.bytes, packet, clear) == 0);
    length = key_packet(packet, A, 0x01010109, 9, 32, 1, &clear);
    ring_send(&ring_a, packet, length, clear);
    CHECK_EQUAL(next_punt(planes[1]).reason, 1 + QBB_NET_NO_ROUTE);
    length = key_packet(packet, B, C, 9, 32, 1, &clear);
    ring_send(&ring_a, packet, length, clear);
    wait_for_drop(planes[0], QBB_NET_SOURCE, 1);
    length = key_packet(packet, A, C, 9, 32, 1, &clear);
    packet[10] ^= 1;
    ring_send(&ring_a, packet, length, clear);
    wait_for_drop(planes[0], QBB_NET_CHECKSUM, 1);
    CHECK_EQUAL(qbb_dataplane_set_usable(planes[1], bc.link, 0), 0);
    length = key_packet(packet, A, C, 9, 32, 1, &clear);
    ring_send(&ring_a, packet, length, clear);
    wait_for_drop(planes[1], QBB_NET_LINK_DOWN, 1);
    /* Without its ring C drops. */
    CHECK_EQUAL(qbb_dataplane_set_usable(planes[1], bc.link, 1), 0);
    take_ring(planes[2], &ring_c);
    ring_send(&ring_a, packet, length, clear);
    wait_for_drop(planes[2], QBB_NET_RING_FULL, 1);

    take_ring(planes[0], &ring_a);
    for (int i = 0; i < 3; i++)
        qbb_dataplane_free(planes[i]);
}

/* Garbage on a UDP channel is counted and harms nothing; garbage on TCP ends the channel. */
static void garbage(void)
{
    qbb_dataplane *plane = started(A);
    test_end a = add_end(plane, A, B);
    qbb_link_stats stats = {0};
    uint8_t noise[3000];
    int fds[2];
    connected_pair(SOCK_DGRAM, fds);
    CHECK_EQUAL(qbb_dataplane_set_channel(plane, a.link, QBB_CHANNEL_TCP, fds[0]), -EPROTOTYPE);
    CHECK_EQUAL(qbb_dataplane_set_channel(plane, a.link, QBB_CHANNEL_UDP, fds[0]), 0);
    for (size_t length = 0; length < sizeof noise; length += 7) {
        test_key(noise, length, (unsigned)length);
        CHECK(send(fds[1], noise, length, 0) == (ssize_t)length);
        while (stats.received_packets <= length / 7) {
            usleep(200);
            qbb_dataplane_stats(plane, a.link, &stats);
        }
    }
    CHECK_EQUAL(stats.verdicts[QBB_DELIVER] + stats.verdicts[QBB_ABSORBED], 0);
    /* Nobody listens any more: the refusals are no end. */
    close(fds[1]);
    uint8_t packet[40];
    size_t length = hello(packet, 1);
    for (int i = 0; i < 10; i++) {
        CHECK(qbb_dataplane_send_hello(plane, a.link, packet, length) != -ENOTCONN);
        usleep(1000);
    }
    qbb_punt punt;
    while (qbb_dataplane_next_punt(plane, &punt))
        CHECK_EQUAL(punt.kind, QBB_PUNT_HELLO);

    connected_pair(SOCK_STREAM, fds);
    CHECK_EQUAL(qbb_dataplane_set_channel(plane, a.link, QBB_CHANNEL_TCP, fds[0]), 0);
    memset(noise, 0xff, sizeof noise);
    CHECK(send(fds[1], noise, 100, 0) == 100);
    CHECK_EQUAL(next_punt(plane).kind, QBB_PUNT_CHANNEL_LOST);
    close(fds[1]);
    qbb_dataplane_free(plane);
}

/* A TCP peer that does not read does not hold up another link; when it reads, all is whole, however it is cut. */
static void slow_peer(void)
{
    qbb_dataplane *plane = started(A), *other = started(C);
    test_end slow = add_end(plane, A, B), quick = add_end(plane, A, C), far = add_end(other, C, A);
    int fds[2], little = 32768; /* far less than what is sent, far more than one packet */
    connected_pair(SOCK_STREAM, fds);
    setsockopt(fds[0], SOL_SOCKET, SO_SNDBUF, &little, sizeof little);
    setsockopt(fds[1], SOL_SOCKET, SO_RCVBUF, &little, sizeof little);
    CHECK_EQUAL(qbb_dataplane_set_channel(plane, slow.link, QBB_CHANNEL_TCP, fds[0]), 0);
    join(quick, far, SOCK_DGRAM);
    begin_epoch(quick, far, 1, directory, "key", KEY_BYTES);
    uint8_t half[QBB_SLOT_HALF_BYTES] = {1}, message[1200] = {0};
    CHECK_EQUAL(qbb_dataplane_begin(plane, slow.link, 1, half, half), 0);
    CHECK_EQUAL(qbb_dataplane_load(plane, slow.link, QBB_OUT, directory, "key", KEY_BYTES), 0);
    for (int i = 0; i < SLOW_PACKETS; i++)
        CHECK_EQUAL(qbb_dataplane_submit(plane, slow.link, QBB_CHANNEL_DEVICE, QBB_COMMAND_DATA, 3, 1, message,
                        sizeof message, sizeof message), 0);
    for (int i = 0; i < 50; i++) {
        send_control(quick, (uint8_t)i);
        expect_control(far, (uint8_t)i);
    }
    /* Now read the slow one in odd pieces and follow its framing. */
    static uint8_t stream[1 << 20];
    size_t have = 0, at = 0;
    uint32_t next = 1;
    while (next <= SLOW_PACKETS) {
        ssize_t n = recv(fds[1], stream + have, 777, 0);
        CHECK(n > 0);
        have += (size_t)n;
        while (have - at >= 2 && have - at >= qbb_get16(stream + at)) {
            uint32_t number = qbb_get32(stream + at + 4);
            CHECK_EQUAL(qbb_get16(stream + at), 20 + 8 + 1200 + 16);
            CHECK(number >= 1 && number <= next); /* new, or sent again because nobody acknowledges */
            next += number == next;
            at += qbb_get16(stream + at);
        }
        memmove(stream, stream + at, have - at);
        have -= at;
        at = 0;
    }
    close(fds[1]);
    CHECK_EQUAL(next_punt(plane).kind, QBB_PUNT_CHANNEL_LOST);
    qbb_dataplane_free(plane);
    qbb_dataplane_free(other);
}

static void offer(void)
{
    qbb_dataplane *planes[2] = {started(A), started(B)};
    test_end a = add_end(planes[0], A, B), b = add_end(planes[1], B, A);
    const uint8_t h[16] = {3, 1, 4};
    const char *names[] = {"key", "key"};
    size_t lengths[] = {KEY_BYTES, KEY_BYTES};
    join(a, b, SOCK_DGRAM);
    begin_epoch(a, b, 1, directory, "key", KEY_BYTES);
    CHECK_EQUAL(qbb_dataplane_submit_offer(a.plane, a.link, 7, (const uint8_t *)"offer", 5, h, directory, names, lengths, 2), 0);
    qbb_punt punt = next_punt(b.plane);
    CHECK_EQUAL(punt.length, 5 + 32);
    CHECK_EQUAL(punt.clear, 5);
    CHECK_EQUAL(qbb_fingerprint_matches(punt.bytes + 5, h, directory, "key", KEY_BYTES), 1);
    CHECK_EQUAL(qbb_fingerprint_matches(punt.bytes + 6, h, directory, "key", KEY_BYTES), 0);
    CHECK_EQUAL(qbb_fingerprint_matches(punt.bytes + 5, h, directory, "none", KEY_BYTES), -ENOENT);
    names[1] = "none";
    CHECK_EQUAL(qbb_dataplane_submit_offer(a.plane, a.link, 7, (const uint8_t *)"offer", 5, h, directory, names, lengths, 2), -ENOENT);
    qbb_dataplane_free(planes[0]);
    qbb_dataplane_free(planes[1]);
}

int main(void)
{
    char path[] = "/tmp/qbb-test-XXXXXX";
    CHECK(mkdtemp(path) != NULL);
    directory = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    uint8_t *key = malloc(KEY_BYTES);
    test_key(key, KEY_BYTES, 99);
    CHECK_EQUAL(qbb_block_write(directory, "key", key, KEY_BYTES), 0);
    hellos_and_control(SOCK_DGRAM);
    hellos_and_control(SOCK_STREAM);
    relay(SOCK_DGRAM);
    relay(SOCK_STREAM);
    garbage();
    slow_peer();
    offer();
    CHECK_EQUAL(qbb_block_destroy(directory, "key"), 0);
    free(key);
    close(directory);
    CHECK(rmdir(path) == 0);
    return 0;
}
