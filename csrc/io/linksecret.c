#define _GNU_SOURCE
#include "linksecret.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/sha.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "keymem.h"
#include "wipe.h"

#define DIGEST_BYTES 32

struct header {
    char magic[8];
    uint32_t version, key_length;
    uint64_t block_length;
    uint8_t digest[DIGEST_BYTES];
};
_Static_assert(sizeof(struct header) == 56, "the header has no holes");

#define FILE_BYTES(block_length) (sizeof(struct header) + QBB_LINK_SECRET_KEY_BYTES + (block_length))

static void header_fill(struct header *header, size_t block_length)
{
    memset(header, 0, sizeof *header);
    memcpy(header->magic, "QBBLINK\n", 8);
    header->version = htobe32(1);
    header->key_length = htobe32(QBB_LINK_SECRET_KEY_BYTES);
    header->block_length = htobe64(block_length);
}

static int good_length(uint64_t block_length)
{
    return block_length >= QBB_LINK_SECRET_BLOCK_MIN && block_length <= QBB_LINK_SECRET_BLOCK_MAX && block_length % 8 == 0;
}

static int fill_random(uint8_t *out, size_t length)
{
    while (length > 0) {
        ssize_t n = getrandom(out, length, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n == 0 ? -EIO : -errno;
        out += n;
        length -= (size_t)n;
    }
    return 0;
}

static int write_synced(int fd, const uint8_t *bytes, size_t length)
{
    while (length > 0) {
        ssize_t n = write(fd, bytes, length);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n == 0 ? -EIO : -errno;
        bytes += n;
        length -= (size_t)n;
    }
    return fsync(fd) == 0 ? 0 : -errno;
}

static int sync_directory_of(const char *path)
{
    char *copy = strdup(path);
    if (copy == NULL)
        return -ENOMEM;
    char *slash = strrchr(copy, '/');
    if (slash != NULL)
        slash[1] = 0;
    int fd = open(slash != NULL ? copy : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    free(copy);
    if (fd < 0)
        return -errno;
    int error = fsync(fd) == 0 ? 0 : -errno;
    close(fd);
    return error;
}

/* Header, key and block in one piece of key memory. */
static int compose(uint8_t *file, size_t block_length)
{
    struct header *header = (struct header *)file;
    header_fill(header, block_length);
    int error = fill_random(file + sizeof *header, QBB_LINK_SECRET_KEY_BYTES + block_length);
    if (error != 0)
        return error;
    uint8_t digest[DIGEST_BYTES];
    SHA256(file, FILE_BYTES(block_length), digest);
    memcpy(header->digest, digest, sizeof digest);
    return 0;
}

int qbb_link_secret_make(const char *path, size_t block_length)
{
    if (!good_length(block_length))
        return -EINVAL;
    size_t length = FILE_BYTES(block_length);
    uint8_t *file = qbb_keymem_map(length);
    if (file == NULL)
        return -errno;
    int error = compose(file, block_length);
    int fd = -1;
    if (error == 0 && (fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600)) < 0)
        error = -errno;
    if (fd >= 0) {
        error = write_synced(fd, file, length);
        if (close(fd) != 0 && error == 0)
            error = -errno;
        if (error == 0)
            error = sync_directory_of(path);
        if (error != 0)
            unlink(path);
    }
    qbb_keymem_unmap(file, length, 0);
    return error;
}

/* Reads until the end or `length` bytes; how many, or -errno. */
static ssize_t read_up_to(int fd, uint8_t *out, size_t length)
{
    size_t done = 0;
    while (done < length) {
        ssize_t n = read(fd, out + done, length - done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            break;
        done += (size_t)n;
    }
    return (ssize_t)done;
}

/* The file's block length when all of it is as it was made; -EBADMSG otherwise. */
static ssize_t verify(uint8_t *file, size_t length)
{
    struct header *header = (struct header *)file, expected;
    uint8_t said[DIGEST_BYTES], digest[DIGEST_BYTES];
    if (length < sizeof *header)
        return -EBADMSG;
    uint64_t block_length = be64toh(header->block_length);
    if (!good_length(block_length) || length != FILE_BYTES(block_length))
        return -EBADMSG;
    memcpy(said, header->digest, sizeof said);
    header_fill(&expected, block_length);
    memset(header->digest, 0, sizeof header->digest);
    SHA256(file, length, digest);
    if (memcmp(header, &expected, sizeof expected) != 0 || !qbb_equal(said, digest, sizeof said))
        return -EBADMSG;
    return (ssize_t)block_length;
}

static int take(uint8_t *file, int fd, uint8_t *key, uint8_t *block, size_t capacity, size_t *block_length)
{
    ssize_t length = read_up_to(fd, file, FILE_BYTES(QBB_LINK_SECRET_BLOCK_MAX) + 1);
    if (length < 0)
        return (int)length;
    ssize_t found = verify(file, (size_t)length);
    if (found < 0)
        return (int)found;
    if ((size_t)found > capacity)
        return -EMSGSIZE;
    memcpy(key, file + sizeof(struct header), QBB_LINK_SECRET_KEY_BYTES);
    memcpy(block, file + sizeof(struct header) + QBB_LINK_SECRET_KEY_BYTES, (size_t)found);
    *block_length = (size_t)found;
    return 0;
}

/* Nobody but its owner and root. systemd gives a unit's credential as root:root 0400 with an access list for the unit's
 * user; the list's mask is what stat shows as the group's bits. */
static int others_may_read(const struct stat *about)
{
    int list_only = about->st_uid == 0 && about->st_gid == 0 && (about->st_mode & 0777) == 0440;
    return (about->st_mode & 077) != 0 && !list_only;
}

int qbb_link_secret_read(const char *path, uint8_t *key, uint8_t *block, size_t capacity, size_t *block_length)
{
    struct stat about;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return -errno;
    size_t room = FILE_BYTES(QBB_LINK_SECRET_BLOCK_MAX) + 1;
    uint8_t *file = NULL;
    int error = 0;
    if (fstat(fd, &about) != 0)
        error = -errno;
    else if (!S_ISREG(about.st_mode))
        error = -EBADMSG;
    else if (others_may_read(&about))
        error = -EACCES;
    else if ((file = qbb_keymem_map(room)) == NULL)
        error = -errno;
    else
        error = take(file, fd, key, block, capacity, block_length);
    qbb_keymem_unmap(file, room, 0);
    close(fd);
    return error;
}
