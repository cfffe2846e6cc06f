/* The data plane as a relay between two UDP links, against a bare recvmmsg/sendmmsg loop that forwards the same packets.
 *
 *   this thread --UDP--> relay under test --UDP--> this thread        (relay on one processor, this thread on another)
 *
 * Packets are sealed beforehand; the relay verifies each, routes it, pads and tags it anew and sends it on, with
 * acknowledgements and everything else that a link does. At most WINDOW packets are under way, so that no socket buffer
 * overflows. Both contestants run in turns; ratios are medians of the turns' ratios. Wall time holds what the kernel does
 * and what this thread does as well; the relay thread's own processor time is given beside it. Prints JSON lines. */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>

#include "../tests/plane_pair.h"
#include "blockfile.h"
#include "dataplane_internal.h"
#include "measure.h"

#define PACKETS 8192
#define WINDOW 128
#define REPETITIONS 9
#define BUFFER_WORDS (1u << 21)
#define A 0x01010101u
#define B 0x01010102u
#define C 0x01010103u

/* A relay under test, and our two ends of its sockets. */
typedef struct {
    int in, out;
    pthread_t thread;
} relay;

static uint8_t packets[PACKETS][QBB_PACKET_MAX];
static size_t packet_bytes;
static uint8_t halves[2][QBB_SLOT_HALF_BYTES];
static uint8_t *key;
static size_t key_bytes;
static int directory;

static qbb_link_params params(uint32_t self, uint32_t peer)
{
    qbb_link_params p = test_params(self, peer, self);
    p.queue_slots = 1024;
    p.flight_slots = 16384; /* nobody acknowledges: all packets of a turn stay in flight */
    p.window_words = BUFFER_WORDS;
    p.rto_ns = p.rto_max_ns = 1000000000000;
    return p;
}

/* Seals a turn's packets as neighbour A would. */
static void seal_all(uint64_t epoch, size_t key_length)
{
    static void *secret, *plain;
    static uint8_t *out, *in;
    qbb_link_params p = params(A, B);
    uint8_t text[QBB_PACKET_MAX];
    size_t clear, length = key_packet(text, A, C, 9, key_length, 0x5a, &clear);
    if (secret == NULL) {
        secret = qbb_keymem_map(qbb_link_secret_bytes(&p));
        plain = aligned_alloc(64, (qbb_link_plain_bytes(&p) + 63) / 64 * 64);
        out = qbb_keymem_map_mirrored(BUFFER_WORDS * 8ul);
        in = qbb_keymem_map_mirrored(BUFFER_WORDS * 8ul);
    }
    CHECK(secret != NULL && plain != NULL && out != NULL && in != NULL);
    memset(plain, 0, qbb_link_plain_bytes(&p));
    qbb_link *link = qbb_link_init(&p, secret, plain, out, in, BUFFER_WORDS);
    CHECK(link != NULL);
    qbb_link_begin(link, epoch, halves[0], halves[1]);
    memcpy(qbb_link_reserve(link, QBB_OUT, key_bytes / 8), key, key_bytes);
    qbb_link_commit(link, QBB_OUT, key_bytes / 8);
    for (int i = 0; i < PACKETS; i++) {
        CHECK_EQUAL(qbb_link_submit(link, QBB_CHANNEL_NETWORK, QBB_COMMAND_DATA, 0, 1, text, length, clear, NULL), 0);
        packet_bytes = qbb_link_poll(link, 1, packets[i]);
        CHECK(packet_bytes != 0);
    }
    qbb_link_end(link);
}

static void make_key(size_t key_length)
{
    key_bytes = ((key_length + 7) / 8 + 2) * 8 * (PACKETS + 64);
    free(key);
    key = malloc(key_bytes);
    CHECK(key != NULL);
    test_key(key, key_bytes, 5);
    CHECK_EQUAL(qbb_block_destroy(directory, "key"), 0);
    CHECK_EQUAL(qbb_block_write(directory, "key", key, key_bytes), 0);
}

