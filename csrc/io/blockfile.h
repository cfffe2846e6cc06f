/* Device blocks on disk and the link log's durable appends. Key bytes go between key memory, descriptors and files
 * without passing through Python. Every function returns 0 or -errno. */
#ifndef QBB_BLOCKFILE_H
#define QBB_BLOCKFILE_H
#include <stddef.h>
#include <stdint.h>
/* cffi:begin */
/* Writes bytes to `name` under directory dir_fd: to a temporary file (0600), fdatasync, rename, fsync of the directory. When
 * it returns 0 the block is durable under its name; at any failure nothing stands under it. -EEXIST when it is there. */
int qbb_block_write(int dir_fd, const char *name, const uint8_t *bytes, size_t length);
/* Takes `length` bytes that another process put in the memory file (memfd or memfd_secret) source_fd, as above. -EBADMSG
 * when they are, or hold, a run of zeros that no key has: memory that its owner wiped before or while it was read. -EEXIST
 * when these very bytes are there under the name, -ENOTUNIQ when others are. */
int qbb_block_accept(int dir_fd, const char *name, int source_fd, size_t length);
/* Reads exactly `length` bytes into key memory; -EIO when the file is shorter or longer. */
int qbb_block_read(int dir_fd, const char *name, uint8_t *out, size_t length);
/* Reads `length` bytes at `offset` of a block; -EIO when it ends before. */
int qbb_block_read_at(int dir_fd, const char *name, uint64_t offset, uint8_t *out, size_t length);
/* Is this the fingerprint of the block (length bytes) under h? 1 or 0 (constant time), or -errno. */
int qbb_fingerprint_matches(const uint8_t expected[16], const uint8_t h[16], int dir_fd, const char *name, size_t length);
/* The fingerprint itself: secret until it is padded, so out is key memory. */
int qbb_block_fingerprint(uint8_t out[16], const uint8_t h[16], int dir_fd, const char *name, size_t length);
/* Overwrites with zeros, syncs, unlinks, syncs the directory. A missing file is success. Temporary files of a crash too. */
int qbb_block_destroy(int dir_fd, const char *name);
/* Appends and syncs (fdatasync); a short write is an error. */
int qbb_append_durable(int fd, const uint8_t *bytes, size_t length);
/* cffi:end */
#endif
