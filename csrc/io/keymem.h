/* Key memory: memfd_secret where the kernel has it, else locked anonymous memory; never in core dumps, never swapped. */
#ifndef QBB_KEYMEM_H
#define QBB_KEYMEM_H
#include <stddef.h>
#include <stdint.h>
/* cffi:begin */
/* Zeroed pages, rounded up; NULL with errno when they cannot be had locked. */
void *qbb_keymem_map(size_t length);
/* The same pages twice in a row: [0, 2 * length); length a multiple of the page size. */
void *qbb_keymem_map_mirrored(size_t length);
/* A descriptor that other processes may map (for the ring between data plane and keys service), and its mapping. */
void *qbb_keymem_map_shared(size_t length, int *fd);
void *qbb_keymem_map_fd(int fd, size_t length);
/* Wipes, then unmaps. mirrored says how it was mapped. */
void qbb_keymem_unmap(void *memory, size_t length, int mirrored);
/* Unmaps alone: for shared memory that another process may be about to read. The kernel clears the pages of a memfd_secret
 * when the last descriptor and mapping are gone. */
void qbb_keymem_forget(void *memory, size_t length);
/* "memfd_secret" or "mlock". */
const char *qbb_keymem_kind(void);
/* No core dumps, no ptrace, no setuid surprises for this process: PR_SET_DUMPABLE 0, RLIMIT_CORE 0. */
int qbb_process_harden(void);
/* cffi:end */
/* Is this descriptor a memfd_secret (mapped only, never shrunk)? For the rest of csrc/io. */
int qbb_keymem_is_secret(int fd);
#endif
