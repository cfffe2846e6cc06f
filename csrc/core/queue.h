/* Packets waiting to be sealed: eight priorities, first in first out in each, one pool of slots in key memory.
 *
 * A slot holds the payload as it came (padded part XOR pad_a) and pad_a beside it. Slots are wiped when they are freed,
 * and the one freed last is used first, so a short queue stays in the cache. */
#ifndef QBB_QUEUE_H
#define QBB_QUEUE_H
#include <stddef.h>
#include <stdint.h>

#include "packet.h"

#define QBB_PRIORITIES 8
#define QBB_NO_SLOT UINT32_MAX

/* What is known of a waiting packet beside its bytes. */
typedef struct {
    uint32_t next; /* of its queue or of the free list */
    uint16_t channel;
    uint16_t length, clear; /* of the payload; without preamble */
    uint16_t unused;
    uint8_t command, priority, reliable, split; /* split: pad_a is there */
} qbb_waiting_fields;

typedef struct {
    qbb_waiting_fields is;
    /* Room for the preamble, so that sealing is one pass over preamble and payload; payload; pad_a. */
    uint8_t bytes[QBB_PREAMBLE_BYTES + 2 * QBB_PAYLOAD_MAX];
} __attribute__((aligned(64))) qbb_waiting;

typedef struct {
    qbb_waiting *slots;
    uint32_t slot_count, free, waiting;
    uint32_t head[QBB_PRIORITIES], tail[QBB_PRIORITIES];
    uint32_t occupied; /* bit p: priority p is not empty */
    uint64_t control_words; /* that the waiting packets of control will take */
} qbb_queue;

/* slots: zeroed key memory for slot_count of them. */
void qbb_queue_init(qbb_queue *queue, qbb_waiting *slots, uint32_t slot_count);
/* A slot at the tail of its priority, already filled with payload and pad_a; 0 when full. */
int qbb_queue_put(qbb_queue *queue, const qbb_waiting_fields *fields, const uint8_t *payload, const uint8_t *pad_a);
/* The packet that leaves next, or NULL. */
qbb_waiting *qbb_queue_first(const qbb_queue *queue);
/* Wipes and frees it. */
void qbb_queue_drop_first(qbb_queue *queue);
/* Wipes and frees all of them; their number. */
uint32_t qbb_queue_clear(qbb_queue *queue);

/* pad_a of a slot, or NULL. */
static inline const uint8_t *qbb_waiting_pad(const qbb_waiting *slot)
{
    return slot->is.split ? slot->bytes + QBB_PREAMBLE_BYTES + slot->is.length : NULL;
}
#endif
