/* The shelf: where the keys service keeps session keys. A fixed number of slots in key memory (qbb_keymem_map), one key
 * each, 16 to 1024 bytes. Others name a key by its handle: slot number and the slot's generation, so that the handle of a
 * key that is gone is refused even when its slot holds another key by now. A slot is wiped when its key is released.
 *
 * Keys enter by qbb_shelf_from_ring (from the peer) or from a generator (io/random.h) and leave by qbb_shelf_to_ring and
 * io/pfkeysend.h: nobody copies them elsewhere. Pure. */
#ifndef QBB_SHELF_H
#define QBB_SHELF_H
#include <stddef.h>
#include <stdint.h>

/* cffi:begin */
#define QBB_KEY_MIN_BYTES 16
#define QBB_KEY_MAX_BYTES 1024
#define QBB_KEY_ID_BYTES 16
/* Keys in one QKDNL packet: a count u16 and key length u16 behind the QKDTL header, then IDs and keys. */
#define QBB_SEGMENT_KEYS_MAX 38

enum qbb_shelf_error {
    QBB_SHELF_LENGTH = 1, /* a key shorter than 16 bytes, longer than 1024 or longer than a slot */
    QBB_SHELF_FULL,       /* no slot is free */
    QBB_SHELF_STALE,      /* the handle names a key that is gone */
    QBB_SHELF_LAYOUT,     /* the packet's clear part does not describe its keys */
    QBB_SHELF_RING_FULL,
    QBB_SHELF_RING_BROKEN /* the ring skipped a malformed entry */
};

typedef struct qbb_shelf qbb_shelf;

/* Zeroed, 64-byte aligned memory that a shelf needs: `secret` is key memory, `plain` anywhere. */
size_t qbb_shelf_secret_bytes(uint32_t slots, uint32_t slot_bytes);
size_t qbb_shelf_plain_bytes(uint32_t slots);
/* NULL when slot_bytes is out of range or not a multiple of 8, or there are no slots. */
qbb_shelf *qbb_shelf_init(void *secret, void *plain, uint32_t slots, uint32_t slot_bytes);
/* A zeroed slot of `length` bytes: its handle, or 0 and -QBB_SHELF_LENGTH or _FULL in *error. */
uint64_t qbb_shelf_claim(qbb_shelf *shelf, size_t length, int *error);
/* Bytes of the key, or -QBB_SHELF_STALE. */
int qbb_shelf_length(const qbb_shelf *shelf, uint64_t handle);
/* Wipes. 0, or -QBB_SHELF_STALE. */
int qbb_shelf_release(qbb_shelf *shelf, uint64_t handle);
/* Wipes and frees all slots; every handle given out becomes stale. */
void qbb_shelf_clear(qbb_shelf *shelf);
uint32_t qbb_shelf_free(const qbb_shelf *shelf);

/* Puts the QKDNL packet clear || keys of the handles on the ring. The keys stay on the shelf. 0 or a negated error. */
int qbb_shelf_to_ring(const qbb_shelf *shelf, void *ring, const uint8_t *clear, size_t clear_length,
    const uint64_t *handles, size_t count);
/* Takes the next packet from the ring: its keys go to new slots, its clear part to `clear` (QBB_RING_SLOT_BYTES). Number
 * of clear bytes, 0 when the ring is empty, or a negated error: then the packet is gone and no slot taken. handles has
 * room for QBB_SEGMENT_KEYS_MAX. */
int qbb_shelf_from_ring(qbb_shelf *shelf, void *ring, uint8_t *clear, uint64_t *handles, size_t *count);
/* cffi:end */

/* The key's bytes in its slot, or NULL for a stale handle. */
uint8_t *qbb_shelf_at(const qbb_shelf *shelf, uint64_t handle);
#endif
