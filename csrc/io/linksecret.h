/* The link secret: what two sites share before their link has made any key of its own. A person carries the file from one
 * site to the other.
 *
 * File, big-endian: magic "QBBLINK\n", version u32 = 1, key length u32 = 32, block length u64, SHA-256 of the whole file
 * with this field zero (32 bytes), key for the hello's HMAC, block 0 of the link's key store. Mode 0600. */
#ifndef QBB_LINKSECRET_H
#define QBB_LINKSECRET_H
#include <stddef.h>
#include <stdint.h>
/* cffi:begin */
#define QBB_LINK_SECRET_KEY_BYTES 32
#define QBB_LINK_SECRET_BLOCK_MIN 4096
#define QBB_LINK_SECRET_BLOCK_MAX 1048576
/* Makes a new file, durable when it returns 0; random bytes come from getrandom(2) and pass through key memory only.
 * -errno: -EEXIST when there is one, -EINVAL when block_length is out of range or no multiple of 8. */
int qbb_link_secret_make(const char *path, size_t block_length);
/* Reads a whole file into key memory: key (32 bytes) and block (capacity bytes; *block_length says how many). -EACCES when
 * others may read the file, -EBADMSG when it is damaged or no link secret, -EMSGSIZE when the block exceeds capacity. */
int qbb_link_secret_read(const char *path, uint8_t *key, uint8_t *block, size_t capacity, size_t *block_length);
/* cffi:end */
#endif
