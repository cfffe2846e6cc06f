#include "queue.h"

#include <string.h>

#include "wipe.h"

void qbb_queue_init(qbb_queue *queue, qbb_waiting *slots, uint32_t slot_count)
{
    queue->slots = slots;
    queue->slot_count = slot_count;
    queue->waiting = 0;
    queue->control_words = 0;
    queue->occupied = 0;
    queue->free = 0;
    for (uint32_t i = 0; i < slot_count; i++)
        slots[i].is.next = i + 1 < slot_count ? i + 1 : QBB_NO_SLOT;
}

static uint64_t control_words(const qbb_waiting_fields *fields)
{
    return fields->priority >= QBB_PRIORITY_CONTROL ? qbb_span_words((size_t)(fields->length - fields->clear)) : 0;
}

int qbb_queue_put(qbb_queue *queue, const qbb_waiting_fields *fields, const uint8_t *payload, const uint8_t *pad_a)
{
    if (queue->free == QBB_NO_SLOT)
        return 0;
    uint32_t index = queue->free;
    qbb_waiting *slot = queue->slots + index;
    queue->free = slot->is.next;
    slot->is = *fields;
    slot->is.next = QBB_NO_SLOT;
    slot->is.split = pad_a != NULL;
    uint8_t *place = slot->bytes + QBB_PREAMBLE_BYTES;
    if (slot->is.length != 0)
        memcpy(place, payload, slot->is.length);
    if (pad_a != NULL)
        memcpy(place + slot->is.length, pad_a, slot->is.length - slot->is.clear);

    unsigned priority = slot->is.priority;
    if (queue->occupied >> priority & 1)
        queue->slots[queue->tail[priority]].is.next = index;
    else
        queue->head[priority] = index;
    queue->tail[priority] = index;
    queue->occupied |= 1u << priority;
    queue->waiting++;
    queue->control_words += control_words(&slot->is);
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
    queue->head[priority] = slot->is.next;
    if (slot->is.next == QBB_NO_SLOT)
        queue->occupied &= ~(1u << priority);
    queue->control_words -= control_words(&slot->is);
    size_t used = QBB_PREAMBLE_BYTES + slot->is.length + (slot->is.split ? (size_t)(slot->is.length - slot->is.clear) : 0);
    qbb_wipe(slot, offsetof(qbb_waiting, bytes) + used);
    slot->is.next = queue->free;
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
