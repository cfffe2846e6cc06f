#include "shelf.h"

#include <string.h>

#include "qkd.h"
#include "shmring.h"
#include "wipe.h"

#define NONE UINT32_MAX
#define FLAG_KEY 16

typedef struct {
    uint32_t generation; /* odd while the slot is taken: a free slot matches no handle */
    uint32_t next_free;
    uint32_t length;
} slot;

struct qbb_shelf {
    uint8_t *secret;
    uint32_t slots, slot_bytes, free, first_free;
    slot slot[];
};

size_t qbb_shelf_secret_bytes(uint32_t slots, uint32_t slot_bytes)
{
    return (size_t)slots * slot_bytes;
}

size_t qbb_shelf_plain_bytes(uint32_t slots)
{
    return sizeof(qbb_shelf) + (size_t)slots * sizeof(slot);
}

qbb_shelf *qbb_shelf_init(void *secret, void *plain, uint32_t slots, uint32_t slot_bytes)
{
    qbb_shelf *shelf = plain;
    if (slots == 0 || slots == NONE || slot_bytes < QBB_KEY_MIN_BYTES || slot_bytes > QBB_KEY_MAX_BYTES
        || slot_bytes % 8)
        return NULL;
    shelf->secret = secret;
    shelf->slots = slots;
    shelf->slot_bytes = slot_bytes;
    shelf->free = slots;
    shelf->first_free = 0;
    for (uint32_t i = 0; i < slots; i++)
        shelf->slot[i] = (slot){ .next_free = i + 1 < slots ? i + 1 : NONE };
    return shelf;
}

/* The slot that a handle names, or NONE. */
static uint32_t find(const qbb_shelf *shelf, uint64_t handle)
{
    uint32_t index = (uint32_t)handle, generation = (uint32_t)(handle >> 32);
    if (index >= shelf->slots || !(generation & 1) || shelf->slot[index].generation != generation)
        return NONE;
    return index;
}

static uint8_t *bytes_of(const qbb_shelf *shelf, uint32_t index)
{
    return shelf->secret + (size_t)index * shelf->slot_bytes;
}

uint64_t qbb_shelf_claim(qbb_shelf *shelf, size_t length, int *error)
{
    *error = 0;
    if (length < QBB_KEY_MIN_BYTES || length > shelf->slot_bytes) {
        *error = -QBB_SHELF_LENGTH;
        return 0;
    }
    if (shelf->first_free == NONE) {
        *error = -QBB_SHELF_FULL;
        return 0;
    }
    uint32_t index = shelf->first_free;
    slot *s = &shelf->slot[index];
    shelf->first_free = s->next_free;
    shelf->free--;
    s->generation++;
    s->length = (uint32_t)length;
    return (uint64_t)s->generation << 32 | index;
}

uint8_t *qbb_shelf_at(const qbb_shelf *shelf, uint64_t handle)
{
    uint32_t index = find(shelf, handle);
    return index == NONE ? NULL : bytes_of(shelf, index);
}

int qbb_shelf_length(const qbb_shelf *shelf, uint64_t handle)
{
    uint32_t index = find(shelf, handle);
    return index == NONE ? -QBB_SHELF_STALE : (int)shelf->slot[index].length;
}

int qbb_shelf_release(qbb_shelf *shelf, uint64_t handle)
{
    uint32_t index = find(shelf, handle);
    if (index == NONE)
        return -QBB_SHELF_STALE;
    slot *s = &shelf->slot[index];
    qbb_wipe(bytes_of(shelf, index), s->length);
    s->generation++;
    s->next_free = shelf->first_free;
    shelf->first_free = index;
    shelf->free++;
    return 0;
}

void qbb_shelf_clear(qbb_shelf *shelf)
{
    for (uint32_t i = 0; i < shelf->slots; i++)
        if (shelf->slot[i].generation & 1)
            qbb_shelf_release(shelf, (uint64_t)shelf->slot[i].generation << 32 | i);
}

uint32_t qbb_shelf_free(const qbb_shelf *shelf)
{
    return shelf->free;
}

/* Checks that a packet's clear part describes `key_bytes` bytes of keys that begin where it ends. Number of keys and the
 * length of each, or a negated error. No key bytes: no keys, whatever the packet is. */
