/* The sending half of selective repeat: acknowledgements, losses, time-outs, giving up, and numbers beyond 32 bits. */
#include <string.h>

#include "check.h"
#include "mirror.h"
#include "repeat.h"

#define SLOTS 64
#define MS 1000000u
#define WRAP ((uint64_t)1 << 32)

static qbb_flight flight;
static qbb_flight_slot *slots;
static uint64_t word;

static void fresh(uint64_t first_number)
{
    static uint32_t slot_of[SLOTS];
    free(slots);
    slots = zeroed(SLOTS * sizeof *slots);
    memset(&flight, 0, sizeof flight);
    flight.rto_ns = 100 * MS;
    flight.rto_max_ns = 500 * MS;
    flight.give_up_tries = 4;
    qbb_flight_init(&flight, slots, slot_of, SLOTS);
    flight.base = flight.next = first_number;
    word = 0;
}

/* Sends the next number, 10 words each, 32 of its bytes key. */
static uint64_t send(uint64_t now_ns)
{
    CHECK(qbb_flight_room(&flight));
    qbb_flight_slot *slot = qbb_flight_claim(&flight);
    slot->first_word = word;
    slot->length = 100;
    slot->key_bytes = 32;
    memset(slot->packet, (uint8_t)slot->number, 100);
    word += 10;
    qbb_flight_launch(&flight, slot, now_ns);
    return slot->number;
}

/* The number that is resent now, or 0. */
static uint64_t resent(uint64_t now_ns)
{
    qbb_flight_slot *slot = qbb_flight_due(&flight, now_ns);
    if (slot == NULL)
        return 0;
    CHECK(slot->packet[0] == (uint8_t)slot->number && slot->packet[99] == (uint8_t)slot->number);
    qbb_flight_resent(&flight, slot, now_ns);
    return slot->number;
}

static void acknowledgements(void)
{
    fresh(1);
    CHECK(qbb_flight_deadline(&flight) == UINT64_MAX && qbb_flight_oldest_word(&flight, 77) == 77);
    for (int i = 0; i < 10; i++)
        send(0);
    qbb_flight_acknowledge(&flight, 3, 0);
    CHECK(flight.in_flight == 7 && flight.base == 4 && qbb_flight_oldest_word(&flight, 0) == 30);
    qbb_flight_acknowledge(&flight, 2, 0);     /* older: nothing */
    qbb_flight_acknowledge(&flight, 0, ~0u);   /* older still */
    qbb_flight_acknowledge(&flight, 11, 0);    /* never sent */
    qbb_flight_acknowledge(&flight, 0x80000003, ~0u);
    CHECK(flight.in_flight == 7 && flight.base == 4);
    qbb_flight_acknowledge(&flight, 3, 1u << 1 | 1u << 30); /* 5; bit 30 was never sent */
    CHECK(flight.in_flight == 6 && flight.base == 4 && flight.acknowledged_key_bytes == 4 * 32);
    qbb_flight_acknowledge(&flight, 3, 1u << 1); /* again */
    CHECK(flight.in_flight == 6 && flight.acknowledged_key_bytes == 4 * 32);
    qbb_flight_acknowledge(&flight, 4, 0);
    CHECK(flight.base == 6);
    qbb_flight_acknowledge(&flight, 10, 0);
    CHECK(flight.in_flight == 0 && flight.base == 11 && flight.next == 11 && flight.acknowledged_key_bytes == 10 * 32);
    CHECK(qbb_flight_deadline(&flight) == UINT64_MAX && flight.timers == 0 && resent(UINT64_MAX - 1) == 0);
}

/* Few slots: a bit for a number that was never sent would fall on the slot of an older one. */
static void bits_beyond(void)
{
    uint32_t slot_of[16];
    fresh(1);
    qbb_flight_init(&flight, slots, slot_of, 16);
    for (int i = 0; i < 10; i++)
        send(0);
    qbb_flight_acknowledge(&flight, 0, ~1023u);
    CHECK(flight.in_flight == 10);
    qbb_flight_acknowledge(&flight, 0, ~0u << 1);
    CHECK(flight.in_flight == 1 && flight.base == 1);
}

