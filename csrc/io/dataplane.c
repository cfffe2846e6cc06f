/* What control code calls. Every call takes the mutex for a moment; reading files and mapping memory stay outside of it. */
#define _GNU_SOURCE
#include "dataplane.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "blockfile.h"
#include "bytes.h"
#include "dataplane_internal.h"
#include "keymem.h"
#include "wipe.h"

#define ALIGN 64
/* Until control says otherwise. */
#define REPORT_INTERVAL_NS 100000000
#define REPORTS_AT_ONCE 10

static void wake(qbb_dataplane *dp)
{
    uint64_t one = 1;
    ssize_t n = write(dp->wake_fd, &one, sizeof one);
    (void)n;
}

qbb_plane_link *qbb_plane_take(qbb_dataplane *dp, int link)
{
    pthread_mutex_lock(&dp->mutex);
    if (link >= 0 && link < dp->link_count)
        return dp->links[link];
    pthread_mutex_unlock(&dp->mutex);
    return NULL;
}

int qbb_plane_release(qbb_dataplane *dp, int result)
{
    pthread_mutex_unlock(&dp->mutex);
    return result;
}

int qbb_plane_release_and_wake(qbb_dataplane *dp, int result)
{
    pthread_mutex_unlock(&dp->mutex);
    wake(dp);
    return result;
}

/* Life of the data plane. */

static int watch_eventfd(qbb_dataplane *dp, int fd, uint64_t who)
{
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = who};
    return epoll_ctl(dp->epoll_fd, EPOLL_CTL_ADD, fd, &event);
}

qbb_dataplane *qbb_dataplane_new(uint32_t node_address)
{
    qbb_dataplane *dp = calloc(1, sizeof *dp);
    if (dp == NULL)
        return NULL;
    pthread_mutex_init(&dp->mutex, NULL);
    pthread_mutex_init(&dp->loading, NULL);
    qbb_relay_init(&dp->relay, node_address);
    dp->reports = (qbb_bucket){.interval_ns = REPORT_INTERVAL_NS, .burst = REPORTS_AT_ONCE};
    dp->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    dp->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    dp->punt_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    dp->received = malloc(sizeof *dp->received);
    dp->secret = qbb_keymem_map(sizeof *dp->secret);
    if (dp->epoll_fd >= 0 && dp->wake_fd >= 0 && dp->punt_fd >= 0 && dp->received != NULL && dp->secret != NULL
        && watch_eventfd(dp, dp->wake_fd, QBB_WATCH_WAKE) == 0) {
        qbb_received_init(dp->received);
        return dp;
    }
    int error = errno;
    qbb_dataplane_free(dp);
    errno = error;
    return NULL;
}

static void free_link(qbb_plane_link *link)
{
    if (link->change.pending && link->change.kind != QBB_CHANNEL_NONE)
        close(link->change.fd);
    qbb_channel_close(&link->channel);
    qbb_keymem_unmap(link->secret, link->secret_bytes, 0);
    qbb_keymem_unmap(link->out_base, link->buffer_bytes, 1);
    qbb_keymem_unmap(link->in_base, link->buffer_bytes, 1);
    free(link->plain);
    free(link);
}

void qbb_dataplane_free(qbb_dataplane *dp)
{
    if (dp == NULL)
        return;
    qbb_dataplane_stop(dp);
    for (int i = 0; i < dp->link_count; i++)
        free_link(dp->links[i]);
    if (dp->epoll_fd >= 0)
        close(dp->epoll_fd);
    if (dp->wake_fd >= 0)
        close(dp->wake_fd);
    if (dp->punt_fd >= 0)
        close(dp->punt_fd);
    qbb_keymem_unmap(dp->secret, sizeof *dp->secret, 0);
    qbb_keymem_unmap(dp->room, dp->room_bytes, 0);
    free(dp->received);
    pthread_mutex_destroy(&dp->loading);
    free(dp->table_memory);
    pthread_mutex_destroy(&dp->mutex);
    free(dp);
}

int qbb_dataplane_start(qbb_dataplane *dp)
{
    sigset_t all, before;
    if (dp->running)
        return -EALREADY;
    if (qbb_selftest() != 0) /* no packet from a processor that computes wrong tags */
        return -EILSEQ;
    dp->stop = 0;
    sigfillset(&all); /* signals are the main thread's */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(&dp->thread, NULL, qbb_plane_thread, dp);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error != 0)
        return -error;
    pthread_setname_np(dp->thread, "qbb-dataplane");
    dp->running = 1;
    return 0;
}

int qbb_dataplane_stop(qbb_dataplane *dp)
{
    if (!dp->running)
        return 0;
    pthread_mutex_lock(&dp->mutex);
    dp->stop = 1;
    qbb_plane_release_and_wake(dp, 0);
    int error = pthread_join(dp->thread, NULL);
    dp->running = 0;
    return -error;
}

/* Punts. */

int qbb_dataplane_punt_fd(qbb_dataplane *dp)
{
    return dp->punt_fd;
}

