/* The locked ring between the data plane and the keys service: two single-producer single-consumer queues of QKDNL
 * packets in memory that both map (qbb_keymem_map_shared). Slots are wiped as they are taken. Pure: waking the other
 * side (eventfd) is the caller's. A hostile or dead peer can break the contents, never the bounds: lengths are checked on
 * every take. */
#ifndef QBB_SHMRING_H
#define QBB_SHMRING_H
#include <stddef.h>
#include <stdint.h>
/* cffi:begin */
#define QBB_RING_SLOTS 512
#define QBB_RING_SLOT_BYTES 1536
/* Bytes of one ring; the shared mapping holds two: [0] data plane to keys, [1] keys to data plane. */
size_t qbb_ring_bytes(void);
void qbb_ring_init(void *ring);
/* 0, or -1 when full or longer than a slot holds. `clear`: leading bytes that are not key. */
int qbb_ring_put(void *ring, const uint8_t *packet, size_t length, size_t clear);
/* The same with packet XOR pad written straight to the slot (pad covers [clear, length)). */
int qbb_ring_put_padded(void *ring, const uint8_t *packet, size_t length, size_t clear, const uint8_t *pad);
/* Bytes copied to out (at least QBB_RING_SLOT_BYTES), its slot wiped; 0 when empty; -1 when the entry was malformed (and
 * skipped). */
int qbb_ring_take(void *ring, uint8_t *out, size_t *clear);
/* cffi:end */
#endif
