#include "repeat.h"

#include <string.h>

/* The two lists that a slot stands in differ only in which links they use. */
#define LINKS(flight, field, index) (&(flight)->slots[index].field)

#define DEFINE_LIST(field)                                                                                   \
    static void field##_append(qbb_flight *flight, qbb_flight_list *list, uint32_t index)                    \
    {                                                                                                        \
        *LINKS(flight, field, index) = (qbb_flight_links){QBB_NO_FLIGHT, list->tail};                        \
        if (list->tail == QBB_NO_FLIGHT)                                                                     \
            list->head = index;                                                                              \
        else                                                                                                 \
            LINKS(flight, field, list->tail)->next = index;                                                  \
        list->tail = index;                                                                                  \
    }                                                                                                        \
    static void field##_remove(qbb_flight *flight, qbb_flight_list *list, uint32_t index)                    \
    {                                                                                                        \
        qbb_flight_links links = *LINKS(flight, field, index);                                               \
        if (links.previous == QBB_NO_FLIGHT)                                                                 \
            list->head = links.next;                                                                         \
        else                                                                                                 \
            LINKS(flight, field, links.previous)->next = links.next;                                         \
        if (links.next == QBB_NO_FLIGHT)                                                                     \
            list->tail = links.previous;                                                                     \
        else                                                                                                 \
            LINKS(flight, field, links.next)->previous = links.previous;                                     \
    }

DEFINE_LIST(todo)
DEFINE_LIST(words)

static uint32_t index_of(const qbb_flight *flight, const qbb_flight_slot *slot)
{
    return (uint32_t)(slot - flight->slots);
}

/* Where the slot of a number is noted. */
static uint32_t *place_of(const qbb_flight *flight, uint64_t number)
{
    return flight->slot_of + (number & (flight->slot_count - 1));
}

static void enlist(qbb_flight *flight, qbb_flight_slot *slot, uint8_t list)
{
    slot->list = list;
    todo_append(flight, flight->todo + list, index_of(flight, slot));
    if (list < QBB_TIMER_LISTS)
        flight->timers |= 1u << list;
}

static void delist(qbb_flight *flight, qbb_flight_slot *slot)
{
    qbb_flight_list *list = flight->todo + slot->list;
    todo_remove(flight, list, index_of(flight, slot));
    if (slot->list < QBB_TIMER_LISTS && list->head == QBB_NO_FLIGHT)
        flight->timers &= ~(1u << slot->list);
}

void qbb_flight_init(qbb_flight *flight, qbb_flight_slot *slots, uint32_t *slot_of, uint32_t slot_count)
{
    flight->slots = slots;
    flight->slot_of = slot_of;
    flight->slot_count = slot_count;
    flight->base = flight->next = 1;
    for (uint32_t i = 0; i < slot_count; i++) {
        slots[i].todo.next = i + 1 < slot_count ? i + 1 : QBB_NO_FLIGHT;
        slot_of[i] = QBB_NO_FLIGHT;
    }
    flight->free = 0;
    qbb_flight_reset(flight);
}

static void release(qbb_flight *flight, uint64_t number)
{
    uint32_t index = *place_of(flight, number);
    flight->slots[index].todo.next = flight->free;
    flight->free = index;
    *place_of(flight, number) = QBB_NO_FLIGHT;
}

void qbb_flight_reset(qbb_flight *flight)
{
    for (; flight->base != flight->next; flight->base++) {
        uint32_t index = *place_of(flight, flight->base);
        if (index == QBB_NO_FLIGHT)
            continue;
        memset(flight->slots + index, 0, offsetof(qbb_flight_slot, packet) + flight->slots[index].length);
        release(flight, flight->base);
    }
    flight->base = flight->next = 1;
    flight->in_flight = 0;
    flight->transmissions = flight->acknowledged_order = flight->peer_knows = 0;
    flight->timers = 0;
    for (int i = 0; i < QBB_TODO_LISTS; i++)
        flight->todo[i] = (qbb_flight_list){QBB_NO_FLIGHT, QBB_NO_FLIGHT};
    flight->words = (qbb_flight_list){QBB_NO_FLIGHT, QBB_NO_FLIGHT};
}

int qbb_flight_room(const qbb_flight *flight)
{
    /* One less than there are slots: the number that is never given may lie within. */
    return flight->next - flight->base < flight->slot_count - 1;
}

/* The base moves past numbers that are no longer in flight. */
static void advance(qbb_flight *flight)
{
    while (flight->base != flight->next && *place_of(flight, flight->base) == QBB_NO_FLIGHT)
        flight->base++;
}

qbb_flight_slot *qbb_flight_claim(qbb_flight *flight)
{
    if ((uint32_t)flight->next == 0) { /* means unreliable on the wire, so it is never given */
        flight->next++;
        advance(flight);
    }
    uint32_t index = flight->free;
    qbb_flight_slot *slot = flight->slots + index;
    flight->free = slot->todo.next;
    *place_of(flight, flight->next) = index;
    slot->number = flight->next++;
    slot->skip = 0;
    slot->lasting = 0;
    slot->tries = 0;
    flight->in_flight++;
    return slot;
}

/* The time-out doubles with each transmission. */
static void transmitted(qbb_flight *flight, qbb_flight_slot *slot, uint64_t now_ns)
{
    uint8_t list = (uint8_t)(slot->tries < QBB_TIMER_LISTS ? slot->tries : QBB_TIMER_LISTS - 1);
    uint64_t wait = flight->rto_ns << list;
    slot->due_ns = now_ns + (wait < flight->rto_max_ns ? wait : flight->rto_max_ns);
    slot->tries++;
    slot->sent_order = ++flight->transmissions;
    enlist(flight, slot, list);
}