int qbb_dataplane_next_punt(qbb_dataplane *dp, qbb_punt *punt)
{
    pthread_mutex_lock(&dp->mutex);
    if (dp->punt_head == dp->punt_tail)
        return qbb_plane_release(dp, 0);
    qbb_punt *first = &dp->secret->punts[dp->punt_tail++ % QBB_PUNTS];
    size_t bytes = offsetof(qbb_punt, bytes) + first->length;
    memcpy(punt, first, bytes);
    qbb_wipe(first, bytes);
    dp->punts_waiting[punt->kind]--;
    return qbb_plane_release(dp, 1);
}

/* Links and their channels. */

static int map_link(qbb_plane_link *link, const qbb_link_params *params, uint64_t buffer_words)
{
    size_t plain_bytes = (qbb_link_plain_bytes(params) + ALIGN - 1) / ALIGN * ALIGN;
    link->secret_bytes = qbb_link_secret_bytes(params);
    link->buffer_bytes = buffer_words * 8;
    if (link->secret_bytes == 0 || plain_bytes == 0 || buffer_words == 0 || buffer_words > UINT32_MAX)
        return -EINVAL;
    link->secret = qbb_keymem_map(link->secret_bytes);
    link->out_base = link->secret != NULL ? qbb_keymem_map_mirrored(link->buffer_bytes) : NULL;
    link->in_base = link->out_base != NULL ? qbb_keymem_map_mirrored(link->buffer_bytes) : NULL;
    link->plain = link->in_base != NULL ? aligned_alloc(ALIGN, plain_bytes) : NULL;
    if (link->plain == NULL)
        return -errno;
    memset(link->plain, 0, plain_bytes);
    link->engine = qbb_link_init(params, link->secret, link->plain, link->out_base, link->in_base, buffer_words);
    return link->engine != NULL ? 0 : -EINVAL;
}

int qbb_dataplane_add_link(qbb_dataplane *dp, const qbb_link_params *params, uint64_t buffer_words)
{
    qbb_plane_link *link = calloc(1, sizeof *link);
    if (link == NULL)
        return -ENOMEM;
    int result = map_link(link, params, buffer_words);
    if (result == 0) {
        pthread_mutex_lock(&dp->mutex);
        if (dp->link_count < QBB_LINKS_MAX) {
            dp->links[dp->link_count] = link;
            qbb_relay_add(&dp->relay, link->engine);
            return qbb_plane_release(dp, dp->link_count++);
        }
        result = qbb_plane_release(dp, -ENOSPC);
    }
    free_link(link);
    return result;
}

int qbb_dataplane_set_channel(qbb_dataplane *dp, int index, enum qbb_channel_kind kind, int fd)
{
    int type = 0, wanted = kind == QBB_CHANNEL_TCP ? SOCK_STREAM : SOCK_DGRAM;
    socklen_t type_bytes = sizeof type;
    if (kind != QBB_CHANNEL_NONE && getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &type_bytes) != 0)
        return -errno;
    if (kind != QBB_CHANNEL_NONE && type != wanted)
        return -EPROTOTYPE;
    qbb_plane_link *link = qbb_plane_take(dp, index);
    if (link == NULL)
        return -EINVAL;
    if (link->change.pending && link->change.kind != QBB_CHANNEL_NONE)
        close(link->change.fd);
    link->change.pending = 1;
    link->change.kind = kind;
    link->change.fd = fd;
    link->kind = kind;
    link->hellos = 0;
    return qbb_plane_release_and_wake(dp, 0);
}

int qbb_dataplane_send_hello(qbb_dataplane *dp, int index, const uint8_t *packet, size_t length)
{
    qbb_header header;
    if (length < QBB_HEADER_BYTES || length > QBB_PACKET_MAX)
        return -EINVAL;
    qbb_header_read(&header, packet);
    if (header.length != length || header.authenticated || header.encrypted || header.command != QBB_COMMAND_HELLO)
        return -EINVAL;
    qbb_plane_link *link = qbb_plane_take(dp, index);
    if (link == NULL)
        return -EINVAL;
    if (link->kind == QBB_CHANNEL_NONE)
        return qbb_plane_release(dp, -ENOTCONN);
    if (link->hellos == QBB_HELLOS)
        return qbb_plane_release(dp, -EAGAIN);
    memcpy(link->hello[link->hellos++], packet, length);
    return qbb_plane_release_and_wake(dp, 0);
}

/* Key and packets of a link. */

int qbb_dataplane_begin(qbb_dataplane *dp, int index, uint64_t epoch, const uint8_t out_half[QBB_SLOT_HALF_BYTES],
    const uint8_t in_half[QBB_SLOT_HALF_BYTES])
{
    qbb_plane_link *link = qbb_plane_take(dp, index);
    if (link == NULL)
        return -EINVAL;
    qbb_link_begin(link->engine, epoch, out_half, in_half);
    link->discard = 1;
    return qbb_plane_release_and_wake(dp, 0);
}

