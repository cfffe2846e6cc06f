#include "forward.h"

#include "bytes.h"
#include "qkd.h"

#define TOS_AT 1
#define TTL_AT 8
#define PROTOCOL_AT 9
#define CHECKSUM_AT 10
#define SOURCE_AT 12
#define DESTINATION_AT 16
#define TRAFFIC_PRIORITY_MAX 5
#define NO_LINK -1

static qbb_decision drop(enum qbb_network_drop reason)
{
    return (qbb_decision){.fate = QBB_FATE_DROP, .reason = (uint8_t)reason};
}

static qbb_decision send_by(int link)
{
    return (qbb_decision){.fate = QBB_FATE_SEND, .link = (int16_t)link};
}

/* A source that no packet from the wire can have: ourselves, nobody, loop-back, a group. */
static int impossible(uint32_t source, uint32_t self)
{
    return source == self || source >> 24 == 0 || source >> 24 == 127 || source >> 28 >= 0xe;
}

/* The header as far as it can be judged alone; QBB_NET_DROPS when it is good. */
static enum qbb_network_drop check(const qbb_forwarding *f, int from, const uint8_t *packet, size_t length)
{
    if (length < QBB_NETWORK_HEADER_BYTES || qbb_get16(packet + 2) != length || length > QBB_NETWORK_MTU)
        return QBB_NET_SHORT;
    if (packet[0] != 0x45)
        return QBB_NET_VERSION;
    if (qbb_checksum(packet, QBB_NETWORK_HEADER_BYTES, 0) != 0)
        return QBB_NET_CHECKSUM;
    uint32_t source = qbb_get32(packet + SOURCE_AT);
    if (from == QBB_WAY_LOCAL ? source != f->address : impossible(source, f->address))
        return QBB_NET_SOURCE;
    return QBB_NET_DROPS;
}

static int has(uint64_t mask, int link)
{
    return (int)(mask >> link & 1);
}

static int allowed(const qbb_forwarding *f, const qbb_way *way, int from)
{
    return way->link != from && (way->flags & QBB_WAY_BEST || (f->alternates && way->flags & QBB_WAY_LOOP_FREE));
}

/* What keeps a link from being taken; QBB_NET_DROPS for nothing. A later reason is a nearer miss than an earlier one. */
static enum qbb_network_drop obstacle(const qbb_forwarding *f, int link)
{
    if (!has(f->up, link))
        return QBB_NET_LINK_DOWN;
    if (!has(f->room, link))
        return QBB_NET_QUEUE;
    return has(f->calm, link) ? QBB_NET_DROPS : QBB_NET_OVERLOAD;
}

static qbb_decision choose(const qbb_forwarding *f, const qbb_way *way, int from)
{
    enum qbb_network_drop reason = QBB_NET_BACK;
    int overloaded = NO_LINK;
    for (;; way++) {
        if (allowed(f, way, from)) {
            enum qbb_network_drop found = obstacle(f, way->link);
            if (found == QBB_NET_DROPS)
                return send_by(way->link);
            if (found == QBB_NET_OVERLOAD && (overloaded == NO_LINK || way->link == f->default_link))
                overloaded = way->link;
            reason = found > reason ? found : reason;
        }
        if (way->flags & QBB_WAY_LAST)
            break;
    }
    if (overloaded != NO_LINK && f->overload == QBB_OVERLOAD_DEFAULT_LINK)
        return send_by(overloaded);
    return drop(reason);
}

qbb_decision qbb_forward(const qbb_forwarding *f, int from, const uint8_t *packet, size_t length)
{
    enum qbb_network_drop wrong = check(f, from, packet, length);
    if (wrong != QBB_NET_DROPS)
        return drop(wrong);
    uint32_t destination = qbb_get32(packet + DESTINATION_AT);
    const qbb_way *way = f->table != NULL ? qbb_table_find(f->table, destination) : NULL;
    int here = way != NULL && way->link == QBB_WAY_LOCAL;
    if (destination == f->address || (here && way->bits == 32)) /* what the node sends itself is no business of the network */
        return from == QBB_WAY_LOCAL ? drop(QBB_NET_NO_ROUTE) : (qbb_decision){.fate = QBB_FATE_LOCAL};
    if (here)
        return drop(QBB_NET_NO_HOST);
    if (from != QBB_WAY_LOCAL && packet[TTL_AT] <= 1)
        return drop(QBB_NET_TTL);
    return way != NULL ? choose(f, way, from) : drop(QBB_NET_NO_ROUTE);
}

void qbb_forward_hop(uint8_t *packet)
{
    packet[TTL_AT]--;
    qbb_put16(packet + CHECKSUM_AT, 0);
    qbb_put16(packet + CHECKSUM_AT, qbb_checksum(packet, QBB_NETWORK_HEADER_BYTES, 0));
}

uint8_t qbb_forward_priority(const uint8_t *packet)
{
    uint8_t precedence = packet[TOS_AT] >> 5;
    return precedence < TRAFFIC_PRIORITY_MAX ? precedence : TRAFFIC_PRIORITY_MAX;
}

int qbb_forward_reportable(uint8_t reason, const uint8_t *packet)
{
    return (reason == QBB_NET_TTL || reason == QBB_NET_NO_ROUTE || reason == QBB_NET_NO_HOST)
        && packet[PROTOCOL_AT] != QBB_PROTOCOL_ICMP;
}
