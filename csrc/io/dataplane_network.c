/* What control code calls about forwarding: table, policies, the ring to the keys service. Each call takes the mutex for a
 * moment; tables are built before. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "dataplane_internal.h"
#include "qkd.h"

/* The relay's view of a link, with the mutex held; NULL, without it, when there is no such link. */
static qbb_relay_link *take_link(qbb_dataplane *dp, int index)
{
    return qbb_plane_take(dp, index) != NULL ? dp->relay.links + index : NULL;
}

/* The time to build a table is spent before the mutex; what may have changed meanwhile is the number of links, upward. */
static const qbb_table *build(qbb_dataplane *dp, void *memory, const qbb_way *ways, size_t count)
{
    pthread_mutex_lock(&dp->mutex);
    int links = qbb_plane_release(dp, dp->link_count);
    return qbb_table_build(memory, ways, count, links);
}

int qbb_dataplane_set_table(qbb_dataplane *dp, const qbb_way *ways, size_t count, uint64_t hold_ns)
{
    size_t bytes = qbb_table_bytes(count);
    if (bytes == 0)
        return -EINVAL;
    void *memory = malloc(bytes);
    if (memory == NULL)
        return -ENOMEM;
    const qbb_table *table = build(dp, memory, ways, count);
    if (table == NULL) {
        free(memory);
        return -EINVAL;
    }
    pthread_mutex_lock(&dp->mutex);
    void *old = dp->table_memory;
    dp->table_memory = memory;
    qbb_relay_set_table(&dp->relay, table, qbb_plane_clock_ns(), hold_ns);
    pthread_mutex_unlock(&dp->mutex);
    free(old);
    return 0;
}

int qbb_dataplane_set_overload(qbb_dataplane *dp, enum qbb_overload_policy policy, int default_link)
{
    pthread_mutex_lock(&dp->mutex);
    if (policy > QBB_OVERLOAD_DEFAULT_LINK || default_link < -1 || default_link >= dp->link_count)
        return qbb_plane_release(dp, -EINVAL);
    dp->relay.forwarding.overload = (uint8_t)policy;
    dp->relay.forwarding.default_link = (int16_t)default_link;
    return qbb_plane_release(dp, 0);
}

int qbb_dataplane_set_link_policy(qbb_dataplane *dp, int index, double window, double critical, uint32_t queue_mark)
{
    if (!(window >= 1) || !(critical > 0) || queue_mark == 0)
        return -EINVAL;
    qbb_relay_link *link = take_link(dp, index);
    if (link == NULL)
        return -EINVAL;
    double supply_words_s = link->load.supply_words_s;
    qbb_load_init(&link->load, window, critical);
    link->load.supply_words_s = supply_words_s;
    link->queue_mark = queue_mark;
    return qbb_plane_release(dp, 0);
}

int qbb_dataplane_set_supply(qbb_dataplane *dp, int index, double words_s)
{
    if (!(words_s >= 0))
        return -EINVAL;
    qbb_relay_link *link = take_link(dp, index);
    if (link == NULL)
        return -EINVAL;
    link->load.supply_words_s = words_s;
    return qbb_plane_release(dp, 0);
}

int qbb_dataplane_link_load(qbb_dataplane *dp, int index, qbb_load *load)
{
    qbb_relay_link *link = take_link(dp, index);
    if (link == NULL)
        return -EINVAL;
    qbb_load_tick(&link->load, qbb_plane_clock_ns());
    *load = link->load;
    return qbb_plane_release(dp, 0);
}

int qbb_dataplane_set_report_rate(qbb_dataplane *dp, uint64_t interval_ns, uint64_t burst)
{
    if (interval_ns == 0 || interval_ns > UINT32_MAX * 1000ull || burst > UINT32_MAX)
        return -EINVAL;
    pthread_mutex_lock(&dp->mutex);
    dp->reports = (qbb_bucket){.interval_ns = interval_ns, .burst = burst};
    return qbb_plane_release(dp, 0);
}

int qbb_dataplane_originate(qbb_dataplane *dp, const uint8_t *packet, size_t length)
{
    uint8_t copy[QBB_NETWORK_MTU];
    if (length > sizeof copy)
        return 0;
    memcpy(copy, packet, length);
    pthread_mutex_lock(&dp->mutex);
    qbb_relay_tick(&dp->relay, qbb_plane_clock_ns());
    int taken = qbb_plane_originate(dp, copy, length, length, NULL);
    return qbb_plane_release_and_wake(dp, taken);
}

int qbb_dataplane_set_usable(qbb_dataplane *dp, int index, int usable)
{
    qbb_relay_link *link = take_link(dp, index);
    if (link == NULL)
        return -EINVAL;
    link->usable = usable != 0;
    return qbb_plane_release(dp, 0);
}

static int watch_ring(qbb_dataplane *dp, int fd)
{
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = QBB_WATCH_RING};
    return epoll_ctl(dp->epoll_fd, EPOLL_CTL_ADD, fd, &event);
}

int qbb_dataplane_set_ring(qbb_dataplane *dp, void *rings, int to_keys_fd, int from_keys_fd)
{
    pthread_mutex_lock(&dp->mutex);
    if (dp->rings != NULL)
        epoll_ctl(dp->epoll_fd, EPOLL_CTL_DEL, dp->from_keys_fd, NULL);
    dp->rings = NULL;
    if (rings == NULL)
        return qbb_plane_release(dp, 0);
    /* Reading it must never make the thread wait: two readers, or a wrong peer, may have emptied it. */
    int flags = fcntl(from_keys_fd, F_GETFL);
    if (flags < 0 || fcntl(from_keys_fd, F_SETFL, flags | O_NONBLOCK) != 0 || watch_ring(dp, from_keys_fd) != 0)
        return qbb_plane_release(dp, -errno);
    dp->rings = rings;
    dp->to_keys_fd = to_keys_fd;
    dp->from_keys_fd = from_keys_fd;
    return qbb_plane_release(dp, 0);
}

int qbb_dataplane_network_drops(qbb_dataplane *dp, uint64_t out[32])
{
    pthread_mutex_lock(&dp->mutex);
    memcpy(out, dp->drops, sizeof dp->drops);
    return qbb_plane_release(dp, 0);
}
