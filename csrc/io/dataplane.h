/* The data plane's thread: all links of a node, their classical channels, the ring to the keys service, local delivery.
 *
 * One C thread owns the loop and never takes the GIL. Control code calls the functions below from any thread; each takes
 * the data plane's mutex for a moment. What the fast path does not decide is punted: a bounded queue that control reads
 * when the punt descriptor (eventfd) is readable. */
#ifndef QBB_DATAPLANE_H
#define QBB_DATAPLANE_H
#include "relay.h"

/* cffi:begin */
enum qbb_channel_kind { QBB_CHANNEL_NONE, QBB_CHANNEL_UDP, QBB_CHANNEL_TCP };
/* hello: an unsealed packet, whole. control: channel 0. network: QKDNL that is not for the keys service: ICMP, channel 2, and
 * the clear part of dropped packets that deserve an ICMP error (`reason`; qbb_forward_reportable), so many a second. device:
 * channels from 16 up. alarm: QBB_DROP_CLEAR. channel_lost: a TCP channel ended. */
enum qbb_punt_kind { QBB_PUNT_HELLO, QBB_PUNT_CONTROL, QBB_PUNT_NETWORK, QBB_PUNT_DEVICE, QBB_PUNT_ALARM,
    QBB_PUNT_CHANNEL_LOST };
typedef struct qbb_dataplane qbb_dataplane;

/* In key memory, because the part behind `clear` may be secret (fingerprints): Python copies the clear part only. */
typedef struct {
    uint8_t kind, priority, command;
    uint8_t reason; /* network: 0 for this node, else 1 + enum qbb_network_drop */
    uint16_t link, channel;
    uint32_t length, clear;
    uint8_t bytes[1472]; /* clear text: padded parts have been opened */
} qbb_punt;

/* node_address in host order. NULL with errno. */
qbb_dataplane *qbb_dataplane_new(uint32_t node_address);
void qbb_dataplane_free(qbb_dataplane *dp);
int qbb_dataplane_start(qbb_dataplane *dp);
int qbb_dataplane_stop(qbb_dataplane *dp);
int qbb_dataplane_punt_fd(qbb_dataplane *dp);
/* 1 and *punt filled, or 0. */
int qbb_dataplane_next_punt(qbb_dataplane *dp, qbb_punt *punt);

/* Adds a link; returns its index or -errno. Key memory is mapped here. */
int qbb_dataplane_add_link(qbb_dataplane *dp, const qbb_link_params *params, uint64_t buffer_words);
/* Gives the link its classical channel: a UDP socket connected to the peer, or a connected TCP socket. The data plane
 * takes the descriptor over. kind NONE takes it away. */
int qbb_dataplane_set_channel(qbb_dataplane *dp, int link, enum qbb_channel_kind kind, int fd);
/* Sends one unsealed datagram (a hello) on the link's channel. -EINVAL when it is not a hello, -ENOTCONN without a channel,
 * -EAGAIN when the last ones still wait. */
int qbb_dataplane_send_hello(qbb_dataplane *dp, int link, const uint8_t *packet, size_t length);

/* The link functions of link.h under the mutex; the thread is woken when there may be something to send. */
int qbb_dataplane_begin(qbb_dataplane *dp, int link, uint64_t epoch, const uint8_t out_half[128], const uint8_t in_half[128]);
int qbb_dataplane_end(qbb_dataplane *dp, int link);
/* Reads block file `name` (length bytes, a multiple of 8) into the direction's buffer. -ENOBUFS when there is no room. */
int qbb_dataplane_load(qbb_dataplane *dp, int link, enum qbb_direction direction, int dir_fd, const char *name,
    size_t length);
int qbb_dataplane_close_below(qbb_dataplane *dp, int link, enum qbb_direction direction, uint64_t word);
int qbb_dataplane_allow(qbb_dataplane *dp, int link, unsigned priority);
/* 0, a verdict as of qbb_link_submit, or -EINVAL for a link that is not there. */
int qbb_dataplane_submit(qbb_dataplane *dp, int link, uint16_t channel, uint8_t command, uint8_t priority, int reliable,
    const uint8_t *payload, size_t length, size_t clear);
/* The same for an offer of device blocks: computes the fingerprint of each block file under h (outside the mutex) and
 * submits clear || fingerprints to the control channel, reliable, the fingerprints padded. 0 or -errno: -ENOBUFS (queue
 * full), -ENOTCONN (no epoch), -EMSGSIZE (too many blocks), or what reading a block gave. */
int qbb_dataplane_submit_offer(qbb_dataplane *dp, int link, uint8_t priority, const uint8_t *clear, size_t clear_length,
    const uint8_t h[16], int dir_fd, const char *const *names, const size_t *lengths, size_t count);
int qbb_dataplane_stats(qbb_dataplane *dp, int link, qbb_link_stats *stats);

/* The routing table, swapped whole while packets flow (table.h says how it is sorted). For hold_ns only best ways are
 * taken: until the other nodes have made their tables as well, alternates may lead in circles. -EINVAL for a table that is
 * not in order: the old one stays. */
int qbb_dataplane_set_table(qbb_dataplane *dp, const qbb_way *ways, size_t count, uint64_t hold_ns);
/* What happens when all ways are overloaded. default_link: preferred then, or -1. */
int qbb_dataplane_set_overload(qbb_dataplane *dp, enum qbb_overload_policy policy, int default_link);
/* A link's load filter (w, L_cr; starts anew), and how many packets its queue may hold before other links are preferred. */
int qbb_dataplane_set_link_policy(qbb_dataplane *dp, int link, double window, double critical, uint32_t queue_mark);
/* What the link can carry, in key words a second: its key rate, and of its store what is to spare. */
int qbb_dataplane_set_supply(qbb_dataplane *dp, int link, double words_s);
int qbb_dataplane_link_load(qbb_dataplane *dp, int link, qbb_load *load);
/* At most so many dropped packets are told to control for ICMP errors: `burst` at once, one each interval_ns. */
int qbb_dataplane_set_report_rate(qbb_dataplane *dp, uint64_t interval_ns, uint64_t burst);
/* Sends a whole QKDNL packet of this node that has nothing to pad (ICMP): 1 when a link took it, 0 when it was dropped and
 * counted. */
int qbb_dataplane_originate(qbb_dataplane *dp, const uint8_t *packet, size_t length);
/* May traffic (channel 1) use the link? Set by the link machine: 1 in UP with key above the reserve. */
int qbb_dataplane_set_usable(qbb_dataplane *dp, int link, int usable);
/* The ring to the keys service: shared mapping and the two eventfds (to_keys is signalled by us, from_keys by them). NULL
 * ring takes it away; only after that may the caller, who keeps all three, unmap and close. */
int qbb_dataplane_set_ring(qbb_dataplane *dp, void *rings, int to_keys_fd, int from_keys_fd);
int qbb_dataplane_network_drops(qbb_dataplane *dp, uint64_t out[32]);
/* cffi:end */
#endif
