/* The shelf: slots and stale handles, wiping, packets to and from a ring; health tests; sending from a slot. Exits 0 when
 * all holds. Build: gcc -fsanitize=address,undefined -Icsrc/core -Icsrc/io with the sources that build.py names. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "health.h"
#include "pfkeysend.h"
#include "qkd.h"
#include "random.h"
#include "shelf.h"
#include "shmring.h"

#define CHECK(what) do { if (!(what)) { fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #what); exit(1); } } while (0)
#define SLOTS 8
#define SLOT_BYTES 64

static uint8_t *secret;
static void *plain;

static qbb_shelf *fresh(void)
{
    free(secret);
    free(plain);
    secret = calloc(1, qbb_shelf_secret_bytes(SLOTS, SLOT_BYTES));
    plain = calloc(1, qbb_shelf_plain_bytes(SLOTS));
    return qbb_shelf_init(secret, plain, SLOTS, SLOT_BYTES);
}

static int all_zero(const uint8_t *bytes, size_t length)
{
    for (size_t i = 0; i < length; i++)
        if (bytes[i])
            return 0;
    return 1;
}

static void test_sizes(void)
{
    int error;
    qbb_shelf *shelf = fresh();
    CHECK(shelf != NULL);
    CHECK(qbb_shelf_init(secret, plain, 0, 64) == NULL);
    CHECK(qbb_shelf_init(secret, plain, SLOTS, 8) == NULL);
    CHECK(qbb_shelf_init(secret, plain, SLOTS, 1032) == NULL);
    CHECK(qbb_shelf_init(secret, plain, SLOTS, 63) == NULL);
    const size_t refused[] = { 0, 1, 15, SLOT_BYTES + 1, 1025, (size_t)-1 };
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        CHECK(qbb_shelf_claim(shelf, refused[i], &error) == 0);
        CHECK(error == -QBB_SHELF_LENGTH);
    }
    CHECK(qbb_shelf_claim(shelf, 16, &error) && error == 0);
    CHECK(qbb_shelf_claim(shelf, SLOT_BYTES, &error) && error == 0);
    CHECK(qbb_shelf_free(shelf) == SLOTS - 2);
}

static void test_stale_and_wipe(void)
{
    int error;
    qbb_shelf *shelf = fresh();
    uint64_t first = qbb_shelf_claim(shelf, 32, &error);
    memset(qbb_shelf_at(shelf, first), 0xa5, 32);
    uint8_t *where = qbb_shelf_at(shelf, first);
    CHECK(qbb_shelf_length(shelf, first) == 32);
    CHECK(qbb_shelf_release(shelf, first) == 0);
    CHECK(all_zero(where, 32));
    CHECK(qbb_shelf_at(shelf, first) == NULL);
    CHECK(qbb_shelf_length(shelf, first) == -QBB_SHELF_STALE);
    CHECK(qbb_shelf_release(shelf, first) == -QBB_SHELF_STALE);
    uint64_t second = qbb_shelf_claim(shelf, 32, &error);
    CHECK((uint32_t)second == (uint32_t)first && second != first);
    CHECK(qbb_shelf_at(shelf, first) == NULL && qbb_shelf_at(shelf, second) == where);
    /* Made-up handles: slot numbers out of range, generations never given. */
    CHECK(qbb_shelf_at(shelf, 0) == NULL);
    CHECK(qbb_shelf_at(shelf, second + ((uint64_t)2 << 32)) == NULL);
    CHECK(qbb_shelf_at(shelf, (uint64_t)1 << 32 | SLOTS) == NULL);
    CHECK(qbb_shelf_at(shelf, UINT64_MAX) == NULL);
    for (int i = 1; i < SLOTS; i++)
        CHECK(qbb_shelf_claim(shelf, 64, &error) != 0);
    CHECK(qbb_shelf_claim(shelf, 16, &error) == 0 && error == -QBB_SHELF_FULL);
    memset(secret, 0x5a, SLOTS * SLOT_BYTES);
    qbb_shelf_clear(shelf);
    CHECK(all_zero(secret + 64, (SLOTS - 1) * SLOT_BYTES));
    CHECK(qbb_shelf_free(shelf) == SLOTS && qbb_shelf_at(shelf, second) == NULL);
}

/* The clear part of a segment of `count` keys of `length` bytes. */
static size_t compose(uint8_t *clear, unsigned count, unsigned length)
{
    size_t total = 44 + 16 * (size_t)count;
    memset(clear, 7, total);
    clear[0] = 0x45;
    clear[9] = QBB_PROTOCOL_QKDTL;
    clear[20 + 12] = 16 | 2;
    clear[40] = (uint8_t)(count >> 8), clear[41] = (uint8_t)count;
    clear[42] = (uint8_t)(length >> 8), clear[43] = (uint8_t)length;
    return total;
}