static void room(void)
{
    fresh(1);
    int sent = 0;
    while (qbb_flight_room(&flight)) {
        send(0);
        sent++;
    }
    CHECK(sent == SLOTS - 1);
    qbb_flight_acknowledge(&flight, 0, 1u << 5); /* one in the middle frees no number */
    CHECK(!qbb_flight_room(&flight));
    qbb_flight_acknowledge(&flight, 1, 0);
    CHECK(qbb_flight_room(&flight) && send(0) == SLOTS && !qbb_flight_room(&flight));
}

/* Lost: three later numbers are acknowledged, and nothing that was sent after it is not known yet. */
static void losses(void)
{
    fresh(1);
    for (int i = 0; i < 8; i++)
        send(0);
    qbb_flight_acknowledge(&flight, 1, 1u << 1 | 1u << 2); /* 3, 4: two are not enough */
    CHECK(resent(1) == 0);
    qbb_flight_acknowledge(&flight, 1, 7u << 1);            /* 3, 4, 5 */
    CHECK(qbb_flight_deadline(&flight) == 0 && resent(1) == 2 && resent(1) == 0);
    qbb_flight_acknowledge(&flight, 1, 15u << 1);           /* 6 was sent before the resend: it tells nothing new */
    CHECK(resent(2) == 0);
    send(3);                                                /* 9, sent after the resend */
    qbb_flight_acknowledge(&flight, 1, 15u << 1 | 1u << 7);
    CHECK(resent(4) == 2 && resent(4) == 0);                /* 7 and 8: only one later number */
    qbb_flight_acknowledge(&flight, 9, 0);
    CHECK(flight.in_flight == 0);
}

/* Time-outs double up to the limit; then the packet is given up. */
static void time_outs(void)
{
    static const uint64_t at_ms[] = {100, 300, 700};
    fresh(1);
    send(0);
    for (size_t i = 0; i < sizeof at_ms / sizeof *at_ms; i++) {
        uint64_t due = at_ms[i] * MS;
        CHECK(qbb_flight_deadline(&flight) == due && resent(due - 1) == 0 && resent(due) == 1 && resent(due) == 0);
    }
    CHECK(qbb_flight_oldest_word(&flight, 10) == 0 && qbb_flight_given_up(&flight) == NULL);
    CHECK(qbb_flight_deadline(&flight) == 1200 * (uint64_t)MS); /* 500, not 800 more */
    CHECK(resent(1200 * (uint64_t)MS) == 0);
    qbb_flight_slot *slot = qbb_flight_given_up(&flight);
    CHECK(slot != NULL && slot->number == 1 && flight.in_flight == 1);
    CHECK(qbb_flight_oldest_word(&flight, 10) == 10); /* its words are waited for no more */
    CHECK(qbb_flight_deadline(&flight) == UINT64_MAX);

    /* Its SKIP: same number, new words, sent as often as it takes. */
    slot->skip = 1;
    slot->first_word = 10;
    qbb_flight_launch(&flight, slot, 2000 * (uint64_t)MS);
    CHECK(qbb_flight_given_up(&flight) == NULL && qbb_flight_oldest_word(&flight, 99) == 10);
    uint64_t now = 0, transmissions = 0;
    for (; transmissions < 40; transmissions++) {
        now = qbb_flight_deadline(&flight);
        CHECK(resent(now) == 1);
    }
    CHECK(now > 2000 * (uint64_t)MS + 30 * (uint64_t)(500 * MS));
    qbb_flight_acknowledge(&flight, 1, 0);
    CHECK(flight.in_flight == 0 && flight.acknowledged_key_bytes == 0); /* skipped is not delivered */
}

/* Given up, but acknowledged before its SKIP could be sealed. */
static void late_acknowledgement(void)
{
    fresh(1);
    send(0);
    send(0);
    for (int i = 0; i < 10; i++)
        while (resent(qbb_flight_deadline(&flight)) != 0)
            ;
    CHECK(qbb_flight_given_up(&flight)->number == 1);
    qbb_flight_acknowledge(&flight, 1, 0);
    CHECK(qbb_flight_given_up(&flight)->number == 2 && flight.acknowledged_key_bytes == 32);
    qbb_flight_acknowledge(&flight, 2, 0);
    CHECK(qbb_flight_given_up(&flight) == NULL && flight.in_flight == 0 && flight.words.head == QBB_NO_FLIGHT);
}

