#include "shmring.h"

#include <string.h>

#include "pad.h"
#include "wipe.h"

/* head counts packets put, tail packets taken, both without end; they differ by at most QBB_RING_SLOTS. Each is written
 * by one side alone and has a cache line of its own. Everything here may be rewritten by the other process at any moment:
 * a value is read once, checked, and only the checked copy is used. */
typedef struct {
    uint32_t length, clear;
    uint8_t bytes[QBB_RING_SLOT_BYTES];
} ring_slot;

typedef struct {
    uint32_t head __attribute__((aligned(64)));
    uint32_t tail __attribute__((aligned(64)));
    ring_slot slots[QBB_RING_SLOTS] __attribute__((aligned(64)));
} shm_ring;

_Static_assert((QBB_RING_SLOTS & (QBB_RING_SLOTS - 1)) == 0, "slots are found by a mask");

size_t qbb_ring_bytes(void)
{
    return sizeof(shm_ring);
}

void qbb_ring_init(void *ring)
{
    qbb_wipe(ring, sizeof(shm_ring));
}

/* The producer's next slot, or NULL when the packet does not fit or the ring is full. */
static ring_slot *free_slot(shm_ring *ring, size_t length, size_t clear)
{
    uint32_t head = __atomic_load_n(&ring->head, __ATOMIC_RELAXED);
    uint32_t tail = __atomic_load_n(&ring->tail, __ATOMIC_ACQUIRE);
    if (length == 0 || length > QBB_RING_SLOT_BYTES || clear > length || head - tail >= QBB_RING_SLOTS)
        return NULL;
    return &ring->slots[head % QBB_RING_SLOTS];
}

static void publish(shm_ring *ring, ring_slot *slot, size_t length, size_t clear)
{
    slot->length = (uint32_t)length;
    slot->clear = (uint32_t)clear;
    __atomic_store_n(&ring->head, __atomic_load_n(&ring->head, __ATOMIC_RELAXED) + 1, __ATOMIC_RELEASE);
}

int qbb_ring_put(void *memory, const uint8_t *packet, size_t length, size_t clear)
{
    ring_slot *slot = free_slot(memory, length, clear);
    if (slot == NULL)
        return -1;
    memcpy(slot->bytes, packet, length);
    publish(memory, slot, length, clear);
    return 0;
}

int qbb_ring_put_padded(void *memory, const uint8_t *packet, size_t length, size_t clear, const uint8_t *pad)
{
    ring_slot *slot = free_slot(memory, length, clear);
    if (slot == NULL)
        return -1;
    memcpy(slot->bytes, packet, clear);
    qbb_pad(slot->bytes + clear, packet + clear, pad, length - clear);
    publish(memory, slot, length, clear);
    return 0;
}

int qbb_ring_take(void *memory, uint8_t *out, size_t *clear)
{
    shm_ring *ring = memory;
    uint32_t tail = __atomic_load_n(&ring->tail, __ATOMIC_RELAXED);
    uint32_t head = __atomic_load_n(&ring->head, __ATOMIC_ACQUIRE);
    if (head == tail)
        return 0;
    if (head - tail > QBB_RING_SLOTS) { /* the producer broke its counter: start again where it says it stands */
        __atomic_store_n(&ring->tail, head, __ATOMIC_RELEASE);
        return -1;
    }
    ring_slot *slot = &ring->slots[tail % QBB_RING_SLOTS];
    uint32_t length = __atomic_load_n(&slot->length, __ATOMIC_RELAXED);
    uint32_t clear_length = __atomic_load_n(&slot->clear, __ATOMIC_RELAXED);
    int wrong = length == 0 || length > QBB_RING_SLOT_BYTES || clear_length > length;
    if (!wrong) {
        memcpy(out, slot->bytes, length);
        *clear = clear_length;
    }
    qbb_wipe(slot, wrong ? sizeof *slot : offsetof(ring_slot, bytes) + length);
    __atomic_store_n(&ring->tail, tail + 1, __ATOMIC_RELEASE);
    return wrong ? -1 : (int)length;
}
