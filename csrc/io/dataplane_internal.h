/* What the files of the data plane share.
 *
 *   dataplane.c          the calls of control code about links, key and channels; each takes the mutex for a moment
 *   dataplane_network.c  and those about forwarding: table, policies, ring
 *   dataplane_loop.c     the thread: waiting, receiving, sending
 *   dataplane_forward.c  what becomes of a packet: deliver, relay, punt or drop, as core/relay.c decides
 *   channel.c            one classical channel
 *
 * Who owns what: channels, their sockets and `received` belong to the thread while it runs; control code only leaves a
 * wish (`change`) behind. All else is touched under the mutex, which the thread takes once a batch and never holds while
 * it waits or makes system calls on sockets. */
#ifndef QBB_DATAPLANE_INTERNAL_H
#define QBB_DATAPLANE_INTERNAL_H
#include <pthread.h>

#include "channel.h"
#include "dataplane.h"
#include "shmring.h"

#define QBB_HELLOS 4
#define QBB_PUNTS 256
#define QBB_PUNT_KINDS (QBB_PUNT_CHANNEL_LOST + 1)
#define QBB_RANDOM_BYTES 8192
/* What epoll tells the thread beside the links' indexes. */
#define QBB_WATCH_WAKE 1000
#define QBB_WATCH_RING 1001

typedef struct {
    qbb_link *engine;
    void *secret, *plain;
    uint8_t *out_base, *in_base;
    size_t secret_bytes, buffer_bytes;
    int discard; /* an epoch ended: what is sealed and not sent yet must not be sent */
    struct {
        int pending;
        enum qbb_channel_kind kind;
        int fd;
    } change;
    enum qbb_channel_kind kind; /* of the channel that control code knows of: wished for, or lost */
    int hellos;                 /* waiting */
    uint8_t hello[QBB_HELLOS][QBB_PACKET_MAX];
    qbb_channel channel;        /* the thread's own */
    uint32_t watched;           /* the events that epoll watches for on it */
} qbb_plane_link;

/* What stands in key memory beside the links. */
typedef struct {
    qbb_delivery delivery;
    uint8_t packet[QBB_RING_SLOT_BYTES]; /* taken from the ring */
    uint8_t random[QBB_RANDOM_BYTES];
    qbb_punt punts[QBB_PUNTS];
} qbb_plane_secret;

struct qbb_dataplane {
    pthread_mutex_t mutex;
    pthread_t thread;
    int running, stop;
    int epoll_fd, wake_fd, punt_fd;

    qbb_plane_link *links[QBB_LINKS_MAX];
    int link_count;
    qbb_relay relay; /* its links are these, by the same indexes */
    void *table_memory;
    qbb_bucket reports;
    void *rings;
    int to_keys_fd, from_keys_fd;
    uint64_t drops[32];

    qbb_plane_secret *secret;
    size_t random_left;
    uint32_t punt_head, punt_tail, punts_waiting[QBB_PUNT_KINDS];
    int punted, delivered; /* in this batch: signal when it is done */

    qbb_received *received; /* the thread's own */

    pthread_mutex_t loading; /* of the room for chunks on their way from their files; taken before `mutex` */
    uint8_t *room;
    size_t room_bytes;
};

/* The second of the two rings: from the keys service to the data plane. */
static inline void *qbb_plane_ring_from_keys(const qbb_dataplane *dp)
{
    return (uint8_t *)dp->rings + qbb_ring_bytes();
}

uint64_t qbb_plane_clock_ns(void);
/* The link, with the mutex held; NULL, without it, when there is no such link. */
qbb_plane_link *qbb_plane_take(qbb_dataplane *dp, int link);
/* Give the mutex back, and `result` to the caller; the second one lets the thread look what there is to send. */
int qbb_plane_release(qbb_dataplane *dp, int result);
int qbb_plane_release_and_wake(qbb_dataplane *dp, int result);

/* All below: under the mutex. */

/* A datagram that arrived on a link; qbb_relay_tick comes before each batch. */
void qbb_plane_receive(qbb_dataplane *dp, int link, uint8_t *packet, size_t length);
/* A QKDNL packet of this node; r: the other share of its key. 1 when a link took it. */
int qbb_plane_originate(qbb_dataplane *dp, uint8_t *packet, size_t length, size_t clear, const uint8_t *r);
/* Takes up to QBB_BATCH packets of local origin from the ring; 1 when there may be more. */
int qbb_plane_take_local(qbb_dataplane *dp);
/* Queues a punt for control code; its bytes are `clear` bytes and then length - clear bytes XOR pad (unless NULL). Counted
 * as QBB_NET_PUNT_FULL when its kind has its share of the queue already. */
void qbb_plane_punt(qbb_dataplane *dp, const qbb_punt *head, const uint8_t *bytes, const uint8_t *pad);
/* Signals the eventfds of what this batch punted and delivered. */
void qbb_plane_signal(qbb_dataplane *dp);

void *qbb_plane_thread(void *dataplane);
#endif
