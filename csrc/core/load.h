/* How loaded an outgoing link is (paper 2.5.3, equations 1 and 2), and a token bucket for what must stay rare.
 *
 *   L(t) = (1 - 1/w) L(t-1) + (1/w) l(t),    l(t) = D(t-1, t) / (T(t-1, t) * supply)
 *
 * Time moves the filter, never packets: t counts intervals of QBB_LOAD_INTERVAL_NS. D counts the key words, pad and tag, of
 * what was offered to the link in the interval, whether its queue took it or not. Departure: the paper's l is in bits a
 * second and every link needs its own L_cr; here it is divided by what the link can carry, so 1 means that key is used up
 * as fast as it comes. The supply is told by control: key rate, and the store above its low mark spread over some time. */
#ifndef QBB_LOAD_H
#define QBB_LOAD_H
#include <stdint.h>

/* cffi:begin */
#define QBB_LOAD_INTERVAL_NS 100000000

typedef struct {
    double window;          /* w, at least 1 */
    double critical;        /* L_cr */
    double supply_words_s;  /* what the link can carry */
    double load;            /* L */
    uint64_t offered_words; /* D, of the interval that runs */
    uint64_t begun_ns;      /* when that interval began; 0: none yet */
} qbb_load;

/* A filter at rest. Without a supply any traffic is overload. */
void qbb_load_init(qbb_load *load, double window, double critical);
void qbb_load_offer(qbb_load *load, uint64_t words);
/* Closes the intervals that are over. Call it before what `now_ns` brings is offered: what was offered since the last call
 * belongs to the interval that ran then; further ones were idle. */
void qbb_load_tick(qbb_load *load, uint64_t now_ns);
/* L < L_cr. */
int qbb_load_calm(const qbb_load *load);

/* `burst` at once, then one each interval_ns. */
typedef struct {
    uint64_t interval_ns, burst;
    uint64_t debt_until_ns; /* when the bucket will be full again */
} qbb_bucket;

/* May it happen now? Takes a token then. */
int qbb_bucket_take(qbb_bucket *bucket, uint64_t now_ns);
/* cffi:end */
#endif
