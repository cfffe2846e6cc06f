/* The link secret's file and a simulated device's blocks: made, read back, refused when damaged. Exits 0 when all holds. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"
#include "expand.h"
#include "linksecret.h"

#define BLOCK 4096
#define HEADER 56
#define FILE_BYTES (HEADER + 32 + BLOCK)

static uint8_t file[FILE_BYTES], key[32], block[BLOCK];

static void load(const char *path)
{
    int fd = open(path, O_RDONLY);
    CHECK(fd >= 0 && read(fd, file, sizeof file) == FILE_BYTES);
    close(fd);
}

static void store(const char *path, const uint8_t *bytes, size_t length)
{
    int fd = open(path, O_WRONLY | O_TRUNC);
    CHECK(fd >= 0 && write(fd, bytes, length) == (ssize_t)length);
    close(fd);
}

static int again(const char *path, size_t capacity)
{
    size_t length = 0;
    return qbb_link_secret_read(path, key, block, capacity, &length);
}

static void made_and_read(const char *path)
{
    struct stat about;
    size_t length = 0;
    CHECK(qbb_link_secret_make(path, BLOCK) == 0);
    CHECK(stat(path, &about) == 0 && (about.st_mode & 07777) == 0600 && about.st_size == FILE_BYTES);
    CHECK(qbb_link_secret_make(path, BLOCK) == -EEXIST);
    load(path);
    CHECK(qbb_link_secret_read(path, key, block, BLOCK, &length) == 0 && length == BLOCK);
    CHECK(memcmp(key, file + HEADER, 32) == 0 && memcmp(block, file + HEADER + 32, BLOCK) == 0);
    CHECK(again(path, BLOCK - 8) == -EMSGSIZE);
}

static void damage_is_seen(const char *path)
{
    for (size_t at = 0; at < FILE_BYTES; at += at < HEADER ? 1 : 97) {
        file[at] ^= 0x20;
        store(path, file, FILE_BYTES);
        CHECK(again(path, BLOCK) == -EBADMSG);
        file[at] ^= 0x20;
    }
    for (size_t length = 0; length < FILE_BYTES; length += 41) {
        store(path, file, length);
        CHECK(again(path, BLOCK) == -EBADMSG);
    }
    store(path, file, FILE_BYTES);
    CHECK(again(path, BLOCK) == 0);
    CHECK(chmod(path, 0640) == 0 && again(path, BLOCK) == -EACCES);
    if (geteuid() == 0) /* a credential of systemd's for one user: 0400 and an access list */
        CHECK(chmod(path, 0440) == 0 && again(path, BLOCK) == 0 && chown(path, 1, 0) == 0 && again(path, BLOCK) == -EACCES);
}

static void wrong_requests(const char *path)
{
    CHECK(qbb_link_secret_make(path, BLOCK - 8) == -EINVAL);
    CHECK(qbb_link_secret_make(path, BLOCK + 4) == -EINVAL);
    CHECK(qbb_link_secret_make(path, QBB_LINK_SECRET_BLOCK_MAX + 8) == -EINVAL);
    CHECK(qbb_link_secret_make("/nonexistent/secret", BLOCK) == -ENOENT);
    CHECK(again(path, BLOCK) == -ENOENT);
    CHECK(again("/dev/zero", BLOCK) == -EBADMSG);
}

static void blocks_are_expanded(void)
{
    static const uint8_t seed[QBB_SEED_BYTES] = {1}, other_seed[QBB_SEED_BYTES] = {2};
    uint8_t one[1000], same[1000], other[1000];
    CHECK(qbb_expand(one, sizeof one, seed) == 0 && qbb_expand(same, sizeof same, seed) == 0);
    CHECK(qbb_expand(other, sizeof other, other_seed) == 0);
    CHECK(memcmp(one, same, sizeof one) == 0 && memcmp(one, other, sizeof one) != 0);
    qbb_expand_flip(same, sizeof same, 8 * sizeof same + 7);
    CHECK((one[0] ^ same[0]) == 0x80 && memcmp(one + 1, same + 1, sizeof one - 1) == 0);
    qbb_expand_flip(same, 0, 3);
    qbb_expand_pattern(one, sizeof one, (const uint8_t *)"abc", 3);
    CHECK(memcmp(one + 996, "abca", 4) == 0);
    qbb_expand_pattern(same, sizeof same, NULL, 0);
}

int main(void)
{
    char directory[] = "/tmp/qbb-linksecret-XXXXXX", path[64];
    CHECK(mkdtemp(directory) != NULL);
    snprintf(path, sizeof path, "%s/secret", directory);
    wrong_requests(path);
    made_and_read(path);
    damage_is_seen(path);
    blocks_are_expanded();
    CHECK(unlink(path) == 0 && rmdir(directory) == 0);
    return 0;
}
