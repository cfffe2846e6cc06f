/* What becomes of a packet: delivered to the keys service, relayed, punted to control code, or dropped and counted. */
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "bytes.h"
#include "dataplane_internal.h"
#include "pad.h"
#include "qkd.h"
#include "wipe.h"

#define CHECKSUM_AT 10
#define TTL_AT 8
#define PROTOCOL_AT 9
#define SOURCE_AT 12
#define DESTINATION_AT 16
#define LOCAL -1
#define NO_ROUTE -2
/* Priorities 6 and 7 may take the last key of a link: they are control's, whatever the ToS says. */
#define TRAFFIC_PRIORITY_MAX 5
/* A packet dropped here still deserves an ICMP error: punted with its reason. */
#define REASON(drop) ((uint8_t)(1 + (drop)))

/* How much of the punt queue each kind may hold, so that a flood from the wire never shuts out the link machines. Whoever
 * can reach the port can send hellos. */
static const uint32_t punt_share[QBB_PUNT_KINDS] = {
    [QBB_PUNT_HELLO] = QBB_PUNTS / 8,
    [QBB_PUNT_CONTROL] = QBB_PUNTS,
    [QBB_PUNT_NETWORK] = QBB_PUNTS / 8,
    [QBB_PUNT_DEVICE] = QBB_PUNTS / 4,
    [QBB_PUNT_ALARM] = QBB_PUNTS / 8,
    [QBB_PUNT_CHANNEL_LOST] = QBB_PUNTS,
};

static void drop(qbb_dataplane *dp, enum qbb_network_drop reason)
{
    dp->drops[reason]++;
}

void qbb_plane_punt(qbb_dataplane *dp, const qbb_punt *head, const uint8_t *bytes, const uint8_t *pad)
{
    if (dp->punt_head - dp->punt_tail == QBB_PUNTS || dp->punts_waiting[head->kind] >= punt_share[head->kind]) {
        drop(dp, QBB_NET_PUNT_FULL);
        return;
    }
    qbb_punt *punt = &dp->secret->punts[dp->punt_head++ % QBB_PUNTS];
    memcpy(punt, head, offsetof(qbb_punt, bytes));
    if (punt->clear != 0)
        memcpy(punt->bytes, bytes, punt->clear);
    if (punt->length > punt->clear)
        qbb_pad(punt->bytes + punt->clear, bytes + punt->clear, pad, punt->length - punt->clear);
    dp->punts_waiting[head->kind]++;
    dp->punted = 1;
}

static void notify(int fd)
{
    uint64_t one = 1;
    /* An eventfd refuses only when its count is full, and then its reader has been told often enough. */
    ssize_t written = write(fd, &one, sizeof one);
    (void)written;
}

void qbb_plane_signal(qbb_dataplane *dp)
{
    if (dp->punted)
        notify(dp->punt_fd);
    if (dp->delivered && dp->rings != NULL)
        notify(dp->to_keys_fd);
    dp->punted = dp->delivered = 0;
}

/* The link for a destination: LOCAL, NO_ROUTE, or the first usable route of the longest prefix (an unusable one if there
 * is no other). Routes are sorted. */
static int route_to(const qbb_dataplane *dp, uint32_t destination)
{
    const qbb_route *found = NULL;
    if (destination == dp->address)
        return LOCAL;
    for (size_t i = 0; i < dp->route_count; i++) {
        const qbb_route *route = &dp->routes[i];
        if (found != NULL && (route->prefix != found->prefix || route->mask != found->mask))
            break;
        if ((destination & route->mask) != route->prefix)
            continue;
        if (route->link < 0 || dp->links[route->link]->usable)
            return route->link;
        if (found == NULL)
            found = route;
    }
    return found != NULL ? found->link : NO_ROUTE;
}

/* The header of a QKDNL packet, as far as it can be judged alone; QBB_NET_DROPS when it is good. */
static enum qbb_network_drop check_header(const uint8_t *packet, size_t length)
{
    if (length < QBB_NETWORK_HEADER_BYTES || qbb_get16(packet + 2) != length || length > QBB_NETWORK_MTU)
        return QBB_NET_SHORT;
    if (packet[0] != 0x45)
        return QBB_NET_VERSION;
    if (qbb_checksum(packet, QBB_NETWORK_HEADER_BYTES, 0) != 0)
        return QBB_NET_CHECKSUM;
    return QBB_NET_DROPS;
}

