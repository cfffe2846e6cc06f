/* A node's links put together: what came by one of them, or from the node, goes on by another. Pure, like all it rests on:
 * the data plane's thread and the simulator run the same relay.
 *
 * A packet that goes on is queued as it came, padded, with the pad that it came under; the next link takes its own key for
 * it when it leaves (link.h). So a packet that is dropped has cost no key, and what changes in it here (TTL, checksum)
 * changes before it is sealed. */
#ifndef QBB_RELAY_H
#define QBB_RELAY_H
#include "forward.h"
#include "link.h"
#include "load.h"

/* cffi:begin */
typedef struct {
    qbb_link *engine;
    qbb_load load;
    uint32_t queue_mark; /* packets from which on other links are preferred */
    uint8_t usable;      /* carries traffic; set by the link machine */
} qbb_relay_link;

typedef struct {
    qbb_forwarding forwarding; /* its masks and `alternates` are made anew by qbb_relay_tick */
    uint64_t hold_until_ns;    /* best ways only */
    uint64_t now_ns;           /* of the last tick */
    int32_t link_count;
    qbb_relay_link links[64];  /* QBB_LINKS_MAX */
} qbb_relay;

void qbb_relay_init(qbb_relay *relay, uint32_t address);
/* The index of the link, or -1 when there are too many. Its queue has no mark and its load no limit yet. */
int qbb_relay_add(qbb_relay *relay, qbb_link *engine);
/* Before each batch of packets: its time, the links' loads, what they can be used for. */
void qbb_relay_tick(qbb_relay *relay, uint64_t now_ns);
/* The new table (its memory is the caller's: keep it until the next one is set), without alternates for hold_ns. */
void qbb_relay_set_table(qbb_relay *relay, const qbb_table *table, uint64_t now_ns, uint64_t hold_ns);
/* A verified packet of channel 1 that came by link `from`; its bytes (delivery->payload) may be changed. LOCAL: for this node.
 * SEND: offered to that link; `reason` is the verdict (enum qbb_verdict) of a link that did not take it, and counted it. */
qbb_decision qbb_relay_pass(qbb_relay *relay, int from, uint8_t *packet, const qbb_delivery *delivery);
/* A packet of this node. Its key is split in two shares like any relayed packet's: packet XOR r, and r. */
qbb_decision qbb_relay_originate(qbb_relay *relay, uint8_t *packet, size_t length, size_t clear, const uint8_t *r);
/* cffi:end */
#endif