void qbb_flight_launch(qbb_flight *flight, qbb_flight_slot *slot, uint64_t now_ns)
{
    if (slot->skip)
        delist(flight, slot);
    slot->tries = 0;
    words_append(flight, &flight->words, index_of(flight, slot));
    transmitted(flight, slot, now_ns);
}

void qbb_flight_resent(qbb_flight *flight, qbb_flight_slot *slot, uint64_t now_ns)
{
    delist(flight, slot);
    transmitted(flight, slot, now_ns);
}

static void settle(qbb_flight *flight, uint64_t number)
{
    uint32_t index = *place_of(flight, number);
    if (index == QBB_NO_FLIGHT)
        return;
    qbb_flight_slot *slot = flight->slots + index;
    /* After a resend, or a SKIP, nobody knows which of the transmissions arrived. */
    if (slot->tries == 1 && !slot->skip && slot->sent_order > flight->acknowledged_order)
        flight->acknowledged_order = slot->sent_order;
    /* A SKIP keeps what the packet that it replaces told: that much the peer saw, whichever of the two it got. */
    if (slot->told > flight->peer_knows)
        flight->peer_knows = slot->told;
    if (slot->list != QBB_GIVEN_UP)
        words_remove(flight, &flight->words, index);
    delist(flight, slot);
    if (!slot->skip)
        flight->acknowledged_key_bytes += slot->key_bytes;
    release(flight, number);
    flight->in_flight--;
}

/* Numbers that three later ones overtook are lost, unless they were sent again since. */
static void find_lost(qbb_flight *flight, uint64_t cumulative, uint32_t bitmap)
{
    for (unsigned later = 0; bitmap != 0;) {
        unsigned highest = 31 - (unsigned)__builtin_clz(bitmap);
        bitmap &= ~(1u << highest);
        if (++later < QBB_REORDERING)
            continue;
        unsigned below = bitmap ? 32 - (unsigned)__builtin_clz(bitmap) : 0; /* the gap: [below, highest) */
        for (unsigned i = below; i < highest; i++) {
            uint64_t number = cumulative + 1 + i;
            uint32_t index = *place_of(flight, number);
            if (index == QBB_NO_FLIGHT)
                continue;
            qbb_flight_slot *slot = flight->slots + index;
            if (slot->list >= QBB_TIMER_LISTS || slot->sent_order > flight->acknowledged_order)
                continue;
            delist(flight, slot);
            enlist(flight, slot, QBB_LOST);
        }
    }
}

void qbb_flight_acknowledge(qbb_flight *flight, uint32_t cumulative_low, uint32_t bitmap)
{
    uint32_t ahead = cumulative_low - (uint32_t)(flight->base - 1);
    uint64_t cumulative = flight->base - 1 + ahead;
    /* Older than what we know, or numbers never sent: nothing to learn. */
    if (ahead >> 31 || cumulative >= flight->next)
        return;
    /* Bits beyond what was sent would alias other slots. */
    uint64_t beyond = flight->next - 1 - cumulative;
    if (beyond < 32)
        bitmap &= ((uint32_t)1 << beyond) - 1;
    for (uint64_t number = flight->base; number <= cumulative; number++)
        settle(flight, number);
    for (uint32_t bits = bitmap; bits != 0; bits &= bits - 1)
        settle(flight, cumulative + 1 + (unsigned)__builtin_ctz(bits));
    if (bitmap != 0)
        find_lost(flight, cumulative, bitmap);
    advance(flight);
}

static void give_up(qbb_flight *flight, qbb_flight_slot *slot)
{
    delist(flight, slot);
    words_remove(flight, &flight->words, index_of(flight, slot));
    enlist(flight, slot, QBB_GIVEN_UP);
}

static qbb_flight_slot *head_of(const qbb_flight *flight, unsigned list)
{
    uint32_t index = flight->todo[list].head;
    return index == QBB_NO_FLIGHT ? NULL : flight->slots + index;
}

static qbb_flight_slot *first_due(const qbb_flight *flight, uint64_t now_ns)
{
    qbb_flight_slot *slot = head_of(flight, QBB_LOST);
    for (uint32_t timers = flight->timers; slot == NULL && timers != 0; timers &= timers - 1) {
        slot = head_of(flight, (unsigned)__builtin_ctz(timers));
        if (slot->due_ns > now_ns)
            slot = NULL;
    }
    return slot;
}

qbb_flight_slot *qbb_flight_due(qbb_flight *flight, uint64_t now_ns)
{
    for (;;) {
        qbb_flight_slot *slot = first_due(flight, now_ns);
        if (slot == NULL || slot->skip || slot->lasting || slot->tries < flight->give_up_tries)
            return slot;
        give_up(flight, slot);
    }
}

qbb_flight_slot *qbb_flight_given_up(const qbb_flight *flight)
{
    return head_of(flight, QBB_GIVEN_UP);
}

uint64_t qbb_flight_oldest_word(const qbb_flight *flight, uint64_t otherwise)
{
    return flight->words.head == QBB_NO_FLIGHT ? otherwise : flight->slots[flight->words.head].first_word;
}

uint64_t qbb_flight_deadline(const qbb_flight *flight)
{
    if (head_of(flight, QBB_LOST) != NULL)
        return 0;
    uint64_t earliest = UINT64_MAX;
    for (uint32_t timers = flight->timers; timers != 0; timers &= timers - 1) {
        uint64_t due = head_of(flight, (unsigned)__builtin_ctz(timers))->due_ns;
        if (due < earliest)
            earliest = due;
    }
    return earliest;
}
