/* What the data plane's tests and benchmark share: two data planes (or a chain of them) in one process, real sockets. */
#ifndef QBB_PLANE_PAIR_H
#define QBB_PLANE_PAIR_H
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "bytes.h"
#include "check.h"
#include "dataplane.h"
#include "keymem.h"
#include "qkd.h"
#include "shmring.h"
#include "wipe.h"

#define MILLISECOND 1000000ull

static inline qbb_link_params test_params(uint32_t a, uint32_t b, uint32_t self)
{
    uint32_t low = a < b ? a : b, high = a < b ? b : a;
    return (qbb_link_params){
        .link_id = (uint64_t)low << 32 | high,
        .master = self == low,
        .queue_slots = 256,
        .flight_slots = 256,
        .window_words = 1 << 15,
        .reserve_words = 16,
        .ack_delay_ns = 5 * MILLISECOND,
        .rto_ns = 50 * MILLISECOND,
        .rto_max_ns = 400 * MILLISECOND,
        .give_up_tries = 50,
    };
}

static inline void connected_pair(int type, int fds[2])
{
    struct sockaddr_in at[2] = {0};
    socklen_t length = sizeof at[0];
    for (int i = 0; i < 2; i++) {
        at[i].sin_family = AF_INET;
        at[i].sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        fds[i] = socket(AF_INET, type | SOCK_CLOEXEC, 0);
        CHECK(fds[i] >= 0);
        if (type == SOCK_DGRAM || i == 0) {
            CHECK(bind(fds[i], (struct sockaddr *)&at[i], sizeof at[i]) == 0);
            CHECK(getsockname(fds[i], (struct sockaddr *)&at[i], &length) == 0);
        }
    }
    if (type == SOCK_DGRAM) {
        CHECK(connect(fds[0], (struct sockaddr *)&at[1], sizeof at[1]) == 0);
        CHECK(connect(fds[1], (struct sockaddr *)&at[0], sizeof at[0]) == 0);
        return;
    }
    CHECK(listen(fds[0], 1) == 0);
    CHECK(connect(fds[1], (struct sockaddr *)&at[0], sizeof at[0]) == 0);
    int accepted = accept(fds[0], NULL, NULL);
    CHECK(accepted >= 0);
    close(fds[0]);
    fds[0] = accepted;
}

/* Key that both ends know. */
static inline void test_key(uint8_t *out, size_t length, unsigned seed)
{
    uint32_t state = seed * 2654435761u + 1;
    for (size_t i = 0; i < length; i++) {
        state = state * 1664525 + 1013904223;
        out[i] = (uint8_t)(state >> 24);
    }
}

typedef struct {
    qbb_dataplane *plane;
    int link;
} test_end;

/* A running epoch on the link between a and b, with `words` words of key each way beyond the starter words. */
static inline void begin_epoch(test_end a, test_end b, uint64_t epoch, int dir_fd, const char *name, size_t key_bytes)
{
    uint8_t halves[2][QBB_SLOT_HALF_BYTES];
    test_key(halves[0], sizeof halves[0], (unsigned)epoch * 2);
    test_key(halves[1], sizeof halves[1], (unsigned)epoch * 2 + 1);
    CHECK_EQUAL(qbb_dataplane_begin(a.plane, a.link, epoch, halves[0], halves[1]), 0);
    CHECK_EQUAL(qbb_dataplane_begin(b.plane, b.link, epoch, halves[1], halves[0]), 0);
    if (key_bytes == 0)
        return;
    CHECK_EQUAL(qbb_dataplane_load(a.plane, a.link, QBB_OUT, dir_fd, name, key_bytes), 0);
    CHECK_EQUAL(qbb_dataplane_load(b.plane, b.link, QBB_IN, dir_fd, name, key_bytes), 0);
    CHECK_EQUAL(qbb_dataplane_load(b.plane, b.link, QBB_OUT, dir_fd, name, key_bytes), 0);
    CHECK_EQUAL(qbb_dataplane_load(a.plane, a.link, QBB_IN, dir_fd, name, key_bytes), 0);
}

