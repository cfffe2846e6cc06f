/* The data plane's thread. Each round: send what the links have, wait, receive one batch from each channel that has
 * something, take what the keys service sent. Nobody gets more than a batch a round, so no link starves another. */
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#include "dataplane_internal.h"
#include "wipe.h"

#define EVENTS_MAX (QBB_LINKS_MAX + 2)
/* If a link says that it has something to send now, and then gives nothing, it is asked again only after so long. */
#define PATIENCE_NS 1000000
#define NEVER UINT64_MAX

/* What one round knows. */
typedef struct {
    uint64_t readable; /* bit per link: its channel may have packets */
    int local;         /* the ring may have packets */
    uint64_t until_ns; /* how long to wait at most */
} round_state;

uint64_t qbb_plane_clock_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static void watch(qbb_dataplane *dp, int index, int operation, uint32_t events)
{
    qbb_plane_link *link = dp->links[index];
    struct epoll_event event = {.events = events, .data.u64 = (uint64_t)index};
    epoll_ctl(dp->epoll_fd, operation, link->channel.fd, &event);
    link->watched = events;
}

static void close_channel(qbb_dataplane *dp, int index)
{
    qbb_plane_link *link = dp->links[index];
    if (link->channel.kind == QBB_CHANNEL_NONE)
        return;
    watch(dp, index, EPOLL_CTL_DEL, 0); /* closing alone would leave it watched while somebody holds a duplicate */
    qbb_channel_close(&link->channel);
}

/* A TCP channel ended: control code is told and brings the next one. */
static void lose_channel(qbb_dataplane *dp, int index)
{
    qbb_punt head = {.kind = QBB_PUNT_CHANNEL_LOST, .link = (uint16_t)index};
    qbb_plane_link *link = dp->links[index];
    close_channel(dp, index);
    pthread_mutex_lock(&dp->mutex);
    link->hellos = 0;
    if (!link->change.pending) {
        link->kind = QBB_CHANNEL_NONE;
        qbb_plane_punt(dp, &head, NULL, NULL);
        qbb_plane_signal(dp);
    }
    pthread_mutex_unlock(&dp->mutex);
}

/* Makes the channels what control code wants them to be. Under the mutex: its closes and fcntls are short and rare. */
static void apply_changes(qbb_dataplane *dp)
{
    for (int i = 0; i < dp->link_count; i++) {
        qbb_plane_link *link = dp->links[i];
        if (!link->change.pending)
            continue;
        link->change.pending = 0;
        close_channel(dp, i);
        if (link->change.kind == QBB_CHANNEL_NONE)
            continue;
        if (qbb_channel_open(&link->channel, link->change.kind, link->change.fd) == 0) {
            watch(dp, i, EPOLL_CTL_ADD, EPOLLIN);
        } else {
            qbb_punt head = {.kind = QBB_PUNT_CHANNEL_LOST, .link = (uint16_t)i};
            close(link->change.fd);
            link->kind = QBB_CHANNEL_NONE;
            qbb_plane_punt(dp, &head, NULL, NULL);
        }
    }
}

static void fill_hellos(qbb_plane_link *link)
{
    for (int i = 0; i < link->hellos; i++) {
        uint8_t *place = qbb_channel_room(&link->channel);
        size_t length = (size_t)link->hello[i][0] << 8 | link->hello[i][1];
        if (place != NULL) {
            memcpy(place, link->hello[i], length);
            qbb_channel_put(&link->channel, length);
        }
    }
    link->hellos = 0;
}

/* Takes what the link has to send; when to ask again. A blocked channel asks by EPOLLOUT, a missing one by its change. */
static uint64_t fill(qbb_plane_link *link, uint64_t now_ns)
{
    uint8_t *place;
    if (link->discard)
        qbb_channel_discard(&link->channel);
    link->discard = 0;
    if (link->channel.kind == QBB_CHANNEL_NONE || link->channel.blocked)
        return NEVER;
    fill_hellos(link);
    while ((place = qbb_channel_room(&link->channel)) != NULL) {
        size_t length = qbb_link_poll(link->engine, now_ns, place);
        if (length == 0)
            break;
        qbb_channel_put(&link->channel, length);
    }
    if (place == NULL)
        return now_ns;
    uint64_t deadline = qbb_link_deadline(link->engine);
    return deadline <= now_ns ? now_ns + PATIENCE_NS : deadline;
}

