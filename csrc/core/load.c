#include "load.h"

#define SECONDS(ns) ((double)(ns) * 1e-9)
/* A burst on a link without supply counts as so many times what a link can carry: no more, or it would take minutes until
 * the filter forgets it. */
#define LOAD_MOST 100.0
/* After so many windows without traffic nothing is left of a load. */
#define FORGETTING_WINDOWS 64.0

void qbb_load_init(qbb_load *load, double window, double critical)
{
    *load = (qbb_load){.window = window < 1 ? 1 : window, .critical = critical};
}

void qbb_load_offer(qbb_load *load, uint64_t words)
{
    load->offered_words += words;
}

/* Equation 2, in parts of what the link can carry. */
static double instantaneous(const qbb_load *load)
{
    double carried = load->supply_words_s * SECONDS(QBB_LOAD_INTERVAL_NS), offered = (double)load->offered_words;
    if (offered <= 0)
        return 0;
    return offered < LOAD_MOST * carried ? offered / carried : LOAD_MOST;
}

/* Equation 1. */
static void filter(qbb_load *load, double now)
{
    load->load += (now - load->load) / load->window;
}

void qbb_load_tick(qbb_load *load, uint64_t now_ns)
{
    if (load->begun_ns == 0)
        load->begun_ns = now_ns;
    if (now_ns < load->begun_ns + QBB_LOAD_INTERVAL_NS)
        return;
    uint64_t over = (now_ns - load->begun_ns) / QBB_LOAD_INTERVAL_NS;
    load->begun_ns += over * QBB_LOAD_INTERVAL_NS;
    filter(load, instantaneous(load));
    load->offered_words = 0;
    if ((double)over > FORGETTING_WINDOWS * load->window)
        load->load = 0;
    for (uint64_t idle = over - 1; idle > 0 && load->load > 0; idle--)
        filter(load, 0);
}

int qbb_load_calm(const qbb_load *load)
{
    return load->load < load->critical;
}

int qbb_bucket_take(qbb_bucket *bucket, uint64_t now_ns)
{
    uint64_t from_ns = bucket->debt_until_ns > now_ns ? bucket->debt_until_ns : now_ns;
    if (from_ns + bucket->interval_ns > now_ns + bucket->burst * bucket->interval_ns)
        return 0;
    bucket->debt_until_ns = from_ns + bucket->interval_ns;
    return 1;
}
