/* Key memory, block files and HMAC against the real kernel and file system. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "blockfile.h"
#include "check.h"
#include "fingerprint.h"
#include "hmac.h"
#include "keymem.h"
#include "wipe.h"

#define BYTES 100000

static void mirrored_memory_is_one(void)
{
    uint8_t *memory = qbb_keymem_map_mirrored(8192);
    CHECK(memory != NULL);
    memory[8191] = 1;
    CHECK_EQUAL(memory[2 * 8192 - 1], 1);
    memory[8192] = 2;
    CHECK_EQUAL(memory[0], 2);
    qbb_keymem_unmap(memory, 8192, 1);
    CHECK(qbb_keymem_map_mirrored(5000) == NULL && errno == EINVAL);
    CHECK(qbb_keymem_map(0) == NULL && errno == EINVAL);
}

static void shared_memory_cannot_be_cut_off(void)
{
    int fd = -1, loose = memfd_create("loose", MFD_CLOEXEC);
    uint8_t *mine = qbb_keymem_map_shared(5000, &fd), *theirs = qbb_keymem_map_fd(fd, 5000);
    CHECK(mine != NULL && theirs != NULL);
    mine[4999] = 9;
    CHECK_EQUAL(theirs[4999], 9);
    CHECK(ftruncate(fd, 0) != 0);
    CHECK(qbb_keymem_map_fd(fd, 10000) == NULL && errno == EINVAL);
    CHECK(ftruncate(loose, 8192) == 0);
    CHECK(qbb_keymem_map_fd(loose, 8192) == NULL); /* no seal: its owner could shrink it under us */
    qbb_keymem_unmap(theirs, 5000, 0);
    CHECK_EQUAL(mine[4999], 0);
    qbb_keymem_unmap(mine, 5000, 0);
    close(fd);
    close(loose);
}

