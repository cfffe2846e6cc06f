#define _GNU_SOURCE
#include "channel.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif

/* What one segmented datagram may hold: the kernel's limit of segments, and a UDP datagram's length. */
#define SEGMENTS_MAX 64
#define DATAGRAM_MAX 65000
/* A burst of a few thousand packets should wait in the socket while the thread looks elsewhere. */
#define SOCKET_BUFFER_BYTES (4 << 20)

void qbb_received_init(qbb_received *received)
{
    memset(received, 0, sizeof *received);
    for (int i = 0; i < QBB_BATCH; i++) {
        received->vectors[i] = (struct iovec){received->bytes[i], QBB_DATAGRAM_BYTES};
        received->headers[i].msg_hdr = (struct msghdr){.msg_iov = &received->vectors[i], .msg_iovlen = 1};
    }
}

int qbb_channel_open(qbb_channel *channel, enum qbb_channel_kind kind, int fd)
{
    static const int on = 1, off = 0, buffer_bytes = SOCKET_BUFFER_BYTES;
    int flags = fcntl(fd, F_GETFL), type = 0;
    socklen_t type_bytes = sizeof type;
    if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &type_bytes) != 0)
        return -errno;
    if (type != (kind == QBB_CHANNEL_TCP ? SOCK_STREAM : SOCK_DGRAM))
        return -EPROTOTYPE;
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0)
        return -errno;
    memset(channel, 0, sizeof *channel);
    channel->out = malloc(QBB_BATCH * sizeof *channel->out);
    channel->stream = kind == QBB_CHANNEL_TCP ? malloc(QBB_STREAM_BYTES) : NULL;
    if (channel->out == NULL || (kind == QBB_CHANNEL_TCP && channel->stream == NULL)) {
        free(channel->out);
        free(channel->stream);
        return -ENOMEM;
    }
    /* All of these only make it faster: a refusal is no error. */
    if (kind == QBB_CHANNEL_TCP) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    } else {
        setsockopt(fd, IPPROTO_IP, IP_RECVERR, &off, sizeof off); /* nobody here would read an error queue */
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &buffer_bytes, sizeof buffer_bytes);
        setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &buffer_bytes, sizeof buffer_bytes);
    }
    channel->kind = kind;
    channel->fd = fd;
    channel->segments = kind == QBB_CHANNEL_UDP;
    return 0;
}

void qbb_channel_close(qbb_channel *channel)
{
    if (channel->kind == QBB_CHANNEL_NONE)
        return;
    close(channel->fd);
    free(channel->out);
    free(channel->stream);
    memset(channel, 0, sizeof *channel);
}

/* Errors that say that this socket has nothing for us now. */
static int would_block(int error)
{
    return error == EAGAIN || error == EWOULDBLOCK;
}

static int receive_datagrams(qbb_channel *channel, qbb_received *received)
{
    int n;
    /* ECONNREFUSED and its like tell of a packet sent earlier. Each call takes one such report away; a few in a row are
     * plausible, more can wait for the next round. */
    for (int tries = 0; tries < 4; tries++) {
        n = recvmmsg(channel->fd, received->headers, QBB_BATCH, MSG_DONTWAIT, NULL);
        if (n >= 0 || would_block(errno))
            break;
        channel->errors += errno != EINTR;
    }
    received->count = n > 0 ? n : 0;
    for (int i = 0; i < received->count; i++) {
        received->packet[i] = received->bytes[i];
        received->length[i] = received->headers[i].msg_len;
    }
    return n == QBB_BATCH;
}

static size_t frame_length(const uint8_t *bytes)
{
    return (size_t)bytes[0] << 8 | bytes[1];
}

/* Hands out the whole packets of the stream; -1 when a length is impossible: nothing behind it can be found again. */
static int cut_frames(qbb_channel *channel, qbb_received *received)
{
    received->count = 0;
    while (received->count < QBB_BATCH && channel->stream_end - channel->stream_begin >= 2) {
        uint8_t *frame = channel->stream + channel->stream_begin;
        size_t length = frame_length(frame);
        if (length < QBB_HEADER_BYTES || length > QBB_PACKET_MAX)
            return -1;
        if (length > channel->stream_end - channel->stream_begin)
            break;
        received->packet[received->count] = frame;
        received->length[received->count++] = length;
        channel->stream_begin += length;
    }
    return received->count == QBB_BATCH;
}

static int receive_stream(qbb_channel *channel, qbb_received *received)
{
    memmove(channel->stream, channel->stream + channel->stream_begin, channel->stream_end - channel->stream_begin);
    channel->stream_end -= channel->stream_begin;
    channel->stream_begin = 0;
    /* There is always room: what stays behind is less than one packet, or a batch was full and the buffer holds more. */
    ssize_t n = QBB_STREAM_BYTES - channel->stream_end > 0
        ? recv(channel->fd, channel->stream + channel->stream_end, QBB_STREAM_BYTES - channel->stream_end, MSG_DONTWAIT)
        : -1;
    if (n > 0)
        channel->stream_end += (size_t)n;
    int failed = n == 0 || (n < 0 && channel->stream_end < QBB_STREAM_BYTES && !would_block(errno) && errno != EINTR);
    int more = cut_frames(channel, received);
    /* What arrived before the end is still handed out; the end shows again at the next call. */
    return failed && received->count == 0 ? -1 : more;
}

