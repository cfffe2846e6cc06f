#include "arrivals.h"

#include <string.h>

#include "bytes.h"

static uint64_t *group(qbb_arrivals *arrivals, uint64_t number)
{
    return arrivals->bits + number % QBB_NUMBERS_AHEAD / 64;
}

static uint64_t bit(uint64_t number)
{
    return (uint64_t)1 << number % 64;
}

void qbb_arrivals_reset(qbb_arrivals *arrivals)
{
    memset(arrivals, 0, sizeof *arrivals);
    arrivals->due_ns = UINT64_MAX;
}

enum qbb_arrival qbb_arrivals_classify(const qbb_arrivals *arrivals, uint32_t low, uint64_t *number)
{
    uint64_t next = arrivals->cumulative + 1;
    uint32_t ahead = low - (uint32_t)next;
    if (ahead < QBB_NUMBERS_AHEAD) {
        *number = next + ahead;
        int arrived = (arrivals->bits[*number % QBB_NUMBERS_AHEAD / 64] & bit(*number)) != 0;
        return arrived ? QBB_ARRIVAL_OLD : QBB_ARRIVAL_NEW;
    }
    uint32_t behind = (uint32_t)arrivals->cumulative - low;
    int known = !(behind >> 31) && behind < arrivals->cumulative;
    *number = known ? arrivals->cumulative - behind : 0;
    return known ? QBB_ARRIVAL_OLD : QBB_ARRIVAL_FAR;
}

void qbb_arrivals_add(qbb_arrivals *arrivals, uint64_t number)
{
    *group(arrivals, number) |= bit(number);
    for (;;) {
        uint64_t next = arrivals->cumulative + 1;
        int arrived = (*group(arrivals, next) & bit(next)) != 0 || (uint32_t)next == 0;
        if (!arrived)
            return;
        *group(arrivals, next) &= ~bit(next); /* its place serves another number from now on */
        arrivals->cumulative = next;
    }
}

uint32_t qbb_arrivals_bitmap(const qbb_arrivals *arrivals)
{
    uint64_t first = arrivals->cumulative + 1, shift = first % 64;
    uint64_t low = arrivals->bits[first % QBB_NUMBERS_AHEAD / 64] >> shift;
    if (shift > 32)
        low |= arrivals->bits[(first + 32) % QBB_NUMBERS_AHEAD / 64] << (64 - shift);
    return (uint32_t)low;
}

void qbb_arrivals_write(qbb_arrivals *arrivals, uint8_t out[QBB_PREAMBLE_BYTES])
{
    qbb_put32(out, (uint32_t)arrivals->cumulative);
    qbb_put32(out + 4, qbb_arrivals_bitmap(arrivals));
    arrivals->pending_packets = 0;
    arrivals->pending_words = 0;
    arrivals->due_ns = UINT64_MAX;
    arrivals->repeat = 0;
}