static uint8_t priority_of(const uint8_t *packet)
{
    uint8_t precedence = packet[1] >> 5;
    return precedence < TRAFFIC_PRIORITY_MAX ? precedence : TRAFFIC_PRIORITY_MAX;
}

/* A source that no packet from the wire can have: ourselves, nobody, loop-back, a group. */
static int impossible_source(const qbb_dataplane *dp, uint32_t source)
{
    return source == dp->address || source >> 24 == 0 || source >> 24 == 127 || source >> 28 >= 0xe;
}

static void decrement_ttl(uint8_t *packet)
{
    packet[TTL_AT]--;
    qbb_put16(packet + CHECKSUM_AT, 0);
    qbb_put16(packet + CHECKSUM_AT, qbb_checksum(packet, QBB_NETWORK_HEADER_BYTES, 0));
}

/* Tells control code of a packet that went no further: what travelled in the clear, and why. */
static void punt_dropped(qbb_dataplane *dp, int link, enum qbb_network_drop reason, const uint8_t *packet, size_t clear)
{
    qbb_punt head = {.kind = QBB_PUNT_NETWORK, .reason = REASON(reason), .priority = priority_of(packet),
        .link = (uint16_t)link, .channel = QBB_CHANNEL_NETWORK, .length = (uint32_t)clear, .clear = (uint32_t)clear};
    drop(dp, reason);
    qbb_plane_punt(dp, &head, packet, NULL);
}

/* Towards another node: still padded with pad_a, which goes along. */
static void send_on(qbb_dataplane *dp, int out, const uint8_t *packet, size_t length, size_t clear, const uint8_t *pad_a)
{
    qbb_plane_link *link = dp->links[out];
    if (!link->usable || !qbb_link_running(link->engine)) {
        drop(dp, QBB_NET_LINK_DOWN);
        return;
    }
    /* A refusal is counted by the link. */
    qbb_link_submit(link->engine, QBB_CHANNEL_NETWORK, QBB_COMMAND_DATA, priority_of(packet), 1, packet, length, clear,
        clear < length ? pad_a : NULL);
}

/* For this node: key goes to the ring in the same pass that takes the pad off. */
static void deliver(qbb_dataplane *dp, int link, const uint8_t *packet, const qbb_delivery *d)
{
    if (packet[PROTOCOL_AT] == QBB_PROTOCOL_QKDTL) {
        if (dp->rings != NULL && qbb_ring_put_padded(dp->rings, packet, d->length, d->clear, d->pad) == 0)
            dp->delivered = 1;
        else
            drop(dp, QBB_NET_RING_FULL);
        return;
    }
    qbb_punt head = {.kind = QBB_PUNT_NETWORK, .priority = d->priority, .command = d->command, .link = (uint16_t)link,
        .channel = d->channel, .length = d->length, .clear = d->clear};
    qbb_plane_punt(dp, &head, packet, d->pad);
}

/* A QKDNL packet from a neighbour; the bytes are our receive buffer's, free to change. */
static void forward(qbb_dataplane *dp, int link, uint8_t *packet, const qbb_delivery *d)
{
    enum qbb_network_drop reason = check_header(packet, d->length);
    if (reason != QBB_NET_DROPS) {
        drop(dp, reason);
        return;
    }
    if (impossible_source(dp, qbb_get32(packet + SOURCE_AT))) {
        drop(dp, QBB_NET_SOURCE);
        return;
    }
    int out = route_to(dp, qbb_get32(packet + DESTINATION_AT));
    if (out == LOCAL)
        deliver(dp, link, packet, d);
    else if (packet[TTL_AT] <= 1)
        punt_dropped(dp, link, QBB_NET_TTL, packet, d->clear);
    else if (out == NO_ROUTE)
        punt_dropped(dp, link, QBB_NET_NO_ROUTE, packet, d->clear);
    else {
        decrement_ttl(packet);
        send_on(dp, out, packet, d->length, d->clear, d->pad);
    }
}