int qbb_dataplane_end(qbb_dataplane *dp, int index)
{
    qbb_plane_link *link = qbb_plane_take(dp, index);
    if (link == NULL)
        return -EINVAL;
    qbb_link_end(link->engine);
    link->discard = 1;
    return qbb_plane_release(dp, 0);
}

/* Copies a chunk to its place. Room is taken and filled under one hold of the mutex, so no epoch can end in between. */
static int put_key(qbb_dataplane *dp, int index, enum qbb_direction direction, const uint8_t *bytes, size_t length)
{
    qbb_plane_link *link = qbb_plane_take(dp, index);
    if (link == NULL)
        return -EINVAL;
    if (!qbb_link_running(link->engine))
        return qbb_plane_release(dp, -ENOTCONN);
    uint8_t *place = qbb_link_reserve(link->engine, direction, length / 8);
    if (place == NULL)
        return qbb_plane_release(dp, -ENOBUFS);
    memcpy(place, bytes, length);
    qbb_link_commit(link->engine, direction, length / 8);
    return qbb_plane_release_and_wake(dp, 0);
}

/* Key memory for one chunk on its way from its file. It is kept: to map secret memory costs tens of microseconds a page,
 * and each page has all processors flush what they know of the kernel's map, the thread's too. */
static int make_room(qbb_dataplane *dp, size_t length)
{
    if (dp->room_bytes >= length)
        return 0;
    uint8_t *room = qbb_keymem_map(length);
    if (room == NULL)
        return -errno;
    qbb_keymem_unmap(dp->room, dp->room_bytes, 0);
    dp->room = room;
    dp->room_bytes = length;
    return 0;
}

int qbb_dataplane_load(qbb_dataplane *dp, int index, enum qbb_direction direction, int dir_fd, const char *name,
    size_t length)
{
    if (length == 0 || length % 8 != 0 || (direction != QBB_OUT && direction != QBB_IN))
        return -EINVAL;
    pthread_mutex_lock(&dp->loading);
    int result = make_room(dp, length);
    if (result == 0) {
        result = qbb_block_read(dir_fd, name, dp->room, length);
        if (result == 0)
            result = put_key(dp, index, direction, dp->room, length);
        qbb_wipe(dp->room, length);
    }
    pthread_mutex_unlock(&dp->loading);
    return result;
}

int qbb_dataplane_close_below(qbb_dataplane *dp, int index, enum qbb_direction direction, uint64_t word)
{
    qbb_plane_link *link = qbb_plane_take(dp, index);
    if (link == NULL)
        return -EINVAL;
    qbb_link_close_below(link->engine, direction, word);
    return qbb_plane_release(dp, 0);
}

int qbb_dataplane_allow(qbb_dataplane *dp, int index, unsigned priority)
{
    qbb_plane_link *link = qbb_plane_take(dp, index);
    if (link == NULL)
        return -EINVAL;
    qbb_link_allow(link->engine, priority);
    return qbb_plane_release_and_wake(dp, 0);
}

int qbb_dataplane_submit(qbb_dataplane *dp, int index, uint16_t channel, uint8_t command, uint8_t priority, int reliable,
    const uint8_t *payload, size_t length, size_t clear)
{
    qbb_plane_link *link = qbb_plane_take(dp, index);
    if (link == NULL)
        return -EINVAL;
    int result = qbb_link_submit(link->engine, channel, command, priority, reliable, payload, length, clear, NULL);
    return qbb_plane_release_and_wake(dp, result);
}

int qbb_dataplane_submit_offer(qbb_dataplane *dp, int index, uint8_t priority, const uint8_t *clear, size_t clear_length,
    const uint8_t h[16], int dir_fd, const char *const *names, const size_t *lengths, size_t count)
{
    if (clear_length > QBB_PAYLOAD_MAX || count > (QBB_PAYLOAD_MAX - clear_length) / 16)
        return -EMSGSIZE;
    size_t length = clear_length + 16 * count;
    uint8_t *payload = qbb_keymem_map(QBB_PAYLOAD_MAX);
    if (payload == NULL)
        return -errno;
    memcpy(payload, clear, clear_length);
    int result = 0;
    for (size_t i = 0; i < count && result == 0; i++)
        result = qbb_block_fingerprint(payload + clear_length + 16 * i, h, dir_fd, names[i], lengths[i]);
    if (result == 0) {
        result = qbb_dataplane_submit(
            dp, index, QBB_CHANNEL_CONTROL, QBB_COMMAND_CONTROL, priority, 1, payload, length, clear_length);
        result = result == -QBB_DROP_QUEUE_FULL ? -ENOBUFS : result == -QBB_DROP_NO_EPOCH ? -ENOTCONN
            : result == 0 ? 0 : -EINVAL;
    }
    qbb_keymem_unmap(payload, QBB_PAYLOAD_MAX, 0);
    return result;
}

int qbb_dataplane_stats(qbb_dataplane *dp, int index, qbb_link_stats *stats)
{
    qbb_plane_link *link = qbb_plane_take(dp, index);
    if (link == NULL)
        return -EINVAL;
    qbb_link_read_stats(link->engine, stats);
    return qbb_plane_release(dp, 0);
}
