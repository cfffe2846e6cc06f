/* What becomes of a QKDNL packet: pure decisions (paper 2.5.3, Appendix D; DESIGN: forwarding).
 *
 * Of the ways of the longest prefix the first one is taken whose link carries traffic, has room in its queue and is not
 * overloaded. Never back over the link by which the packet came; besides the best ways only loop-free ones, and those only
 * outside the hold time after a change of the table. What all links refuse for overload is dropped, or sent by the default
 * link, or the first way that is only overloaded. */
#ifndef QBB_FORWARD_H
#define QBB_FORWARD_H
#include "table.h"

/* cffi:begin */
/* Why QKDNL packets are dropped in the data plane, beside each link's own verdicts. PUNT_*: control code was not told. */
enum qbb_network_drop { QBB_NET_SHORT, QBB_NET_VERSION, QBB_NET_CHECKSUM, QBB_NET_SOURCE, QBB_NET_TTL, QBB_NET_NO_ROUTE,
    QBB_NET_NO_HOST,    /* an address of a network of ours that nobody has */
    QBB_NET_BACK,       /* the only way is where it came from */
    QBB_NET_LINK_DOWN, QBB_NET_QUEUE, QBB_NET_OVERLOAD,
    QBB_NET_RING_FULL, QBB_NET_PUNT_FULL, QBB_NET_PUNT_RATE, QBB_NET_RING_MALFORMED, QBB_NET_RANDOM, QBB_NET_DROPS };

enum qbb_overload_policy { QBB_OVERLOAD_DROP, QBB_OVERLOAD_DEFAULT_LINK };

/* All that a decision rests on. Masks have a bit per link. */
typedef struct {
    uint32_t address;       /* of this node, host order */
    uint8_t alternates;     /* 0 in the hold time */
    uint8_t overload;       /* enum qbb_overload_policy */
    int16_t default_link;   /* -1: none */
    const qbb_table *table; /* NULL: no routes */
    uint64_t up;            /* carries traffic */
    uint64_t room;          /* queue below its mark */
    uint64_t calm;          /* load below critical */
} qbb_forwarding;

enum qbb_fate { QBB_FATE_LOCAL, QBB_FATE_SEND, QBB_FATE_DROP };
typedef struct {
    uint8_t fate;   /* enum qbb_fate */
    uint8_t reason; /* DROP: enum qbb_network_drop; SEND: see relay.h */
    int16_t link;   /* SEND */
} qbb_decision;

/* A packet that came by link `from` (QBB_WAY_LOCAL: from the node itself). Only the 20 bytes of its header are read. */
qbb_decision qbb_forward(const qbb_forwarding *forwarding, int from, const uint8_t *packet, size_t length);
/* One hop less to live: TTL and header checksum. What relays send on is sealed anew after that, never before. */
void qbb_forward_hop(uint8_t *packet);
/* Its priority in the queue: the precedence bits, but never control's (6 and 7), which may take a link's last key. */
uint8_t qbb_forward_priority(const uint8_t *packet);
/* Does a drop for this reason deserve an ICMP error? Never about ICMP. */
int qbb_forward_reportable(uint8_t reason, const uint8_t *packet);
/* cffi:end */
#endif