static void test_ring(void)
{
    int error;
    void *ring = calloc(1, qbb_ring_bytes());
    uint8_t clear[QBB_RING_SLOT_BYTES], back[QBB_RING_SLOT_BYTES];
    uint64_t sent[QBB_SEGMENT_KEYS_MAX], got[QBB_SEGMENT_KEYS_MAX];
    size_t count;
    qbb_ring_init(ring);
    qbb_shelf *shelf = fresh();
    for (int i = 0; i < 3; i++) {
        sent[i] = qbb_shelf_claim(shelf, 36, &error);
        memset(qbb_shelf_at(shelf, sent[i]), 0x30 + i, 36);
    }
    size_t length = compose(clear, 3, 36);
    CHECK(qbb_shelf_to_ring(shelf, ring, clear, length, sent, 3) == 0);
    CHECK(qbb_shelf_from_ring(shelf, ring, back, got, &count) == (int)length);
    CHECK(count == 3 && memcmp(clear, back, length) == 0);
    for (int i = 0; i < 3; i++) {
        CHECK(got[i] != sent[i] && qbb_shelf_length(shelf, got[i]) == 36);
        CHECK(memcmp(qbb_shelf_at(shelf, got[i]), qbb_shelf_at(shelf, sent[i]), 36) == 0);
    }
    CHECK(qbb_shelf_from_ring(shelf, ring, back, got, &count) == 0 && count == 0);
    /* Two slots are left: a packet of three keys takes none of them. */
    CHECK(qbb_shelf_free(shelf) == 2);
    CHECK(qbb_shelf_to_ring(shelf, ring, clear, length, sent, 3) == 0);
    CHECK(qbb_shelf_from_ring(shelf, ring, back, got, &count) == -QBB_SHELF_FULL);
    CHECK(count == 0 && qbb_shelf_free(shelf) == 2);
    /* A clear part that does not describe the keys never leaves, nor does a stale key or a mix of lengths. */
    CHECK(qbb_shelf_to_ring(shelf, ring, clear, length, sent, 2) == -QBB_SHELF_LAYOUT);
    CHECK(qbb_shelf_to_ring(shelf, ring, clear, length - 1, sent, 3) == -QBB_SHELF_LAYOUT);
    CHECK(qbb_shelf_to_ring(shelf, ring, clear, 30, sent, 3) == -QBB_SHELF_LAYOUT);
    length = compose(clear, 3, 32);
    CHECK(qbb_shelf_to_ring(shelf, ring, clear, length, sent, 3) == -QBB_SHELF_LAYOUT);
    length = compose(clear, 2, 26);
    uint64_t mixed[2] = { sent[0], qbb_shelf_claim(shelf, 16, &error) };
    CHECK(qbb_shelf_to_ring(shelf, ring, clear, length, mixed, 2) == -QBB_SHELF_LAYOUT);
    length = compose(clear, 1, 36);
    clear[32] = 2; /* no KEY flag */
    CHECK(qbb_shelf_to_ring(shelf, ring, clear, length, sent, 1) == -QBB_SHELF_LAYOUT);
    length = compose(clear, 1, 36);
    qbb_shelf_release(shelf, sent[0]);
    CHECK(qbb_shelf_to_ring(shelf, ring, clear, length, sent, 1) == -QBB_SHELF_STALE);
    CHECK(qbb_shelf_from_ring(shelf, ring, back, got, &count) == 0);
    /* Packets without keys pass whatever they are; a lying one from the ring takes no slot. */
    CHECK(qbb_shelf_to_ring(shelf, ring, clear, 20, NULL, 0) == 0);
    CHECK(qbb_shelf_from_ring(shelf, ring, back, got, &count) == 20 && count == 0);
    uint32_t before = qbb_shelf_free(shelf);
    uint8_t packet[200] = { 0 };
    length = compose(packet, 2, 36);
    CHECK(qbb_ring_put(ring, packet, length + 36, length) == 0);
    CHECK(qbb_ring_put(ring, packet, 50, 10) == 0);
    length = compose(packet, 9, 8);
    CHECK(qbb_ring_put(ring, packet, 200, length) == -1 || length < 200);
    CHECK(qbb_shelf_from_ring(shelf, ring, back, got, &count) == -QBB_SHELF_LAYOUT);
    CHECK(qbb_shelf_from_ring(shelf, ring, back, got, &count) == -QBB_SHELF_LAYOUT);
    length = compose(packet, 4, 15); /* too short for a key */
    CHECK(qbb_ring_put(ring, packet, length + 60, length) == 0);
    while ((error = qbb_shelf_from_ring(shelf, ring, back, got, &count)) != -QBB_SHELF_LENGTH)
        CHECK(error != 0);
    CHECK(qbb_shelf_free(shelf) == before);
    /* A full ring refuses and keeps the key. */
    length = compose(clear, 1, 36);
    for (int i = 0; i < QBB_RING_SLOTS; i++)
        CHECK(qbb_shelf_to_ring(shelf, ring, clear, length, sent + 1, 1) == 0);
    CHECK(qbb_shelf_to_ring(shelf, ring, clear, length, sent + 1, 1) == -QBB_SHELF_RING_FULL);
    CHECK(qbb_shelf_length(shelf, sent[1]) == 36);
    free(ring);
}

