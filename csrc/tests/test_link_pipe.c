/* Two ends over a channel that loses, repeats, reorders and corrupts, both ways, with fixed seeds: every reliable packet
 * is delivered at most once; when none is given up, exactly once; and the link always comes to rest. */
#include "ends.h"

#define PIPE 64
#define PACKETS 1500

typedef struct { uint8_t bytes[QBB_PACKET_MAX]; size_t length; } datagram;
typedef struct { unsigned lose, repeat, corrupt; uint32_t give_up_tries; uint64_t seed; } channel; /* per cent */

static uint64_t seed;
static struct { datagram waiting[PIPE]; size_t count; } pipes[2]; /* 0: left to right */
static uint8_t seen[2][PACKETS];
static unsigned submitted[2];

static unsigned percent(void)
{
    return (unsigned)(next_random(&seed) >> 32) % 100;
}

static void put(int way, const uint8_t *bytes, size_t length, const channel *c)
{
    for (int copies = percent() < c->lose ? 0 : percent() < c->repeat ? 2 : 1; copies > 0; copies--) {
        if (pipes[way].count == PIPE)
            return;
        datagram *d = &pipes[way].waiting[pipes[way].count++];
        memcpy(d->bytes, bytes, length);
        d->length = length;
    }
}

/* Takes any of the waiting datagrams; the verdict on a corrupted one must be a drop. */
static void deliver(int way, end *to, uint64_t now_ns, const channel *c)
{
    size_t i = next_random(&seed) % pipes[way].count;
    datagram d = pipes[way].waiting[i];
    pipes[way].waiting[i] = pipes[way].waiting[--pipes[way].count];
    if (percent() < c->corrupt) {
        d.bytes[next_random(&seed) % d.length] ^= (uint8_t)(1 << next_random(&seed) % 8);
        CHECK(receive(to, now_ns, d.bytes, d.length) >= QBB_HELLO);
        return;
    }
    if (receive(to, now_ns, d.bytes, d.length) != QBB_DELIVER)
        return;
    const uint8_t *payload = opened();
    unsigned number = payload[0] << 8 | payload[1];
    CHECK(number < submitted[way] && !seen[way][number]);
    seen[way][number] = 1;
    for (uint32_t k = 2; k < delivery.length; k++)
        CHECK(payload[k] == (uint8_t)(number * 3 + k));
}

static void submit_one(int way, end *from)
{
    uint8_t payload[QBB_PAYLOAD_MAX];
    unsigned number = submitted[way];
    size_t length = 2 + next_random(&seed) % (percent() < 10 ? 1000 : 100), padded = next_random(&seed) % (length + 1);
    payload[0] = (uint8_t)(number >> 8);
    payload[1] = (uint8_t)number;
    for (size_t k = 2; k < length; k++)
        payload[k] = (uint8_t)(number * 3 + k);
    if (submit(from, payload, length, padded, 1) == 0)
        submitted[way]++;
}

static int at_rest(void)
{
    qbb_link_stats a = stats_of(&left), b = stats_of(&right);
    return submitted[0] == PACKETS && submitted[1] == PACKETS && a.queued + b.queued + a.in_flight + b.in_flight == 0;
}

static void run(const channel *c)
{
    end *ends[2] = {&left, &right};
    qbb_link_params params = usual_params();
    uint8_t out[QBB_PACKET_MAX];
    uint64_t now_ns = 0;
    seed = c->seed;
    params.give_up_tries = c->give_up_tries;
    fresh(params);
    memset(seen, 0, sizeof seen);
    submitted[0] = submitted[1] = 0;
    pipes[0].count = pipes[1].count = 0;
    for (int step = 0; !at_rest(); step++) {
        CHECK(step < 2000000);
        now_ns += next_random(&seed) % (5 * MS);
        for (int way = 0; way < 2; way++) {
            while (load(ends[way], ends[!way], 32))
                ;
            if (submitted[way] < PACKETS && percent() < 40)
                submit_one(way, ends[way]);
            if (percent() < 60) {
                size_t length = qbb_link_poll(ends[way]->link, now_ns, out);
                if (length != 0)
                    put(way, out, length, c);
                else /* nothing now: the deadline must say so */
                    CHECK(qbb_link_deadline(ends[way]->link) > now_ns);
            }
            if (pipes[way].count != 0 && percent() < 60)
                deliver(way, ends[!way], now_ns, c);
        }
    }
    qbb_link_stats stats[2] = {stats_of(&left), stats_of(&right)};
    for (int way = 0; way < 2; way++) {
        uint64_t delivered = 0;
        for (int i = 0; i < PACKETS; i++)
            delivered += seen[way][i];
        CHECK(delivered + stats[way].skipped_packets >= PACKETS);
        CHECK(stats[way].skipped_packets != 0 || delivered == PACKETS);
        CHECK(c->give_up_tries < 100 || stats[way].skipped_packets == 0);
        CHECK(c->give_up_tries > 2 || c->lose < 30 || stats[way].skipped_packets > 10);
        /* Every word is accounted for: spent for a cause, or still there. */
        uint64_t spent = 0;
        for (int cause = 0; cause < QBB_CAUSES; cause++)
            spent += stats[way].spent_words[cause];
        CHECK(spent + stats[way].out_words == stats[way].out_loaded);
    }
}

int main(void)
{
    static const channel channels[] = {
        {0, 0, 0, 100000, 1},
        {10, 0, 0, 100000, 2},
        {0, 30, 0, 100000, 3},
        {0, 0, 30, 100000, 4},
        {20, 20, 20, 100000, 5},
        {50, 10, 10, 100000, 6},
        {30, 10, 5, 2, 7},
        {60, 0, 0, 2, 8},
        {40, 20, 20, 1, 9},
    };
    for (size_t i = 0; i < sizeof channels / sizeof *channels; i++)
        for (uint64_t more = 0; more < 3; more++) {
            channel c = channels[i];
            c.seed += 100 * more;
            run(&c);
        }
    end_free(&left);
    end_free(&right);
    return 0;
}