static void punt_delivery(qbb_dataplane *dp, int link, enum qbb_punt_kind kind, const qbb_delivery *d)
{
    qbb_punt head = {.kind = (uint8_t)kind, .priority = d->priority, .command = d->command, .link = (uint16_t)link,
        .channel = d->channel, .length = d->length, .clear = d->clear};
    qbb_plane_punt(dp, &head, d->payload, d->pad);
}

void qbb_plane_receive(qbb_dataplane *dp, int link, uint64_t now_ns, uint8_t *packet, size_t length)
{
    qbb_delivery *d = &dp->secret->delivery;
    enum qbb_verdict verdict = qbb_link_receive(dp->links[link]->engine, now_ns, packet, length, d);
    qbb_punt head = {.link = (uint16_t)link};
    switch (verdict) {
    case QBB_DELIVER:
        if (d->channel == QBB_CHANNEL_NETWORK)
            forward(dp, link, packet + (d->payload - packet), d);
        else if (d->channel == QBB_CHANNEL_CONTROL)
            punt_delivery(dp, link, QBB_PUNT_CONTROL, d);
        else if (d->channel == QBB_CHANNEL_ROUTING)
            punt_delivery(dp, link, QBB_PUNT_NETWORK, d);
        else if (d->channel >= QBB_CHANNEL_DEVICE)
            punt_delivery(dp, link, QBB_PUNT_DEVICE, d);
        qbb_wipe(d->pad, d->length - d->clear);
        break;
    case QBB_HELLO:
        head.kind = QBB_PUNT_HELLO;
        head.length = head.clear = (uint32_t)length;
        qbb_plane_punt(dp, &head, packet, NULL);
        break;
    case QBB_DROP_CLEAR:
        head.kind = QBB_PUNT_ALARM;
        qbb_plane_punt(dp, &head, NULL, NULL);
        break;
    default: /* absorbed, or dropped and counted by the link */
        break;
    }
}

/* n random bytes in key memory, each given out once; NULL when the kernel gives none. */
static uint8_t *fresh_random(qbb_dataplane *dp, size_t n)
{
    if (dp->random_left < n) {
        size_t got = 0;
        while (got < QBB_RANDOM_BYTES) {
            ssize_t r = getrandom(dp->secret->random + got, QBB_RANDOM_BYTES - got, 0);
            if (r < 0 && errno != EINTR)
                return NULL;
            got += r > 0 ? (size_t)r : 0;
        }
        dp->random_left = QBB_RANDOM_BYTES;
    }
    dp->random_left -= n;
    return dp->secret->random + dp->random_left;
}

/* A packet of the keys service: from here on its key exists only as two shares, packet XOR r and r, like any relayed one. */
static void originate(qbb_dataplane *dp, uint8_t *packet, size_t length, size_t clear)
{
    enum qbb_network_drop reason = check_header(packet, length);
    if (reason == QBB_NET_DROPS && qbb_get32(packet + SOURCE_AT) != dp->address)
        reason = QBB_NET_SOURCE;
    int out = reason == QBB_NET_DROPS ? route_to(dp, qbb_get32(packet + DESTINATION_AT)) : NO_ROUTE;
    if (reason == QBB_NET_DROPS && out < 0) /* to itself: that is no business of the network */
        reason = QBB_NET_NO_ROUTE;
    uint8_t *r = reason == QBB_NET_DROPS ? fresh_random(dp, length - clear) : NULL;
    if (reason == QBB_NET_DROPS && r == NULL)
        reason = QBB_NET_RANDOM;
    if (reason != QBB_NET_DROPS) {
        drop(dp, reason);
        return;
    }
    qbb_pad(packet + clear, packet + clear, r, length - clear);
    send_on(dp, out, packet, length, clear, r);
    qbb_wipe(r, length - clear);
}

int qbb_plane_take_local(qbb_dataplane *dp)
{
    uint8_t *packet = dp->secret->packet;
    for (int i = 0; i < QBB_BATCH; i++) {
        size_t clear;
        int length = dp->rings != NULL ? qbb_ring_take(qbb_plane_ring_from_keys(dp), packet, &clear) : 0;
        if (length == 0)
            return 0;
        if (length < 0) {
            drop(dp, QBB_NET_RING_MALFORMED);
            continue;
        }
        originate(dp, packet, (size_t)length, clear);
        qbb_wipe(packet, (size_t)length);
    }
    return 1;
}