/* In a child, because it cannot be taken back. */
static void hardening(void)
{
    int status;
    pid_t child = fork();
    if (child == 0)
        _exit(qbb_process_harden() == 0 ? 0 : 1);
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

#ifdef __x86_64__
__attribute__((target("avx512f"))) static void high_registers(void)
{
    uint8_t secret[64], found[64];
    memset(secret, 0x5a, sizeof secret);
    __asm__ __volatile__("vmovdqu64 %0, %%zmm21" : : "m"(secret) : "xmm21");
    qbb_wipe_registers();
    __asm__ __volatile__("vmovdqu64 %%zmm21, %0" : "=m"(found));
    for (size_t i = 0; i < sizeof found; i++)
        CHECK_EQUAL(found[i], 0);
}

static void registers(void)
{
    uint8_t secret[16], found[16];
    memset(secret, 0x5a, sizeof secret);
    __asm__ __volatile__("movdqu %0, %%xmm5" : : "m"(secret) : "xmm5");
    qbb_wipe_registers();
    __asm__ __volatile__("movdqu %%xmm5, %0" : "=m"(found));
    for (size_t i = 0; i < sizeof found; i++)
        CHECK_EQUAL(found[i], 0);
    if (__builtin_cpu_supports("avx512f"))
        high_registers();
}
#else
static void registers(void)
{
    qbb_wipe_registers();
}
#endif

static int entries(int directory)
{
    int count = 0;
    DIR *list = fdopendir(openat(directory, ".", O_RDONLY | O_DIRECTORY));
    CHECK(list != NULL);
    while (readdir(list) != NULL)
        count++;
    closedir(list);
    return count - 2;
}

static void blocks(int directory)
{
    uint8_t *bytes = qbb_keymem_map(BYTES), *back = qbb_keymem_map(BYTES), found[16], h[16] = {4};
    struct stat about;
    for (int i = 0; i < BYTES; i++)
        bytes[i] = (uint8_t)(i * 7 >> 3);
    CHECK_EQUAL(qbb_block_write(directory, "b1", bytes, BYTES), 0);
    CHECK_EQUAL(qbb_block_write(directory, "b1", bytes, BYTES), -EEXIST);
    CHECK_EQUAL(entries(directory), 1); /* no temporary file stays */
    CHECK(fstatat(directory, "b1", &about, 0) == 0);
    CHECK_EQUAL(about.st_mode & 0777, 0600);
    CHECK_EQUAL(qbb_block_read(directory, "b1", back, BYTES), 0);
    CHECK(memcmp(bytes, back, BYTES) == 0);
    CHECK_EQUAL(qbb_block_read(directory, "b1", back, BYTES - 1), -EIO);
    CHECK_EQUAL(qbb_block_read(directory, "b2", back, BYTES), -ENOENT);
    CHECK_EQUAL(qbb_block_read_at(directory, "b1", 99990, back, 10), 0);
    CHECK(memcmp(bytes + 99990, back, 10) == 0);
    CHECK_EQUAL(qbb_block_read_at(directory, "b1", 99991, back, 10), -EIO);
    CHECK_EQUAL(qbb_block_read_at(directory, "b1", UINT64_MAX, back, 10), -EIO);
    qbb_fingerprint(found, h, bytes, BYTES);
    CHECK_EQUAL(qbb_fingerprint_matches(found, h, directory, "b1", BYTES), 1);
    found[0] ^= 1;
    CHECK_EQUAL(qbb_fingerprint_matches(found, h, directory, "b1", BYTES), 0);
    static const char *const bad[] = {"", ".", "..", "../b1", "a/b", ".b1.tmp"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        CHECK_EQUAL(qbb_block_write(directory, bad[i], bytes, 8), -EINVAL);
        if (strcmp(bad[i], ".b1.tmp") != 0)
            CHECK_EQUAL(qbb_block_destroy(directory, bad[i]), -EINVAL);
    }
    /* What a crash in the middle of a write leaves is no block, but it can be destroyed. */
    int half = openat(directory, ".b3.tmp", O_WRONLY | O_CREAT, 0600);
    CHECK(half >= 0 && write(half, bytes, 100) == 100 && close(half) == 0);
    CHECK_EQUAL(qbb_block_destroy(directory, ".b3.tmp"), 0);
    CHECK(faccessat(directory, ".b3.tmp", F_OK, 0) != 0);
    CHECK(symlinkat("b1", directory, "link") == 0);
    CHECK_EQUAL(qbb_block_read(directory, "link", back, BYTES), -ELOOP);
    CHECK(unlinkat(directory, "link", 0) == 0);

    /* Destroying overwrites what another name of the file still shows. */
    CHECK(linkat(directory, "b1", directory, "other", 0) == 0);
    CHECK_EQUAL(qbb_block_destroy(directory, "b1"), 0);
    CHECK_EQUAL(qbb_block_destroy(directory, "b1"), 0);
    CHECK_EQUAL(qbb_block_read(directory, "other", back, BYTES), 0);
    for (int i = 0; i < BYTES; i++)
        CHECK_EQUAL(back[i], 0);
    CHECK_EQUAL(qbb_block_destroy(directory, "other"), 0);
    qbb_keymem_unmap(bytes, BYTES, 0);
    qbb_keymem_unmap(back, BYTES, 0);
}

static void accepting(int directory)
{
    int fds[2];
    uint8_t *secret = qbb_keymem_map_shared(BYTES, &fds[0]), *back = qbb_keymem_map(BYTES);
    fds[1] = memfd_create("plain", MFD_CLOEXEC);
    memset(secret, 0x42, BYTES);
    CHECK(write(fds[1], secret, BYTES) == BYTES);
    for (int i = 0; i < 2; i++) {
        CHECK_EQUAL(qbb_block_accept(directory, "a", fds[i], BYTES), 0);
        CHECK_EQUAL(qbb_block_read(directory, "a", back, BYTES), 0);
        CHECK(back[0] == 0x42 && back[BYTES - 1] == 0x42);
        CHECK_EQUAL(qbb_block_accept(directory, "a", fds[i], BYTES), -EEXIST);
        CHECK_EQUAL(secret[0], 0x42); /* the giver still has it */
        CHECK_EQUAL(qbb_block_accept(directory, "a", fds[i], BYTES - 8), -ENOTUNIQ);
        CHECK_EQUAL(pwrite(fds[1], "C", 1, 7), 1);
        secret[7] = 'C';
        CHECK_EQUAL(qbb_block_accept(directory, "a", fds[i], BYTES), -ENOTUNIQ);
        secret[7] = 0x42;
        CHECK_EQUAL(pwrite(fds[1], secret, 8, 0), 8);
        CHECK_EQUAL(qbb_block_destroy(directory, "a"), 0);
        CHECK_EQUAL(qbb_block_accept(directory, "a", fds[i], BYTES * 3), -EIO);
        CHECK_EQUAL(entries(directory), 0);
        close(fds[i]);
    }
    qbb_keymem_unmap(secret, BYTES, 0);
    qbb_keymem_unmap(back, BYTES, 0);
}

/* What its owner wipes while it is read shows as zeros from some word to some other. */
static void no_wiped_memory(int directory)
{
    static const struct {
        size_t from, to;
        int error;
    } spans[] = {{0, BYTES, -EBADMSG}, {0, 16, -EBADMSG}, {BYTES - 16, BYTES, -EBADMSG}, {5000, 9000, -EBADMSG},
        {0, 15, 0}, {8, 23, 0}, {100, 108, 0}};
    int fd = -1;
    uint8_t *shared = qbb_keymem_map_shared(BYTES, &fd);
    for (size_t i = 0; i < sizeof spans / sizeof *spans; i++) {
        memset(shared, 0x42, BYTES);
        memset(shared + spans[i].from, 0, spans[i].to - spans[i].from);
        CHECK_EQUAL(qbb_block_accept(directory, "w", fd, BYTES), spans[i].error);
        CHECK_EQUAL(entries(directory), spans[i].error == 0);
        CHECK_EQUAL(qbb_block_destroy(directory, "w"), 0);
    }
    memset(shared, 0, 8);
    CHECK_EQUAL(qbb_block_accept(directory, "w", fd, 8), -EBADMSG);
    memset(shared, 0x42, BYTES);
    qbb_keymem_forget(shared, BYTES);
    CHECK_EQUAL(qbb_block_accept(directory, "w", fd, BYTES), 0); /* what its owner only gave back is whole */
    CHECK_EQUAL(qbb_block_destroy(directory, "w"), 0);
    close(fd);
}

static void appending(int directory)
{
    struct stat about;
    int fd = openat(directory, "log", O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    CHECK_EQUAL(qbb_append_durable(fd, (const uint8_t *)"abc", 3), 0);
    CHECK_EQUAL(qbb_append_durable(fd, (const uint8_t *)"de", 2), 0);
    CHECK(fstat(fd, &about) == 0 && about.st_size == 5);
    close(fd);
    CHECK_EQUAL(qbb_append_durable(fd, (const uint8_t *)"f", 1), -EBADF);
    int full = open("/dev/full", O_WRONLY | O_CLOEXEC);
    CHECK_EQUAL(qbb_append_durable(full, (const uint8_t *)"f", 1), -ENOSPC);
    close(full);
    CHECK(unlinkat(directory, "log", 0) == 0);
}

/* RFC 4231, test case 2. */
static void hmac(void)
{
    static const uint8_t expected[] = {0x5b, 0xdc, 0xc1, 0x46, 0xbf, 0x60, 0x75, 0x4e, 0x6a, 0x04, 0x24, 0x26, 0x08, 0x95,
        0x75, 0xc7, 0x5a, 0x00, 0x3f, 0x08, 0x9d, 0x27, 0x39, 0x83, 0x9d, 0xec, 0x58, 0xb9, 0x64, 0xec, 0x38, 0x43};
    const char *data = "what do ya want for nothing?";
    uint8_t out[32];
    CHECK_EQUAL(qbb_hmac_sha256(out, (const uint8_t *)"Jefe", 4, (const uint8_t *)data, strlen(data)), 0);
    CHECK(memcmp(out, expected, 32) == 0);
    CHECK_EQUAL(qbb_hmac_sha256(out, (const uint8_t *)"", 0, (const uint8_t *)data, 1), -1);
}

int main(void)
{
    char path[] = "/tmp/qbb-test-XXXXXX";
    CHECK(mkdtemp(path) != NULL);
    int directory = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    mirrored_memory_is_one();
    shared_memory_cannot_be_cut_off();
    hardening();
    registers();
    blocks(directory);
    accepting(directory);
    no_wiped_memory(directory);
    appending(directory);
    hmac();
    close(directory);
    CHECK(rmdir(path) == 0);
    return 0;
}