/* Sends all packets through, never more than WINDOW ahead; seconds. */
static double push(const relay *r, int out_fd)
{
    static qbb_received received;
    struct mmsghdr headers[QBB_BATCH];
    struct iovec vectors[QBB_BATCH];
    int sent = 0, arrived = 0;
    qbb_received_init(&received);
    double begin = seconds_now(), last = begin;
    while (arrived < PACKETS) {
        int room = WINDOW - (sent - arrived), n = room < QBB_BATCH ? room : QBB_BATCH;
        n = n < PACKETS - sent ? n : PACKETS - sent;
        for (int i = 0; i < n; i++) {
            vectors[i] = (struct iovec){packets[sent + i], packet_bytes};
            headers[i].msg_hdr = (struct msghdr){.msg_iov = &vectors[i], .msg_iovlen = 1};
        }
        if (n > 0) {
            int done = sendmmsg(r->in, headers, (unsigned)n, 0);
            CHECK(done > 0);
            sent += done;
        }
        int got = recvmmsg(out_fd, received.headers, QBB_BATCH, MSG_DONTWAIT, NULL);
        for (int i = 0; i < got; i++)
            arrived += received.headers[i].msg_len == packet_bytes;
        if (got > 0)
            last = seconds_now();
        CHECK(seconds_now() - last < 10); /* something was lost */
    }
    return seconds_now() - begin;
}

static double thread_seconds(pthread_t thread)
{
    clockid_t clock;
    struct timespec used;
    CHECK(pthread_getcpuclockid(thread, &clock) == 0 && clock_gettime(clock, &used) == 0);
    return (double)used.tv_sec + (double)used.tv_nsec * 1e-9;
}

static void pin(pthread_t thread, int processor)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(processor % (int)sysconf(_SC_NPROCESSORS_ONLN), &set);
    pthread_setaffinity_np(thread, sizeof set, &set);
}

/* Room for a window of packets, whatever the kernel counts for each. */
static void widen(int fds[2])
{
    static const int bytes = 4 << 20;
    for (int i = 0; i < 2; i++)
        if (setsockopt(fds[i], SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof bytes) != 0)
            setsockopt(fds[i], SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes);
}

/* The bare loop. A packet of one byte ends it. */
static void *forward_bare(void *sockets)
{
    static qbb_received received;
    const int *fds = sockets;
    qbb_received_init(&received);
    for (;;) {
        int n = recvmmsg(fds[0], received.headers, QBB_BATCH, MSG_WAITFORONE, NULL);
        if (n <= 0)
            continue;
        for (int i = 0; i < n; i++) {
            if (received.headers[i].msg_len == 1)
                return NULL;
            received.vectors[i].iov_len = received.headers[i].msg_len;
        }
        for (int done = 0; done < n;) {
            int m = sendmmsg(fds[1], received.headers + done, (unsigned)(n - done), 0);
            done += m > 0 ? m : 0;
        }
        for (int i = 0; i < n; i++)
            received.vectors[i].iov_len = QBB_DATAGRAM_BYTES;
    }
}

typedef struct {
    qbb_dataplane *plane;
    test_end in, out;
    relay relay;
} plane_relay;

static plane_relay start_plane(void)
{
    qbb_link_params to_a = params(B, A), to_c = params(B, C);
    plane_relay p = {.plane = qbb_dataplane_new(B)};
    int first[2], second[2];
    CHECK(p.plane != NULL);
    p.in = (test_end){p.plane, qbb_dataplane_add_link(p.plane, &to_a, BUFFER_WORDS)};
    p.out = (test_end){p.plane, qbb_dataplane_add_link(p.plane, &to_c, BUFFER_WORDS)};
    CHECK(p.in.link >= 0 && p.out.link >= 0);
    CHECK_EQUAL(qbb_dataplane_set_usable(p.plane, p.out.link, 1), 0);
    qbb_way way = {.prefix = C, .bits = 32, .flags = QBB_WAY_BEST, .link = (int16_t)p.out.link};
    CHECK_EQUAL(qbb_dataplane_set_table(p.plane, &way, 1, 0), 0);
    connected_pair(SOCK_DGRAM, first);
    connected_pair(SOCK_DGRAM, second);
    widen(first);
    widen(second);
    CHECK_EQUAL(qbb_dataplane_set_channel(p.plane, p.in.link, QBB_CHANNEL_UDP, first[1]), 0);
    CHECK_EQUAL(qbb_dataplane_set_channel(p.plane, p.out.link, QBB_CHANNEL_UDP, second[0]), 0);
    CHECK_EQUAL(qbb_dataplane_start(p.plane), 0);
    p.relay = (relay){first[0], second[1], p.plane->thread};
    return p;
}