static void test_health(void)
{
    qbb_health health;
    uint8_t stuck[64] = { 0 }, biased[2048], good[4096];
    CHECK(qbb_health_init(&health, 0) == -1 && qbb_health_init(&health, 9) == -1);
    CHECK(qbb_health_init(&health, 8) == 0);
    CHECK(qbb_health_feed(&health, stuck, 4) == QBB_HEALTH_GOOD);
    CHECK(qbb_health_feed(&health, stuck, 1) == QBB_HEALTH_REPETITION);
    for (size_t i = 0; i < sizeof good; i++) /* every byte as often as any other, never twice in a row */
        good[i] = (uint8_t)(i * 151 + i / 256);
    CHECK(qbb_health_feed(&health, good, sizeof good) == QBB_HEALTH_REPETITION); /* a failure sticks */
    qbb_health_init(&health, 8);
    CHECK(qbb_health_feed(&health, good, sizeof good) == QBB_HEALTH_GOOD);
    for (size_t i = 0; i < sizeof biased; i++)
        biased[i] = i % 8 ? (uint8_t)(i * 151) : 3; /* an eighth of all bytes is 3 */
    qbb_health_init(&health, 8);
    CHECK(qbb_health_feed(&health, biased, sizeof biased) == QBB_HEALTH_PROPORTION);
    qbb_health_init(&health, 1);
    CHECK(qbb_health_feed(&health, biased, sizeof biased) == QBB_HEALTH_GOOD);
}

static char *noise_file(const uint8_t *bytes, size_t length)
{
    static char path[64];
    strcpy(path, "/tmp/test_shelf.XXXXXX");
    int fd = mkstemp(path);
    CHECK(fd >= 0 && write(fd, bytes, length) == (ssize_t)length);
    close(fd);
    return path;
}

static void test_random(void)
{
    uint64_t handles[SLOTS + 1];
    uint8_t noise[1024 + 48];
    qbb_shelf *shelf = fresh();
    qbb_random *random = qbb_random_new(NULL, 0);
    CHECK(random != NULL);
    CHECK(qbb_random_draw(random, shelf, 32, 3, handles) == 3);
    CHECK(memcmp(qbb_shelf_at(shelf, handles[0]), qbb_shelf_at(shelf, handles[1]), 32) != 0);
    CHECK(qbb_random_draw(random, shelf, 15, 1, handles) == -EMSGSIZE);
    CHECK(qbb_random_draw(random, shelf, 65, 1, handles) == -EMSGSIZE);
    CHECK(qbb_random_draw(random, shelf, 32, SLOTS + 1, handles) == SLOTS - 3);
    CHECK(qbb_random_draw(random, shelf, 32, 1, handles) == -ENOSPC);
    qbb_random_free(random);
    /* A hardware source: passes the start-up test, gives one key, then ends, and the generator with it. */
    for (size_t i = 0; i < sizeof noise; i++)
        noise[i] = (uint8_t)(i * 151 + i / 256);
    shelf = fresh();
    char *path = noise_file(noise, sizeof noise);
    random = qbb_random_new(path, 8);
    CHECK(random != NULL);
    CHECK(qbb_random_draw(random, shelf, 32, 2, handles) == 1);
    CHECK(qbb_random_draw(random, shelf, 32, 1, handles) == -EIO);
    CHECK(qbb_shelf_free(shelf) == SLOTS - 1);
    qbb_random_free(random);
    unlink(path);
    memset(noise, 9, sizeof noise);
    path = noise_file(noise, sizeof noise);
    CHECK(qbb_random_new(path, 8) == NULL && errno == EIO);
    unlink(path);
    CHECK(qbb_random_new("/nonexistent", 8) == NULL && errno == ENOENT);
}

