/* Memory for tests and benchmarks: zeroed and aligned, and mirrored as the key buffers need it (io/keymem.h without the
 * locking, so that many ends fit under any limit); repeatable random numbers. */
#ifndef QBB_MIRROR_H
#define QBB_MIRROR_H
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static inline void *zeroed(size_t bytes)
{
    void *memory = NULL;
    if (posix_memalign(&memory, 64, bytes + 64) != 0)
        abort();
    return memset(memory, 0, bytes + 64);
}

static inline uint8_t *mirrored(size_t bytes)
{
    int fd = memfd_create("mirror", MFD_CLOEXEC);
    uint8_t *memory = mmap(NULL, 2 * bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (fd < 0 || memory == MAP_FAILED || ftruncate(fd, (off_t)bytes) != 0)
        abort();
    for (int half = 0; half < 2; half++)
        if (mmap(memory + (size_t)half * bytes, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) == MAP_FAILED)
            abort();
    close(fd);
    return memory;
}

static inline void unmirrored(uint8_t *memory, size_t bytes)
{
    munmap(memory, 2 * bytes);
}

static inline int all_zero(const void *memory, size_t length)
{
    const uint8_t *bytes = memory;
    for (size_t i = 0; i < length; i++)
        if (bytes[i])
            return 0;
    return 1;
}

/* Repeatable pseudo-random numbers (xorshift64*). */
static inline uint64_t next_random(uint64_t *state)
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * 0x2545f4914f6cdd1du;
}
#endif
