/* That what is called durable is: a machine that loses power at any moment keeps what was synced, and no more.
 *
 * The calls that make things durable, and those that change names, are caught here on their way to the kernel. A file's
 * content counts as kept from its last fdatasync or fsync on, a name from the last fsync of its directory on. (A real disk
 * may keep more; nothing may rest on that.) */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "blockfile.h"
#include "check.h"

#define FILES 16
#define BYTES 10000

/* A file as the disk has it after a loss of power. */
typedef struct {
    ino_t inode;
    size_t length;
    uint8_t bytes[2 * BYTES];
} kept_file;

static kept_file files[FILES];
static int kept_files, directory, failing_sync;
static ino_t kept_name; /* what "block" stands for on the disk; 0: nothing */
static int renames, unlinks;

static kept_file *kept(ino_t inode)
{
    for (int i = 0; i < kept_files; i++)
        if (files[i].inode == inode)
            return files + i;
    CHECK(kept_files < FILES);
    files[kept_files].inode = inode;
    return files + kept_files++;
}

static ino_t inode_of(const char *name)
{
    struct stat about;
    return fstatat(directory, name, &about, AT_SYMLINK_NOFOLLOW) == 0 ? about.st_ino : 0;
}

static int keep(int fd)
{
    char path[64];
    struct stat about;
    if (failing_sync) {
        errno = EIO;
        return -1;
    }
    CHECK(fstat(fd, &about) == 0);
    if (S_ISDIR(about.st_mode)) {
        kept_name = inode_of("block");
        return 0;
    }
    kept_file *file = kept(about.st_ino);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    int again = open(path, O_RDONLY | O_CLOEXEC);
    CHECK(again >= 0 && (size_t)about.st_size <= sizeof file->bytes);
    file->length = (size_t)about.st_size;
    CHECK(read(again, file->bytes, file->length) == about.st_size);
    close(again);
    return 0;
}

int fdatasync(int fd)
{
    return keep(fd);
}

int fsync(int fd)
{
    return keep(fd);
}

/* From here on the name may be on the disk at any time: what it stands for must be there already. */
int renameat2(int from_fd, const char *from, int to_fd, const char *to, unsigned flags)
{
    struct stat about;
    CHECK(fstatat(from_fd, from, &about, 0) == 0);
    CHECK_EQUAL(kept(about.st_ino)->length, about.st_size);
    renames++;
    return (int)syscall(SYS_renameat2, from_fd, from, to_fd, to, flags);
}

/* From here on the disk may give the place to others: no key may be left there. */
int unlinkat(int dir_fd, const char *name, int flags)
{
    struct stat about;
    if (strcmp(name, "block") == 0 && fstatat(dir_fd, name, &about, 0) == 0 && !failing_sync) {
        kept_file *file = kept(about.st_ino);
        for (size_t i = 0; i < file->length; i++)
            CHECK_EQUAL(file->bytes[i], 0);
        unlinks++;
    }
    return (int)syscall(SYS_unlinkat, dir_fd, name, flags);
}

static void a_block_is_durable_when_it_is_told(const uint8_t *bytes)
{
    CHECK_EQUAL(qbb_block_write(directory, "block", bytes, BYTES), 0);
    CHECK_EQUAL(renames, 1);
    CHECK(kept_name != 0 && kept_name == inode_of("block"));
    CHECK_EQUAL(kept(kept_name)->length, BYTES);
    CHECK(memcmp(kept(kept_name)->bytes, bytes, BYTES) == 0);
}

static void a_destroyed_block_is_gone_from_the_disk(void)
{
    CHECK_EQUAL(qbb_block_destroy(directory, "block"), 0);
    CHECK_EQUAL(unlinks, 1);
    CHECK_EQUAL(kept_name, 0);
}

static void a_record_is_durable_when_it_is_told(const uint8_t *bytes)
{
    int log = openat(directory, "log", O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    ino_t inode = inode_of("log");
    for (size_t length = 100; length <= 400; length += 100) {
        CHECK_EQUAL(qbb_append_durable(log, bytes, 100), 0);
        CHECK_EQUAL(kept(inode)->length, length);
        CHECK(memcmp(kept(inode)->bytes + length - 100, bytes, 100) == 0);
    }
    failing_sync = 1;
    CHECK_EQUAL(qbb_append_durable(log, bytes, 100), -EIO);
    failing_sync = 0;
    close(log);
    CHECK(unlinkat(directory, "log", 0) == 0);
}

static void a_failed_sync_leaves_no_block(const uint8_t *bytes)
{
    failing_sync = 1;
    CHECK_EQUAL(qbb_block_write(directory, "block", bytes, BYTES), -EIO);
    failing_sync = 0;
    CHECK_EQUAL(renames, 1);
    CHECK_EQUAL(inode_of("block"), 0);
}

int main(void)
{
    static uint8_t bytes[BYTES];
    char path[] = "/tmp/qbb-test-XXXXXX";
    CHECK(mkdtemp(path) != NULL);
    directory = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    for (int i = 0; i < BYTES; i++)
        bytes[i] = (uint8_t)(1 + i % 255);
    a_block_is_durable_when_it_is_told(bytes);
    a_destroyed_block_is_gone_from_the_disk();
    a_record_is_durable_when_it_is_told(bytes);
    a_failed_sync_leaves_no_block(bytes);
    close(directory);
    CHECK(rmdir(path) == 0);
    return 0;
}