static void test_send(void)
{
    int error, pair[2];
    uint8_t message[96], got[128];
    qbb_shelf *shelf = fresh();
    uint64_t handle = qbb_shelf_claim(shelf, 40, &error);
    for (int i = 0; i < 40; i++)
        qbb_shelf_at(shelf, handle)[i] = (uint8_t)(0x80 + i);
    memset(message, 1, sizeof message);
    CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair) == 0);
    CHECK(qbb_pfkey_send(pair[0], message, 96, shelf, handle, 16, 40, 0, 0) == 0);
    CHECK(recv(pair[1], got, sizeof got, 0) == 96);
    CHECK(memcmp(got, message, 16) == 0 && memcmp(got + 16, qbb_shelf_at(shelf, handle), 40) == 0 && got[56] == 1);
    CHECK(qbb_pfkey_send(pair[0], message, 96, shelf, handle, 8, 16, 72, 24) == 0);
    CHECK(recv(pair[1], got, sizeof got, 0) == 96);
    CHECK(memcmp(got + 8, qbb_shelf_at(shelf, handle), 16) == 0 && got[24] == 1 && got[71] == 1);
    CHECK(memcmp(got + 72, qbb_shelf_at(shelf, handle) + 16, 24) == 0);
    CHECK(qbb_pfkey_send(pair[0], message, 96, shelf, handle, 57, 40, 0, 0) == -EINVAL);
    CHECK(qbb_pfkey_send(pair[0], message, 96, shelf, handle, 16, 39, 0, 0) == -EINVAL);
    CHECK(qbb_pfkey_send(pair[0], message, 96, shelf, handle, 16, 20, 30, 20) == -EINVAL);
    CHECK(qbb_pfkey_send(pair[0], message, 96, shelf, handle, (size_t)-8, 40, 0, 0) == -EINVAL);
    while ((error = qbb_pfkey_send(pair[0], message, 96, shelf, handle, 16, 40, 0, 0)) == 0)
        ;
    CHECK(error == -EAGAIN);
    close(pair[1]);
    error = qbb_pfkey_send(pair[0], message, 96, shelf, handle, 16, 40, 0, 0);
    CHECK(error == -EPIPE || error == -ECONNRESET); /* reset first when the peer left messages unread */
    qbb_shelf_release(shelf, handle);
    CHECK(qbb_pfkey_send(pair[0], message, 96, shelf, handle, 16, 40, 0, 0) == -EKEYEXPIRED);
    close(pair[0]);
}

static void test_hand_over(void)
{
    int error, pair[2], audit[2], full = open("/dev/full", O_WRONLY);
    uint8_t message[96] = { 0 }, got[128], key[32];
    qbb_shelf *shelf = fresh();
    CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair) == 0 && pipe(audit) == 0 && full >= 0);
    uint64_t handle = qbb_shelf_claim(shelf, 32, &error);
    memset(qbb_shelf_at(shelf, handle), 0x77, 32);
    memset(key, 0x77, 32);
    CHECK(qbb_pfkey_hand_over(audit[1], "record", 6, pair[0], message, 96, shelf, handle, 64, 32, 0, 0) == 0);
    CHECK(recv(pair[1], got, sizeof got, 0) == 96 && memcmp(got + 64, key, 32) == 0);
    CHECK(read(audit[0], got, sizeof got) == 6 && qbb_shelf_at(shelf, handle) == NULL);
    /* No record, no key. */
    handle = qbb_shelf_claim(shelf, 32, &error);
    CHECK(qbb_pfkey_hand_over(full, "record", 6, pair[0], message, 96, shelf, handle, 64, 32, 0, 0) == 1);
    CHECK(recv(pair[1], got, sizeof got, MSG_DONTWAIT) == -1 && qbb_shelf_at(shelf, handle) == NULL);
    handle = qbb_shelf_claim(shelf, 32, &error);
    while (send(pair[0], message, sizeof message, MSG_DONTWAIT) > 0)
        ;
    CHECK(qbb_pfkey_hand_over(audit[1], "r", 1, pair[0], message, 96, shelf, handle, 64, 32, 0, 0) == -EAGAIN);
    CHECK(qbb_shelf_at(shelf, handle) != NULL);
    CHECK(qbb_shelf_free(shelf) == SLOTS - 1);
    for (int i = 0; i < 2; i++)
        close(pair[i]), close(audit[i]);
    close(full);
}

int main(void)
{
    test_sizes();
    test_stale_and_wipe();
    test_ring();
    test_health();
    test_random();
    test_send();
    test_hand_over();
    free(secret);
    free(plain);
    return 0;
}
