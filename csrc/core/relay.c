#include "relay.h"

#include <math.h>
#include <string.h>

void qbb_relay_init(qbb_relay *relay, uint32_t address)
{
    memset(relay, 0, sizeof *relay);
    relay->forwarding.address = address;
    relay->forwarding.default_link = -1;
}

int qbb_relay_add(qbb_relay *relay, qbb_link *engine)
{
    if (relay->link_count == QBB_LINKS_MAX)
        return -1;
    qbb_relay_link *link = relay->links + relay->link_count;
    *link = (qbb_relay_link){.engine = engine, .queue_mark = UINT32_MAX};
    qbb_load_init(&link->load, 1, INFINITY);
    return relay->link_count++;
}

static uint64_t with_bit(uint64_t mask, int index, int set)
{
    uint64_t bit = 1ull << index;
    return set ? mask | bit : mask & ~bit;
}

/* What control, its queue and its load let a link be used for. */
static void refresh(qbb_relay *relay, int index)
{
    const qbb_relay_link *link = relay->links + index;
    qbb_forwarding *f = &relay->forwarding;
    f->up = with_bit(f->up, index, link->usable && qbb_link_running(link->engine));
    f->room = with_bit(f->room, index, qbb_link_waiting(link->engine) < link->queue_mark);
    f->calm = with_bit(f->calm, index, qbb_load_calm(&link->load));
}

void qbb_relay_tick(qbb_relay *relay, uint64_t now_ns)
{
    relay->now_ns = now_ns;
    relay->forwarding.alternates = now_ns >= relay->hold_until_ns;
    for (int i = 0; i < relay->link_count; i++) {
        qbb_load_tick(&relay->links[i].load, now_ns);
        refresh(relay, i);
    }
}

void qbb_relay_set_table(qbb_relay *relay, const qbb_table *table, uint64_t now_ns, uint64_t hold_ns)
{
    relay->forwarding.table = table;
    relay->hold_until_ns = now_ns + hold_ns;
    relay->forwarding.alternates = hold_ns == 0;
}

/* Key words count as load when they are offered, whether the queue takes them or not. */
static qbb_decision offer(qbb_relay *relay, qbb_decision decision, const uint8_t *packet, size_t length, size_t clear,
    const uint8_t *pad_a)
{
    qbb_relay_link *link = relay->links + decision.link;
    qbb_load_offer(&link->load, qbb_span_words(length - clear));
    int refused = qbb_link_submit(link->engine, QBB_CHANNEL_NETWORK, QBB_COMMAND_DATA, qbb_forward_priority(packet), 1,
        packet, length, clear, clear < length ? pad_a : NULL);
    decision.reason = (uint8_t)-refused;
    refresh(relay, decision.link);
    return decision;
}

qbb_decision qbb_relay_pass(qbb_relay *relay, int from, uint8_t *packet, const qbb_delivery *d)
{
    qbb_decision decision = qbb_forward(&relay->forwarding, from, packet, d->length);
    if (decision.fate != QBB_FATE_SEND)
        return decision;
    qbb_forward_hop(packet);
    return offer(relay, decision, packet, d->length, d->clear, d->pad);
}

qbb_decision qbb_relay_originate(qbb_relay *relay, uint8_t *packet, size_t length, size_t clear, const uint8_t *r)
{
    qbb_decision decision = qbb_forward(&relay->forwarding, QBB_WAY_LOCAL, packet, length);
    if (decision.fate != QBB_FATE_SEND)
        return decision;
    return offer(relay, decision, packet, length, clear, r);
}