/* A QKDNL packet: QKDTL KEY segment with one key of key_bytes bytes `fill`. Returns its length, *clear set. */
static inline size_t key_packet(uint8_t *out, uint32_t from, uint32_t to, uint8_t ttl, size_t key_bytes, uint8_t fill, size_t *clear)
{
    size_t length = 20 + 20 + 4 + 16 + key_bytes;
    memset(out, 0, length);
    out[0] = 0x45;
    qbb_put16(out + 2, (uint16_t)length);
    out[8] = ttl;
    out[9] = QBB_PROTOCOL_QKDTL;
    qbb_put32(out + 12, from);
    qbb_put32(out + 16, to);
    qbb_put16(out + 10, qbb_checksum(out, 20, 0));
    out[20 + 12] = 16; /* KEY */
    qbb_put16(out + 20 + 16, 40);
    qbb_put16(out + 40, 1);
    qbb_put16(out + 42, (uint16_t)key_bytes);
    memset(out + 44, 0x77, 16);
    memset(out + 60, fill, key_bytes);
    *clear = 60;
    CHECK_EQUAL(qbb_network_clear(out, length), 60);
    return length;
}

static inline uint64_t test_clock_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* The next punt; waits for it as long as a test may take. */
static inline qbb_punt next_punt(qbb_dataplane *plane)
{
    qbb_punt punt;
    while (!qbb_dataplane_next_punt(plane, &punt)) {
        struct pollfd wait = {.fd = qbb_dataplane_punt_fd(plane), .events = POLLIN};
        uint64_t count;
        CHECK(poll(&wait, 1, 20000) == 1);
        if (read(wait.fd, &count, sizeof count) < 0)
            continue;
    }
    return punt;
}

typedef struct {
    void *memory;
    int to_keys, from_keys;
} test_ring;

static inline test_ring give_ring(qbb_dataplane *plane)
{
    test_ring ring = {qbb_keymem_map(2 * qbb_ring_bytes()), eventfd(0, EFD_CLOEXEC), eventfd(0, EFD_CLOEXEC)};
    CHECK(ring.memory != NULL);
    qbb_ring_init(ring.memory);
    qbb_ring_init((uint8_t *)ring.memory + qbb_ring_bytes());
    CHECK_EQUAL(qbb_dataplane_set_ring(plane, ring.memory, ring.to_keys, ring.from_keys), 0);
    return ring;
}

static inline void take_ring(qbb_dataplane *plane, test_ring *ring)
{
    CHECK_EQUAL(qbb_dataplane_set_ring(plane, NULL, -1, -1), 0);
    qbb_keymem_unmap(ring->memory, 2 * qbb_ring_bytes(), 0);
    close(ring->to_keys);
    close(ring->from_keys);
}

static inline void ring_send(test_ring *ring, const uint8_t *packet, size_t length, size_t clear)
{
    uint64_t one = 1;
    CHECK_EQUAL(qbb_ring_put((uint8_t *)ring->memory + qbb_ring_bytes(), packet, length, clear), 0);
    CHECK(write(ring->from_keys, &one, sizeof one) == sizeof one);
}

static inline int ring_receive(test_ring *ring, uint8_t *out, size_t *clear)
{
    int length;
    while ((length = qbb_ring_take(ring->memory, out, clear)) == 0) {
        struct pollfd wait = {.fd = ring->to_keys, .events = POLLIN};
        uint64_t count;
        CHECK(poll(&wait, 1, 20000) == 1);
        CHECK(read(ring->to_keys, &count, sizeof count) == sizeof count);
    }
    return length;
}

static inline qbb_dataplane *started(uint32_t address)
{
    qbb_dataplane *plane = qbb_dataplane_new(address);
    CHECK(plane != NULL);
    CHECK_EQUAL(qbb_dataplane_start(plane), 0);
    CHECK_EQUAL(qbb_dataplane_start(plane), -EALREADY);
    return plane;
}

static inline test_end add_end(qbb_dataplane *plane, uint32_t self, uint32_t peer)
{
    qbb_link_params params = test_params(self, peer, self);
    test_end end = {plane, qbb_dataplane_add_link(plane, &params, 1 << 17)};
    CHECK(end.link >= 0);
    CHECK_EQUAL(qbb_dataplane_set_usable(plane, end.link, 1), 0);
    return end;
}

static inline void join(test_end a, test_end b, int type)
{
    int fds[2];
    enum qbb_channel_kind kind = type == SOCK_DGRAM ? QBB_CHANNEL_UDP : QBB_CHANNEL_TCP;
    connected_pair(type, fds);
    CHECK_EQUAL(qbb_dataplane_set_channel(a.plane, a.link, kind, fds[0]), 0);
    CHECK_EQUAL(qbb_dataplane_set_channel(b.plane, b.link, kind, fds[1]), 0);
}

static inline qbb_way route(uint32_t prefix, uint8_t bits, int link)
{
    return (qbb_way){.prefix = prefix, .bits = bits, .flags = QBB_WAY_BEST, .link = (int16_t)link, .cost = 1};
}
#endif
