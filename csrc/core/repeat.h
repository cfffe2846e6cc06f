/* The sending half of selective repeat: sealed packets kept as sent until they are acknowledged or given up.
 *
 * Slots come from a pool, the one freed last first, so that a short flight stays in the cache; slot_of finds the slot of a
 * message number. A slot stands in two lists:
 *  - by key words, oldest first: the first one bounds how far the sender may run ahead (window_words);
 *  - by what is to be done: waiting for the time-out of its n-th transmission (a list for each n, so each list is in
 *    order of time and nothing is ever sorted or searched), lost (resend now), or given up (seal a SKIP in its place).
 *
 * A packet is given up after give_up_tries transmissions, unless it is the link's own: CONFIRM, records and reports are
 * resent for as long as the epoch lasts, since without them the link would stand still (q3p, rule 15). Its SKIP takes its
 * slot and its number, under fresh key; a SKIP itself is resent for as long as the epoch lasts. The peer counts the number
 * as arrived, whichever of the two it got. */
#ifndef QBB_REPEAT_H
#define QBB_REPEAT_H
#include <stddef.h>
#include <stdint.h>

#include "packet.h"

#define QBB_TIMER_LISTS 12 /* transmissions with a time-out of their own; all later ones share the last */
#define QBB_LOST QBB_TIMER_LISTS
#define QBB_GIVEN_UP (QBB_TIMER_LISTS + 1)
#define QBB_TODO_LISTS (QBB_TIMER_LISTS + 2)
#define QBB_NO_FLIGHT UINT32_MAX
#define QBB_REORDERING 3 /* a packet is lost when so many later ones were acknowledged */

typedef struct { uint32_t head, tail; } qbb_flight_list;
typedef struct { uint32_t next, previous; } qbb_flight_links;

typedef struct {
    uint64_t number;      /* 64-bit message number */
    uint64_t first_word;  /* of its span */
    uint64_t due_ns;      /* time-out of the last transmission */
    uint64_t told;        /* the cumulative acknowledgement that its preamble carries */
    uint64_t sent_order;  /* the last transmission's place among all of this flight */
    qbb_flight_links todo, words;
    uint16_t length;      /* bytes, the whole packet */
    uint16_t key_bytes;   /* padded bytes of channel 1: delivered key once acknowledged */
    uint16_t pad_words;
    uint8_t pad_cause, tag_cause; /* enum qbb_cause */
    uint8_t list;         /* which to-do list */
    uint8_t skip;
    uint8_t lasting;      /* never given up */
    uint32_t tries;
    uint8_t packet[QBB_PACKET_MAX];
} __attribute__((aligned(64))) qbb_flight_slot;

typedef struct {
    qbb_flight_slot *slots;
    uint32_t *slot_of;   /* at number mod slot_count; QBB_NO_FLIGHT: settled */
    uint32_t slot_count; /* a power of two */
    uint32_t free;       /* first free slot; the others follow by todo.next */
    uint64_t rto_ns, rto_max_ns;
    uint32_t give_up_tries;

    uint64_t base, next;  /* numbers [base, next) are in flight, acknowledged ones in between */
    uint64_t in_flight;
    uint64_t transmissions, acknowledged_order; /* highest sent_order that was acknowledged beyond doubt */
    uint64_t peer_knows;  /* highest `told` of acknowledged packets: the peer saw that these numbers arrived */
    uint64_t acknowledged_key_bytes;
    qbb_flight_list todo[QBB_TODO_LISTS], words;
    uint32_t timers;      /* bit n: timer list n is not empty */
} qbb_flight;

void qbb_flight_init(qbb_flight *flight, qbb_flight_slot *slots, uint32_t *slot_of, uint32_t slot_count);
/* Forgets everything (and zeroes what was in flight): number 1 comes next. */
void qbb_flight_reset(qbb_flight *flight);
/* Is there a slot for one more number? */
int qbb_flight_room(const qbb_flight *flight);
/* The slot of the next number, its `packet` to be sealed in place; qbb_flight_launch must follow. */
qbb_flight_slot *qbb_flight_claim(qbb_flight *flight);
/* The slot was sealed (first_word, length set) and goes out now. */
void qbb_flight_launch(qbb_flight *flight, qbb_flight_slot *slot, uint64_t now_ns);
/* An acknowledgement preamble from a verified packet. */
void qbb_flight_acknowledge(qbb_flight *flight, uint32_t cumulative_low, uint32_t bitmap);
/* The next slot to resend now (lost, or timed out), or NULL. Timed-out slots that had all their tries are given up on the
 * way: their words are no longer waited for and they join the QBB_GIVEN_UP list. Call qbb_flight_resent for what it gives. */
qbb_flight_slot *qbb_flight_due(qbb_flight *flight, uint64_t now_ns);
void qbb_flight_resent(qbb_flight *flight, qbb_flight_slot *slot, uint64_t now_ns);
/* The first slot given up, to be sealed again as SKIP and launched, or NULL. */
qbb_flight_slot *qbb_flight_given_up(const qbb_flight *flight);
/* The first word that the peer may still need, or `otherwise` when nothing is in flight. */
uint64_t qbb_flight_oldest_word(const qbb_flight *flight, uint64_t otherwise);
/* When qbb_flight_due may have something: 0 for now, UINT64_MAX for never. */
uint64_t qbb_flight_deadline(const qbb_flight *flight);
#endif
