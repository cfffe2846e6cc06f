/* A link's classical channel: batches of datagrams over UDP, or packets framed by their Length field over TCP.
 *
 * One thread uses a channel. What is sent waits in the channel's own batch until the socket has taken it, so a slow peer
 * holds up nobody else. UDP errors (a peer that is not there yet, a route that flaps) cost packets and are counted; only TCP
 * channels can be lost. */
#ifndef QBB_CHANNEL_H
#define QBB_CHANNEL_H
#include <netinet/in.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "dataplane.h"

#define QBB_BATCH 64
#define QBB_DATAGRAM_BYTES 2048 /* longer than any packet, so that a longer datagram is seen to be too long */
#define QBB_STREAM_BYTES 65536

/* Where received packets stand. For UDP in `bytes`, for TCP in the channel's stream buffer until the next receive. */
typedef struct {
    int count;
    uint8_t *packet[QBB_BATCH];
    size_t length[QBB_BATCH];
    struct mmsghdr headers[QBB_BATCH];
    struct iovec vectors[QBB_BATCH];
    uint8_t bytes[QBB_BATCH][QBB_DATAGRAM_BYTES];
} qbb_received;

typedef struct {
    enum qbb_channel_kind kind;
    int fd;
    int blocked; /* the socket would not take more: wait until it is writable */
    int segments; /* UDP: the kernel cuts runs of equal packets for us (UDP_SEGMENT) */
    uint64_t errors; /* UDP: packets lost to errors of the socket */
    /* To be sent: packets [begin, end); of the first, `written` bytes are out already (TCP). */
    int begin, end;
    size_t written;
    size_t length[QBB_BATCH];
    uint8_t (*out)[QBB_PACKET_MAX];
    /* TCP: bytes [stream_begin, stream_end) are received and not handed out. */
    uint8_t *stream;
    size_t stream_begin, stream_end;
} qbb_channel;

void qbb_received_init(qbb_received *received);
/* Takes fd over; 0 or -errno (then fd is not taken). */
int qbb_channel_open(qbb_channel *channel, enum qbb_channel_kind kind, int fd);
void qbb_channel_close(qbb_channel *channel);
/* Fills `received` with up to QBB_BATCH packets that are there now. 1: there may be more; 0: no more for now; -1: lost. */
int qbb_channel_receive(qbb_channel *channel, qbb_received *received);
/* Room for one more packet: where to write it, or NULL. qbb_channel_put says how long it became. */
uint8_t *qbb_channel_room(qbb_channel *channel);
void qbb_channel_put(qbb_channel *channel, size_t length);
/* Forgets what was put and not sent. (The rest of a packet that TCP has begun still goes out, or nobody would find the
 * next one's start.) */
void qbb_channel_discard(qbb_channel *channel);
/* Sends what was put, as far as the socket takes it (sets `blocked`). 0, or -1: lost. */
int qbb_channel_flush(qbb_channel *channel);
#endif
