#include "queue.h"

#include <string.h>

#include "wipe.h"

void qbb_queue_init(qbb_queue *queue, qbb_waiting *slots, uint32_t slot_count)
{
    queue->slots = slots;
    queue->slot_count = slot_count;
    queue->waiting = 0;
    queue->occupied = 0;
    queue->free = 0;
    for (uint32_t i = 0; i < slot_count; i++)
        slots[i].next = i + 1 < slot_count ? i + 1 : QBB_NO_SLOT;
}

int qbb_queue_put(qbb_queue *queue, const qbb_waiting *fields, const uint8_t *payload, const uint8_t *pad_a)
{
    if (queue->free == QBB_NO_SLOT)
        return 0;
    uint32_t index = queue->free;
    qbb_waiting *slot = queue->slots + index;
    queue->free = slot->next;
    memcpy(slot, fields, offsetof(qbb_waiting, bytes));
    slot->next = QBB_NO_SLOT;
    slot->split = pad_a != NULL;
    uint8_t *place = slot->bytes + QBB_PREAMBLE_BYTES;
    if (slot->length != 0)
        memcpy(place, payload, slot->length);
    if (pad_a != NULL)
        memcpy(place + slot->length, pad_a, slot->length - slot->clear);

    unsigned priority = slot->priority;
    if (queue->occupied >> priority & 1)
        queue->slots[queue->tail[priority]].next = index;
    else
        queue->head[priority] = index;
    queue->tail[priority] = index;
    queue->occupied |= 1u << priority;
    queue->waiting++;
    return 1;
}

static unsigned first_priority(const qbb_queue *queue)
{
    return 31 - (unsigned)__builtin_clz(queue->occupied);
}

qbb_waiting *qbb_queue_first(const qbb_queue *queue)
{
    return queue->occupied ? queue->slots + queue->head[first_priority(queue)] : NULL;
}

void qbb_queue_drop_first(qbb_queue *queue)
{
    unsigned priority = first_priority(queue);
    uint32_t index = queue->head[priority];
    qbb_waiting *slot = queue->slots + index;
    queue->head[priority] = slot->next;
    if (slot->next == QBB_NO_SLOT)
        queue->occupied &= ~(1u << priority);
    size_t used = QBB_PREAMBLE_BYTES + slot->length + (slot->split ? (size_t)(slot->length - slot->clear) : 0);
    qbb_wipe(slot, offsetof(qbb_waiting, bytes) + used);
    slot->next = queue->free;
    queue->free = index;
    queue->waiting--;
}

uint32_t qbb_queue_clear(qbb_queue *queue)
{
    uint32_t dropped = queue->waiting;
    while (queue->waiting)
        qbb_queue_drop_first(queue);
    return dropped;
}
