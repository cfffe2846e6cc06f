/* What becomes of a packet: delivered to the keys service, relayed, punted to control code, or dropped and counted. */
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "dataplane_internal.h"
#include "pad.h"
#include "qkd.h"
#include "wipe.h"

#define PROTOCOL_AT 9
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

static void drop(qbb_dataplane *dp, unsigned reason)
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

/* Counted; and control code is told, if an ICMP error is due: what travelled in the clear, and why. */
static void refuse(qbb_dataplane *dp, int link, uint8_t reason, const uint8_t *packet, size_t clear)
{
    drop(dp, reason);
    if (!qbb_forward_reportable(reason, packet))
        return;
    if (!qbb_bucket_take(&dp->reports, dp->relay.now_ns)) {
        drop(dp, QBB_NET_PUNT_RATE);
        return;
    }
    qbb_punt head = {.kind = QBB_PUNT_NETWORK, .reason = REASON(reason), .priority = qbb_forward_priority(packet),
        .link = (uint16_t)link, .channel = QBB_CHANNEL_NETWORK, .length = (uint32_t)clear, .clear = (uint32_t)clear};
    qbb_plane_punt(dp, &head, packet, NULL);
}

/* For this node: key goes to the ring in the same pass that takes the pad off. ICMP errors are for the transport too, which
 * gives up a connection that cannot be; control code counts them. */
static void deliver(qbb_dataplane *dp, int link, const uint8_t *packet, const qbb_delivery *d)
{
    uint8_t protocol = packet[PROTOCOL_AT];
    if (protocol == QBB_PROTOCOL_QKDTL || protocol == QBB_PROTOCOL_ICMP) {
        if (dp->rings != NULL && qbb_ring_put_padded(dp->rings, packet, d->length, d->clear, d->pad) == 0)
            dp->delivered = 1;
        else
            drop(dp, QBB_NET_RING_FULL);
        if (protocol == QBB_PROTOCOL_QKDTL)
            return;
    }
    qbb_punt head = {.kind = QBB_PUNT_NETWORK, .priority = d->priority, .command = d->command, .link = (uint16_t)link,
        .channel = d->channel, .length = d->length, .clear = d->clear};
    qbb_plane_punt(dp, &head, packet, d->pad);
}

/* A QKDNL packet from a neighbour; the bytes are our receive buffer's, free to change. */
static void forward(qbb_dataplane *dp, int link, uint8_t *packet, const qbb_delivery *d)
{
    qbb_decision decision = qbb_relay_pass(&dp->relay, link, packet, d);
    if (decision.fate == QBB_FATE_LOCAL)
        deliver(dp, link, packet, d);
    else if (decision.fate == QBB_FATE_DROP)
        refuse(dp, link, decision.reason, packet, d->clear);
}

static void punt_delivery(qbb_dataplane *dp, int link, enum qbb_punt_kind kind, const qbb_delivery *d)
{
    qbb_punt head = {.kind = (uint8_t)kind, .priority = d->priority, .command = d->command, .link = (uint16_t)link,
        .channel = d->channel, .length = d->length, .clear = d->clear};
    qbb_plane_punt(dp, &head, d->payload, d->pad);
}

void qbb_plane_receive(qbb_dataplane *dp, int link, uint8_t *packet, size_t length)
{
    qbb_delivery *d = &dp->secret->delivery;
    enum qbb_verdict verdict = qbb_link_receive(dp->links[link]->engine, dp->relay.now_ns, packet, length, d);
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

_Static_assert(QBB_RING_SLOT_BYTES <= QBB_RANDOM_BYTES, "a packet never needs more than is drawn");

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

int qbb_plane_originate(qbb_dataplane *dp, uint8_t *packet, size_t length, size_t clear, const uint8_t *r)
{
    qbb_decision decision = qbb_relay_originate(&dp->relay, packet, length, clear, r);
    if (decision.fate == QBB_FATE_SEND)
        return decision.reason == QBB_DELIVER;
    drop(dp, decision.reason);
    return 0;
}

/* A packet of the keys service: from here on its key exists only as two shares, packet XOR r and r, like any relayed one. */
static void split_and_originate(qbb_dataplane *dp, uint8_t *packet, size_t length, size_t clear)
{
    uint8_t *r = fresh_random(dp, length - clear);
    if (r == NULL) {
        drop(dp, QBB_NET_RANDOM);
        return;
    }
    qbb_pad(packet + clear, packet + clear, r, length - clear);
    qbb_plane_originate(dp, packet, length, clear, r);
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
        split_and_originate(dp, packet, (size_t)length, clear);
        qbb_wipe(packet, (size_t)length);
    }
    return 1;
}