static void begin_turn(const plane_relay *p, uint64_t epoch)
{
    CHECK_EQUAL(qbb_dataplane_begin(p->plane, p->in.link, epoch, halves[1], halves[0]), 0);
    CHECK_EQUAL(qbb_dataplane_begin(p->plane, p->out.link, epoch, halves[0], halves[1]), 0);
    CHECK_EQUAL(qbb_dataplane_load(p->plane, p->in.link, QBB_IN, directory, "key", key_bytes), 0);
    CHECK_EQUAL(qbb_dataplane_load(p->plane, p->in.link, QBB_OUT, directory, "key", 64 * 16), -EIO);
    CHECK_EQUAL(qbb_dataplane_load(p->plane, p->in.link, QBB_OUT, directory, "key", key_bytes), 0);
    CHECK_EQUAL(qbb_dataplane_load(p->plane, p->out.link, QBB_OUT, directory, "key", key_bytes), 0);
}

static void compare(const plane_relay *plane, const relay *bare, size_t key_length)
{
    static uint64_t epoch;
    double rate[2][REPETITIONS], cpu_ns[2][REPETITIONS], ratio[REPETITIONS], cpu_ratio[REPETITIONS];
    make_key(key_length);
    for (int r = -1; r < REPETITIONS; r++) { /* the first turn warms up */
        int at = r < 0 ? 0 : r;
        epoch++;
        seal_all(epoch, key_length);
        begin_turn(plane, epoch);
        const relay *contestants[] = {&plane->relay, bare};
        for (int c = 0; c < 2; c++) {
            double before = thread_seconds(contestants[c]->thread);
            rate[c][at] = PACKETS / push(contestants[c], contestants[c]->out);
            cpu_ns[c][at] = (thread_seconds(contestants[c]->thread) - before) * 1e9 / PACKETS;
        }
        ratio[at] = rate[0][at] / rate[1][at];
        cpu_ratio[at] = cpu_ns[1][at] / cpu_ns[0][at];
    }
    printf("{\"bench\": \"relay\", \"key_bytes\": %zu, \"packet_bytes\": %zu, \"plane_packets_s\": %.0f, \"bare_packets_s\": %.0f, "
           "\"ratio\": %.2f, \"plane_thread_ns\": %.0f, \"bare_thread_ns\": %.0f, \"ratio_thread\": %.2f, \"repetitions\": %d}\n",
        key_length, packet_bytes, median(rate[0], REPETITIONS), median(rate[1], REPETITIONS), median(ratio, REPETITIONS),
        median(cpu_ns[0], REPETITIONS), median(cpu_ns[1], REPETITIONS), median(cpu_ratio, REPETITIONS), REPETITIONS);
}

int main(void)
{
    char path[] = "/tmp/qbb-bench-XXXXXX";
    int first[2], second[2];
    CHECK(mkdtemp(path) != NULL);
    directory = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    test_key(halves[0], sizeof halves, 3);

    plane_relay plane = start_plane();
    connected_pair(SOCK_DGRAM, first);
    connected_pair(SOCK_DGRAM, second);
    widen(first);
    widen(second);
    int bare_sockets[2] = {first[1], second[0]};
    relay bare = {.in = first[0], .out = second[1]};
    CHECK(pthread_create(&bare.thread, NULL, forward_bare, bare_sockets) == 0);
    pin(pthread_self(), 0);
    pin(plane.relay.thread, 1);
    pin(bare.thread, 1);

    static const size_t key_lengths[] = {32, 448, 1216};
    for (size_t i = 0; i < sizeof key_lengths / sizeof *key_lengths; i++)
        compare(&plane, &bare, key_lengths[i]);

    CHECK(send(bare.in, "", 1, 0) == 1);
    CHECK(pthread_join(bare.thread, NULL) == 0);
    qbb_dataplane_free(plane.plane);
    qbb_block_destroy(directory, "key");
    CHECK(rmdir(path) == 0);
    return 0;
}
