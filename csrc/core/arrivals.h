/* The receiving half of selective repeat: which message numbers arrived, and when that must be said.
 *
 * Reliable packets of a direction are numbered 1, 2, 3... in an epoch. The packet carries the low 32 bits; here they are
 * 64-bit counters. A number whose low 32 bits are 0 is never given (0 marks unreliable packets) and counts as arrived
 * when its turn comes. */
#ifndef QBB_ARRIVALS_H
#define QBB_ARRIVALS_H
#include <stddef.h>
#include <stdint.h>

#include "packet.h"

/* How far a number may run ahead of the cumulative one: the most flight slots that a sender may have. */
#define QBB_NUMBERS_AHEAD 16384
#define QBB_ACK_BYTES (QBB_HEADER_BYTES + QBB_PREAMBLE_BYTES + QBB_TAG_BYTES)

enum qbb_arrival { QBB_ARRIVAL_NEW, QBB_ARRIVAL_OLD, QBB_ARRIVAL_FAR };

typedef struct {
    uint64_t cumulative;                      /* all numbers up to it arrived */
    uint64_t bits[QBB_NUMBERS_AHEAD / 64];    /* number n at n mod QBB_NUMBERS_AHEAD, for n above cumulative */

    uint64_t pending_packets, pending_words;  /* arrived since an acknowledgement was last sealed */
    uint64_t due_ns;                          /* when a lone acknowledgement must leave; UINT64_MAX: none is owed */

    /* The last pure acknowledgement as it was sent. A duplicate shows that the peer may have missed it; if it still says
     * all, the identical bytes go out again and cost no key. */
    uint8_t last[QBB_ACK_BYTES];
    size_t last_length;                       /* 0: none in this epoch */
    uint32_t last_cumulative, last_bitmap;
    int repeat;                               /* a duplicate asks for it */
    uint64_t repeat_after_ns;                 /* not before: once per retransmission time-out */
} qbb_arrivals;

void qbb_arrivals_reset(qbb_arrivals *arrivals);
/* Restores the 64-bit number (0 when FAR). NEW: not arrived, within reach. OLD: arrived. FAR: out of reach. */
enum qbb_arrival qbb_arrivals_classify(const qbb_arrivals *arrivals, uint32_t low, uint64_t *number);
/* Counts a NEW number as arrived. */
void qbb_arrivals_add(qbb_arrivals *arrivals, uint64_t number);
/* Which of the 32 numbers after the cumulative one arrived: bit i is cumulative + 1 + i. */
uint32_t qbb_arrivals_bitmap(const qbb_arrivals *arrivals);
/* Writes the acknowledgement preamble of a packet that is being sealed: what was owed is paid. */
void qbb_arrivals_write(qbb_arrivals *arrivals, uint8_t out[QBB_PREAMBLE_BYTES]);
#endif