int qbb_channel_receive(qbb_channel *channel, qbb_received *received)
{
    received->count = 0;
    switch (channel->kind) {
    case QBB_CHANNEL_UDP: return receive_datagrams(channel, received);
    case QBB_CHANNEL_TCP: return receive_stream(channel, received);
    case QBB_CHANNEL_NONE: break;
    }
    return 0;
}

uint8_t *qbb_channel_room(qbb_channel *channel)
{
    return channel->kind != QBB_CHANNEL_NONE && channel->end < QBB_BATCH ? channel->out[channel->end] : NULL;
}

void qbb_channel_put(qbb_channel *channel, size_t length)
{
    channel->length[channel->end++] = length;
}

void qbb_channel_discard(qbb_channel *channel)
{
    channel->end = channel->written > 0 ? channel->begin + 1 : channel->begin;
}

/* One message of sendmmsg: a packet, or a run of packets that the kernel cuts apart again. */
typedef struct {
    struct mmsghdr headers[QBB_BATCH];
    struct iovec vectors[QBB_BATCH];
    int packets[QBB_BATCH];
    union {
        char bytes[CMSG_SPACE(sizeof(uint16_t))];
        struct cmsghdr align;
    } control[QBB_BATCH];
    int count;
} send_plan;

/* How many packets from `first` on can go as one: equal lengths, of which the last may be shorter. */
static int run_length(const qbb_channel *channel, int first)
{
    size_t size = channel->length[first], total = size;
    int n = 1;
    if (!channel->segments)
        return 1;
    while (first + n < channel->end && n < SEGMENTS_MAX) {
        size_t next = channel->length[first + n];
        if (next > size || total + next > DATAGRAM_MAX)
            break;
        total += next;
        n++;
        if (next < size)
            break;
    }
    return n;
}

static void ask_for_segments(struct msghdr *header, void *control, size_t control_bytes, size_t segment_bytes)
{
    header->msg_control = control;
    header->msg_controllen = control_bytes;
    struct cmsghdr *message = CMSG_FIRSTHDR(header);
    uint16_t size = (uint16_t)segment_bytes;
    message->cmsg_level = IPPROTO_UDP;
    message->cmsg_type = UDP_SEGMENT;
    message->cmsg_len = CMSG_LEN(sizeof size);
    memcpy(CMSG_DATA(message), &size, sizeof size);
}

static void plan(send_plan *p, qbb_channel *channel)
{
    p->count = 0;
    for (int i = channel->begin; i < channel->end;) {
        int run = run_length(channel, i), m = p->count++;
        p->packets[m] = run;
        p->headers[m].msg_hdr = (struct msghdr){.msg_iov = &p->vectors[i], .msg_iovlen = (size_t)run};
        for (int k = 0; k < run; k++)
            p->vectors[i + k] = (struct iovec){channel->out[i + k], channel->length[i + k]};
        if (run > 1)
            ask_for_segments(&p->headers[m].msg_hdr, &p->control[m], sizeof p->control[m], channel->length[i]);
        i += run;
    }
}

static int flush_datagrams(qbb_channel *channel)
{
    send_plan p;
    int reports = 0;
    while (channel->begin < channel->end) {
        plan(&p, channel);
        int sent = sendmmsg(channel->fd, p.headers, (unsigned)p.count, MSG_DONTWAIT | MSG_NOSIGNAL);
        for (int m = 0; m < sent; m++)
            channel->begin += p.packets[m];
        if (sent > 0)
            continue;
        if (would_block(errno)) {
            channel->blocked = 1;
            return 0;
        }
        if (errno == EINTR || (errno == ECONNREFUSED && reports++ < 4)) /* tells of an earlier packet; this one was not sent */
            continue;
        if (p.packets[0] > 1) { /* EIO, EINVAL, EMSGSIZE: this path does not cut segments */
            channel->segments = 0;
            continue;
        }
        channel->begin++; /* lost, as on any wire; what is reliable is sent again */
        channel->errors++;
    }
    return 0;
}

static int flush_stream(qbb_channel *channel)
{
    while (channel->begin < channel->end) {
        struct iovec vectors[QBB_BATCH];
        struct msghdr header = {.msg_iov = vectors};
        for (int i = channel->begin; i < channel->end; i++)
            vectors[header.msg_iovlen++] = (struct iovec){channel->out[i], channel->length[i]};
        vectors[0].iov_base = channel->out[channel->begin] + channel->written;
        vectors[0].iov_len -= channel->written;
        ssize_t n = sendmsg(channel->fd, &header, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && would_block(errno)) {
            channel->blocked = 1;
            return 0;
        }
        if (n < 0)
            return -1;
        channel->written += (size_t)n;
        while (channel->begin < channel->end && channel->written >= channel->length[channel->begin])
            channel->written -= channel->length[channel->begin++];
    }
    return 0;
}

int qbb_channel_flush(qbb_channel *channel)
{
    channel->blocked = 0;
    int result = 0;
    if (channel->kind == QBB_CHANNEL_UDP)
        result = flush_datagrams(channel);
    else if (channel->kind == QBB_CHANNEL_TCP)
        result = flush_stream(channel);
    if (!channel->blocked)
        channel->begin = channel->end = 0;
    return result;
}