/* 2^32 is 0 on the wire, which means unreliable: it is never given. */
static void wrap(void)
{
    fresh(WRAP - 3);
    CHECK(send(0) == WRAP - 3 && send(0) == WRAP - 2 && send(0) == WRAP - 1 && send(0) == WRAP + 1 && send(0) == WRAP + 2);
    qbb_flight_acknowledge(&flight, (uint32_t)(WRAP - 3), 1u << 1); /* and WRAP - 1 */
    CHECK(flight.base == WRAP - 2 && flight.in_flight == 3);
    qbb_flight_acknowledge(&flight, 0, 0); /* the peer counts 2^32 as arrived */
    CHECK(flight.base == WRAP + 1 && flight.in_flight == 2);
    qbb_flight_acknowledge(&flight, 2, 0);
    CHECK(flight.base == WRAP + 3 && flight.in_flight == 0);

    /* With nothing in flight before it. */
    fresh(WRAP);
    CHECK(send(0) == WRAP + 1 && flight.base == WRAP + 1);
    for (int i = 0; i < 3000; i++) {
        while (qbb_flight_room(&flight))
            send(0);
        qbb_flight_acknowledge(&flight, (uint32_t)flight.base + (uint32_t)(i % 40), i % 3 ? 0 : 0x49249249u << 1);
    }
}

/* Every slot and list in order, whatever comes: against a plain table of states. */
static void random_walk(void)
{
    uint64_t random = 11, now = 0, skips = 0;
    fresh(WRAP - 2000);
    for (int step = 0; step < 200000; step++) {
        now += next_random(&random) % (20 * MS);
        switch (next_random(&random) % 12) {
        case 0: case 1: case 2: case 3:
            if (qbb_flight_room(&flight))
                send(now);
            break;
        case 4:
            qbb_flight_acknowledge(&flight, (uint32_t)(flight.base - 3 + next_random(&random) % 6),
                (uint32_t)next_random(&random) & (uint32_t)next_random(&random));
            break;
        default:
            resent(now);
            qbb_flight_slot *slot = qbb_flight_given_up(&flight);
            if (slot != NULL && next_random(&random) % 2) {
                slot->skip = 1;
                slot->first_word = word;
                word += 2;
                skips++;
                qbb_flight_launch(&flight, slot, now);
            }
        }
        uint64_t in_flight = 0, listed = 0, oldest = UINT64_MAX, earliest = UINT64_MAX;
        for (uint64_t number = flight.base; number < flight.next; number++) {
            uint32_t index = flight.slot_of[number % SLOTS];
            if (index == QBB_NO_FLIGHT)
                continue;
            qbb_flight_slot *slot = flight.slots + index;
            CHECK(slot->number == number && (uint32_t)number != 0);
            in_flight++;
            if (slot->list != QBB_GIVEN_UP && slot->first_word < oldest)
                oldest = slot->first_word;
            if (slot->list < QBB_TIMER_LISTS && slot->due_ns < earliest)
                earliest = slot->due_ns;
            if (slot->list == QBB_LOST)
                earliest = 0;
        }
        for (int list = 0; list < QBB_TODO_LISTS; list++)
            for (uint32_t i = flight.todo[list].head; i != QBB_NO_FLIGHT; i = flight.slots[i].todo.next) {
                CHECK(flight.slots[i].list == list);
                listed++;
            }
        CHECK(in_flight == flight.in_flight && listed == in_flight);
        CHECK(qbb_flight_oldest_word(&flight, UINT64_MAX) == oldest && qbb_flight_deadline(&flight) == earliest);
    }
    CHECK(flight.next > WRAP && skips > 500);
    qbb_flight_reset(&flight);
    CHECK(flight.in_flight == 0 && qbb_flight_deadline(&flight) == UINT64_MAX && send(0) == 1);
    for (int i = 1; i < SLOTS - 1; i++)
        send(0); /* all slots came back */
}

int main(void)
{
    acknowledgements();
    bits_beyond();
    room();
    losses();
    time_outs();
    late_acknowledgement();
    wrap();
    random_walk();
    return 0;
}