static int key_layout(const uint8_t *clear, size_t clear_length, size_t key_bytes, size_t *each)
{
    *each = 0;
    if (key_bytes == 0)
        return 0;
    if (clear_length < QBB_NETWORK_HEADER_BYTES)
        return -QBB_SHELF_LAYOUT;
    size_t header = (size_t)(clear[0] & 15) * 4;
    size_t body = header + QBB_TRANSPORT_HEADER_BYTES;
    if (header < QBB_NETWORK_HEADER_BYTES || clear_length < body + 4)
        return -QBB_SHELF_LAYOUT;
    if (clear[9] != QBB_PROTOCOL_QKDTL || !(clear[header + 12] & FLAG_KEY))
        return -QBB_SHELF_LAYOUT;
    size_t count = (size_t)clear[body] << 8 | clear[body + 1];
    size_t length = (size_t)clear[body + 2] << 8 | clear[body + 3];
    if (count > QBB_SEGMENT_KEYS_MAX || clear_length != body + 4 + count * QBB_KEY_ID_BYTES
        || key_bytes != count * length)
        return -QBB_SHELF_LAYOUT;
    *each = length;
    return (int)count;
}

int qbb_shelf_to_ring(const qbb_shelf *shelf, void *ring, const uint8_t *clear, size_t clear_length,
    const uint64_t *handles, size_t count)
{
    uint8_t packet[QBB_RING_SLOT_BYTES];
    size_t length = clear_length, each;
    int verdict = 0;
    if (clear_length > sizeof packet)
        return -QBB_SHELF_LAYOUT;
    memcpy(packet, clear, clear_length);
    for (size_t i = 0; i < count && verdict == 0; i++) {
        uint32_t index = find(shelf, handles[i]);
        if (index == NONE)
            verdict = -QBB_SHELF_STALE;
        else if (shelf->slot[index].length != (size_t)qbb_shelf_length(shelf, handles[0])
            || length + shelf->slot[index].length > sizeof packet)
            verdict = -QBB_SHELF_LAYOUT;
        else {
            memcpy(packet + length, bytes_of(shelf, index), shelf->slot[index].length);
            length += shelf->slot[index].length;
        }
    }
    if (verdict == 0) {
        int keys = key_layout(clear, clear_length, length - clear_length, &each);
        if (keys < 0 || (size_t)keys != count)
            verdict = -QBB_SHELF_LAYOUT;
        else if (qbb_ring_put(ring, packet, length, clear_length) != 0)
            verdict = -QBB_SHELF_RING_FULL;
    }
    qbb_wipe(packet + clear_length, sizeof packet - clear_length);
    return verdict;
}

/* Moves the keys of a packet to new slots: all of them or none. */
static int shelve(qbb_shelf *shelf, const uint8_t *keys, size_t each, size_t count, uint64_t *handles)
{
    int error = 0;
    for (size_t i = 0; i < count; i++) {
        handles[i] = qbb_shelf_claim(shelf, each, &error);
        if (error) {
            while (i-- > 0)
                qbb_shelf_release(shelf, handles[i]);
            return error;
        }
        memcpy(qbb_shelf_at(shelf, handles[i]), keys + i * each, each);
    }
    return 0;
}

int qbb_shelf_from_ring(qbb_shelf *shelf, void *ring, uint8_t *clear, uint64_t *handles, size_t *count)
{
    uint8_t packet[QBB_RING_SLOT_BYTES];
    size_t clear_length = 0, each;
    *count = 0;
    int length = qbb_ring_take(ring, packet, &clear_length);
    if (length <= 0)
        return length < 0 ? -QBB_SHELF_RING_BROKEN : 0;
    size_t key_bytes = (size_t)length - clear_length;
    int verdict = key_layout(packet, clear_length, key_bytes, &each);
    if (verdict > 0) {
        int keys = verdict;
        verdict = shelve(shelf, packet + clear_length, each, (size_t)keys, handles);
        if (verdict == 0)
            *count = (size_t)keys;
    }
    if (verdict == 0) {
        memcpy(clear, packet, clear_length);
        verdict = (int)clear_length;
    }
    qbb_wipe(packet + clear_length, key_bytes);
    return verdict;
}
