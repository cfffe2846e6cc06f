#define _GNU_SOURCE
#include "blockfile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fingerprint.h"
#include "keymem.h"
#include "wipe.h"

#define NAME_BYTES_MAX 200

/* A plain name: no path, not hidden (temporary files are). */
static int good_name(const char *name)
{
    size_t length = strlen(name);
    return length > 0 && length <= NAME_BYTES_MAX && name[0] != '.' && strchr(name, '/') == NULL;
}

static int write_all(int fd, const uint8_t *bytes, size_t length)
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
    return 0;
}

static int read_all(int fd, uint8_t *out, size_t length, uint64_t offset)
{
    for (size_t done = 0; done < length;) {
        ssize_t n = pread(fd, out + done, length - done, (off_t)(offset + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n == 0 ? -EIO : -errno;
        done += (size_t)n;
    }
    return 0;
}

/* Writes and syncs an open temporary file. */
static int fill(int fd, const uint8_t *bytes, size_t length)
{
    int error = write_all(fd, bytes, length);
    if (error == 0 && fdatasync(fd) != 0)
        error = -errno;
    if (close(fd) != 0 && error == 0)
        error = -errno;
    return error;
}

int qbb_block_write(int dir_fd, const char *name, const uint8_t *bytes, size_t length)
{
    char temporary[NAME_BYTES_MAX + 8];
    if (!good_name(name))
        return -EINVAL;
    snprintf(temporary, sizeof temporary, ".%s.tmp", name);
    /* A crash may have left one: it was never a block. */
    int fd = openat(dir_fd, temporary, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return -errno;
    int error = fill(fd, bytes, length);
    if (error == 0 && renameat2(dir_fd, temporary, dir_fd, name, RENAME_NOREPLACE) != 0)
        error = -errno;
    if (error != 0) {
        unlinkat(dir_fd, temporary, 0);
        return error;
    }
    if (fsync(dir_fd) != 0) {
        error = -errno;
        unlinkat(dir_fd, name, 0);
        return error;
    }
    return 0;
}

/* Brings the bytes of another process's memory file into our key memory. Secret memory can only be mapped; it cannot shrink
 * under the map. Any other file is read, because a map of it could be cut off while we look at it. */
static int fetch(uint8_t *out, int source_fd, size_t length)
{
    if (!qbb_keymem_is_secret(source_fd))
        return read_all(source_fd, out, length, 0);
    void *source = qbb_keymem_map_fd(source_fd, length);
    if (source == NULL)
        return errno == EINVAL ? -EIO : -errno;
    memcpy(out, source, length);
    munmap(source, length); /* unwiped: the giver keeps its block until it hears that this one is durable */
    return 0;
}

/* Is all of it zero, or 16 bytes in a row at a multiple of 8? Key has such a run once in 2^128 places. */
static int wiped(const uint8_t *bytes, size_t length)
{
    static const uint8_t zeros[16];
    if (length < sizeof zeros)
        return qbb_equal(bytes, zeros, length);
    int found = 0;
    for (size_t at = 0; at + sizeof zeros <= length; at += 8)
        found |= qbb_equal(bytes + at, zeros, sizeof zeros);
    return found;
}

/* A block's file, or -errno; *size is its length. */
static int open_block(int dir_fd, const char *name, uint64_t *size)
{
    struct stat about;
    if (!good_name(name))
        return -EINVAL;
    int fd = openat(dir_fd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    int error = fstat(fd, &about) != 0 ? -errno : S_ISREG(about.st_mode) ? 0 : -EIO;
    if (error != 0) {
        close(fd);
        return error;
    }
    *size = (uint64_t)about.st_size;
    return fd;
}

/* -EEXIST when the block has these bytes, -ENOTUNIQ when it has others. */
static int compare(int dir_fd, const char *name, const uint8_t *bytes, size_t length)
{
    uint64_t size = 0;
    int fd = open_block(dir_fd, name, &size);
    if (fd < 0)
        return fd;
    uint8_t *there = size == length ? qbb_keymem_map(length) : NULL;
    int error = size != length ? -ENOTUNIQ : there == NULL ? -errno : read_all(fd, there, length, 0);
    if (error == 0)
        error = qbb_equal(there, bytes, length) ? -EEXIST : -ENOTUNIQ;
    if (there != NULL)
        qbb_keymem_unmap(there, length, 0);
    close(fd);
    return error;
}

int qbb_block_accept(int dir_fd, const char *name, int source_fd, size_t length)
{
    uint8_t *bytes = qbb_keymem_map(length);
    if (bytes == NULL)
        return -errno;
    int error = fetch(bytes, source_fd, length);
    if (error == 0 && wiped(bytes, length))
        error = -EBADMSG;
    if (error == 0)
        error = qbb_block_write(dir_fd, name, bytes, length);
    if (error == -EEXIST)
        error = compare(dir_fd, name, bytes, length);
    qbb_keymem_unmap(bytes, length, 0);
    return error;
}

static int read_block(int dir_fd, const char *name, uint64_t offset, uint8_t *out, size_t length, int whole)
{
    uint64_t size = 0;
    int fd = open_block(dir_fd, name, &size);
    if (fd < 0)
        return fd;
    int error = -EIO;
    if (whole ? size == length : offset <= size && length <= size - offset)
        error = read_all(fd, out, length, offset);
    /* The page cache needs no copy of what will be read once. */
    posix_fadvise(fd, (off_t)offset, (off_t)length, POSIX_FADV_DONTNEED);
    close(fd);
    return error;
}

int qbb_block_read(int dir_fd, const char *name, uint8_t *out, size_t length)
{
    return read_block(dir_fd, name, 0, out, length, 1);
}

int qbb_block_read_at(int dir_fd, const char *name, uint64_t offset, uint8_t *out, size_t length)
{
    return read_block(dir_fd, name, offset, out, length, 0);
}

int qbb_block_fingerprint(uint8_t out[16], const uint8_t h[16], int dir_fd, const char *name, size_t length)
{
    uint8_t *bytes = qbb_keymem_map(length);
    if (bytes == NULL)
        return -errno;
    int error = qbb_block_read(dir_fd, name, bytes, length);
    if (error == 0)
        qbb_fingerprint(out, h, bytes, length);
    qbb_keymem_unmap(bytes, length, 0);
    return error;
}

int qbb_fingerprint_matches(const uint8_t expected[16], const uint8_t h[16], int dir_fd, const char *name, size_t length)
{
    uint8_t found[16];
    int error = qbb_block_fingerprint(found, h, dir_fd, name, length);
    int equal = error == 0 && qbb_equal(found, expected, sizeof found);
    qbb_wipe(found, sizeof found);
    return error != 0 ? error : equal;
}

static int overwrite(int fd)
{
    static const uint8_t zeros[65536];
    struct stat about;
    if (fstat(fd, &about) != 0)
        return -errno;
    for (off_t left = about.st_size; left > 0;) {
        size_t step = left < (off_t)sizeof zeros ? (size_t)left : sizeof zeros;
        int error = write_all(fd, zeros, step);
        if (error != 0)
            return error;
        left -= (off_t)step;
    }
    return fdatasync(fd) == 0 ? 0 : -errno;
}

int qbb_block_destroy(int dir_fd, const char *name)
{
    /* What a crash left half written is hidden, and is to go. */
    if (!good_name(name[0] == '.' ? name + 1 : name))
        return -EINVAL;
    int fd = openat(dir_fd, name, O_WRONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd >= 0) {
        int error = overwrite(fd);
        close(fd);
        if (error != 0)
            return error;
        if (unlinkat(dir_fd, name, 0) != 0)
            return -errno;
    } else if (errno != ENOENT) {
        return -errno;
    }
    /* Also when it was missing: an unlink before a crash may not be durable yet. */
    return fsync(dir_fd) == 0 ? 0 : -errno;
}

int qbb_append_durable(int fd, const uint8_t *bytes, size_t length)
{
    ssize_t n = write(fd, bytes, length);
    if (n < 0)
        return -errno;
    if ((size_t)n != length)
        return -EIO;
    return fdatasync(fd) == 0 ? 0 : -errno;
}
