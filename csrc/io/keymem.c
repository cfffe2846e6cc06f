#define _GNU_SOURCE
#include "keymem.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "wipe.h"

#ifndef SECRETMEM_MAGIC
#define SECRETMEM_MAGIC 0x5345434d
#endif

static size_t whole_pages(size_t length)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    return (length + page - 1) / page * page;
}

/* memfd_secret takes the pages out of the kernel's own map as well; it is missing before Linux 5.14, and where it is
 * switched off (ENOSYS) or filtered (EPERM). */
static int secret_descriptor(void)
{
#ifdef SYS_memfd_secret
    return (int)syscall(SYS_memfd_secret, O_CLOEXEC);
#else
    errno = ENOSYS;
    return -1;
#endif
}

int qbb_keymem_is_secret(int fd)
{
    struct statfs about;
    return fstatfs(fd, &about) == 0 && about.f_type == SECRETMEM_MAGIC;
}

/* Memory behind a descriptor, of a size that nobody can shrink any more: a shrunk file would kill whoever maps it. */
static int key_descriptor(size_t length)
{
    int fd = secret_descriptor();
    if (fd >= 0) { /* its size is set once; the kernel refuses a second time */
        if (ftruncate(fd, (off_t)length) == 0)
            return fd;
    } else {
        fd = memfd_create("qbb-key", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        if (fd < 0)
            return -1;
        if (ftruncate(fd, (off_t)length) == 0
            && fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0)
            return fd;
    }
    int error = errno;
    close(fd);
    errno = error;
    return -1;
}

/* Locks a fresh mapping and keeps it out of core dumps and of children. Secret memory is locked by its nature, and mlock
 * refuses it. */
static int protect(void *memory, size_t length, int secret)
{
    if (!secret && mlock(memory, length) != 0)
        return -1;
    if (madvise(memory, length, MADV_DONTDUMP) != 0 || madvise(memory, length, MADV_DONTFORK) != 0)
        return -1;
    return 0;
}

/* The descriptor's pages, `times` in a row. */
static void *map_descriptor(int fd, size_t length, int times)
{
    size_t total = length * (size_t)times;
    uint8_t *memory = mmap(NULL, total, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        return NULL;
    for (int i = 0; i < times; i++)
        if (mmap(memory + (size_t)i * length, length, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) == MAP_FAILED)
            goto failed;
    if (protect(memory, total, qbb_keymem_is_secret(fd)) == 0)
        return memory;
failed:;
    int error = errno;
    munmap(memory, total);
    errno = error;
    return NULL;
}

static void *map_new(size_t length, int times, int *fd_out)
{
    if (length == 0) {
        errno = EINVAL;
        return NULL;
    }
    int fd = key_descriptor(length);
    if (fd < 0)
        return NULL;
    void *memory = map_descriptor(fd, length, times);
    int error = errno;
    if (memory != NULL && fd_out != NULL)
        *fd_out = fd;
    else
        close(fd);
    errno = error;
    return memory;
}

void *qbb_keymem_map(size_t length)
{
    return map_new(whole_pages(length), 1, NULL);
}

void *qbb_keymem_map_mirrored(size_t length)
{
    if (length != whole_pages(length)) {
        errno = EINVAL;
        return NULL;
    }
    return map_new(length, 2, NULL);
}

void *qbb_keymem_map_shared(size_t length, int *fd)
{
    return map_new(whole_pages(length), 1, fd);
}

void *qbb_keymem_map_fd(int fd, size_t length)
{
    struct stat about;
    if (fstat(fd, &about) != 0)
        return NULL;
    int seals = qbb_keymem_is_secret(fd) ? F_SEAL_SHRINK : fcntl(fd, F_GET_SEALS);
    if (seals < 0)
        return NULL;
    if (length == 0 || (uint64_t)about.st_size < whole_pages(length) || !(seals & F_SEAL_SHRINK)) {
        errno = EINVAL;
        return NULL;
    }
    return map_descriptor(fd, whole_pages(length), 1);
}

void qbb_keymem_unmap(void *memory, size_t length, int mirrored)
{
    if (memory == NULL)
        return;
    length = whole_pages(length);
    qbb_wipe(memory, length);
    qbb_wipe_registers();
    munmap(memory, mirrored ? 2 * length : length);
}

void qbb_keymem_forget(void *memory, size_t length)
{
    munmap(memory, whole_pages(length));
}

const char *qbb_keymem_kind(void)
{
    int fd = secret_descriptor();
    if (fd < 0)
        return "mlock";
    close(fd);
    return "memfd_secret";
}

int qbb_process_harden(void)
{
    struct rlimit no_core = {0, 0};
    if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0 || setrlimit(RLIMIT_CORE, &no_core) != 0
        || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return -errno;
    return 0;
}