static void flush(qbb_dataplane *dp, int index)
{
    qbb_plane_link *link = dp->links[index];
    if (link->channel.kind == QBB_CHANNEL_NONE || (link->channel.end == 0 && !link->channel.blocked))
        return;
    if (qbb_channel_flush(&link->channel) != 0) {
        lose_channel(dp, index);
        return;
    }
    uint32_t wanted = link->channel.blocked ? EPOLLIN | EPOLLOUT : EPOLLIN;
    if (wanted != link->watched)
        watch(dp, index, EPOLL_CTL_MOD, wanted);
}

/* Sends a batch of each link; 0 when the thread is to end. */
static int send_round(qbb_dataplane *dp, round_state *round)
{
    pthread_mutex_lock(&dp->mutex);
    int stop = dp->stop, links = dp->link_count;
    if (!stop) {
        apply_changes(dp);
        uint64_t now_ns = qbb_plane_clock_ns();
        for (int i = 0; i < links; i++) {
            uint64_t again_ns = fill(dp->links[i], now_ns);
            round->until_ns = again_ns < round->until_ns ? again_ns : round->until_ns;
        }
        qbb_plane_signal(dp);
    }
    pthread_mutex_unlock(&dp->mutex);
    for (int i = 0; i < links && !stop; i++)
        if (!dp->links[i]->channel.blocked)
            flush(dp, i);
    return !stop;
}

static int wait_for(qbb_dataplane *dp, struct epoll_event *events, uint64_t until_ns)
{
    uint64_t now_ns = until_ns == NEVER ? 0 : qbb_plane_clock_ns();
    uint64_t left_ns = until_ns > now_ns ? until_ns - now_ns : 0;
    struct timespec left = {.tv_sec = (time_t)(left_ns / 1000000000), .tv_nsec = (long)(left_ns % 1000000000)};
    if (until_ns != 0)
        qbb_wipe_registers();
    return epoll_pwait2(dp->epoll_fd, events, EVENTS_MAX, until_ns == NEVER ? NULL : &left, NULL);
}

static void drain(int fd)
{
    uint64_t count;
    ssize_t n = read(fd, &count, sizeof count);
    (void)n;
}

static void wait_round(qbb_dataplane *dp, round_state *round)
{
    struct epoll_event events[EVENTS_MAX];
    if (round->readable || round->local)
        round->until_ns = 0;
    int n = wait_for(dp, events, round->until_ns);
    for (int i = 0; i < n; i++) {
        uint64_t who = events[i].data.u64;
        if (who == QBB_WATCH_WAKE) {
            drain(dp->wake_fd);
        } else if (who == QBB_WATCH_RING) {
            round->local = 1;
        } else {
            if (events[i].events & EPOLLOUT)
                flush(dp, (int)who);
            if (events[i].events & (EPOLLIN | EPOLLERR | EPOLLHUP))
                round->readable |= 1ull << who;
        }
    }
}

/* One batch from one channel; 1 when there may be more. */
static int receive_batch(qbb_dataplane *dp, int index)
{
    qbb_received *received = dp->received;
    int more = qbb_channel_receive(&dp->links[index]->channel, received);
    if (received->count > 0) {
        pthread_mutex_lock(&dp->mutex);
        qbb_relay_tick(&dp->relay, qbb_plane_clock_ns());
        for (int i = 0; i < received->count; i++)
            qbb_plane_receive(dp, index, received->packet[i], received->length[i]);
        qbb_plane_signal(dp);
        pthread_mutex_unlock(&dp->mutex);
    }
    if (more < 0)
        lose_channel(dp, index);
    return more > 0;
}

static int take_local(qbb_dataplane *dp)
{
    pthread_mutex_lock(&dp->mutex);
    if (dp->rings != NULL)
        drain(dp->from_keys_fd);
    qbb_relay_tick(&dp->relay, qbb_plane_clock_ns());
    int more = qbb_plane_take_local(dp);
    pthread_mutex_unlock(&dp->mutex);
    return more;
}

void *qbb_plane_thread(void *dataplane)
{
    qbb_dataplane *dp = dataplane;
    round_state round = {.local = 1}; /* what the ring got before we started was signalled to nobody */
    for (;;) {
        round.until_ns = NEVER;
        if (!send_round(dp, &round))
            return NULL;
        wait_round(dp, &round);
        uint64_t readable = round.readable;
        round.readable = 0;
        for (int i = 0; readable != 0; i++, readable >>= 1)
            if (readable & 1 && receive_batch(dp, i))
                round.readable |= 1ull << i;
        if (round.local)
            round.local = take_local(dp);
    }
}
