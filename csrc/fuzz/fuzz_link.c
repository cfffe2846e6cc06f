/* Two ends and a schedule: each step of the input sends, delivers, loses, repeats, corrupts, loads key, lets time pass or
 * begins a new epoch. Payloads arrive at most once and unharmed, and the deadline tells the truth about poll. */
#include "fuzz.h"
#include "link_internal.h"
#include "mirror.h"
#include "pad.h"

#define BUFFER_WORDS 1024
#define PIPE 16

static const qbb_link_params params = {.link_id = 9, .queue_slots = 8, .flight_slots = 16, .window_words = 512,
    .ack_delay_ns = 50, .rto_ns = 250, .rto_max_ns = 4000, .give_up_tries = 3};
static qbb_link *ends[2];
static struct { uint8_t bytes[QBB_PACKET_MAX]; size_t length; } pipes[2][PIPE]; /* [way][place]; length 0: nothing */
static uint8_t submitted[2][256], delivered[2][256]; /* by the payload's number, in this epoch */
static uint8_t next_number[2];
static uint64_t now_ns, epoch, key_random;

static void fill(uint8_t *a, uint8_t *b, size_t length)
{
    for (size_t i = 0; i < length; i++)
        a[i] = b[i] = (uint8_t)(next_random(&key_random) >> 40);
}

static void begin(void)
{
    uint8_t halves[2][2][QBB_SLOT_HALF_BYTES];
    fill(halves[0][0], halves[1][1], QBB_SLOT_HALF_BYTES);
    fill(halves[0][1], halves[1][0], QBB_SLOT_HALF_BYTES);
    epoch++;
    for (int e = 0; e < 2; e++)
        qbb_link_begin(ends[e], epoch, halves[e][0], halves[e][1]);
    memset(submitted, 0, sizeof submitted);
    memset(delivered, 0, sizeof delivered);
}

static void start(void)
{
    static uint8_t *secret[2], *plain[2], *out[2], *in[2];
    for (int e = 0; e < 2; e++) {
        qbb_link_params p = params;
        p.master = e == 0;
        if (secret[e] == NULL) {
            secret[e] = zeroed(qbb_link_secret_bytes(&p));
            plain[e] = zeroed(qbb_link_plain_bytes(&p));
            out[e] = mirrored(BUFFER_WORDS * 8);
            in[e] = mirrored(BUFFER_WORDS * 8);
        } else {
            qbb_link_end(ends[e]);
        }
        ends[e] = qbb_link_init(&p, secret[e], plain[e], out[e], in[e], BUFFER_WORDS);
    }
    memset(pipes, 0, sizeof pipes);
    next_number[0] = next_number[1] = 0;
    now_ns = epoch = 0;
    key_random = 1;
    begin();
}

static void load(int way, uint64_t words)
{
    uint8_t *out = qbb_link_reserve(ends[way], QBB_OUT, words), *in = qbb_link_reserve(ends[!way], QBB_IN, words);
    if (out == NULL || in == NULL)
        return;
    fill(out, in, words * 8);
    qbb_link_commit(ends[way], QBB_OUT, words);
    qbb_link_commit(ends[!way], QBB_IN, words);
}

static void submit(int way, uint8_t size, uint8_t how)
{
    uint8_t payload[300], number = next_number[way];
    size_t length = 1 + size, padded = how % (length + 1);
    if (submitted[way][number])
        return; /* numbers are for 256 packets an epoch */
    memset(payload, number, length);
    if (qbb_link_submit(ends[way], 16, QBB_COMMAND_DATA, how >> 5, how & 1, payload, length, length - padded, NULL) == 0) {
        submitted[way][number] = 1;
        next_number[way]++;
    }
}

static void poll(int way, unsigned place)
{
    uint8_t out[QBB_PACKET_MAX];
    size_t length = qbb_link_poll(ends[way], now_ns, out);
    if (length == 0) {
        HOLDS(qbb_link_deadline(ends[way]) > now_ns);
        return;
    }
    HOLDS(length >= QBB_ACK_BYTES && length <= QBB_PACKET_MAX);
    memcpy(pipes[way][place % PIPE].bytes, out, length);
    pipes[way][place % PIPE].length = length;
}

/* bit >= 0: that bit is flipped first. keep: it stays in the pipe, to come again. */
static void deliver(int way, unsigned place, int bit, int keep)
{
    static qbb_delivery delivery;
    size_t length = pipes[way][place % PIPE].length;
    if (length == 0)
        return;
    uint8_t *packet = exact_copy(pipes[way][place % PIPE].bytes, length);
    if (!keep)
        pipes[way][place % PIPE].length = 0;
    if (bit >= 0)
        packet[(size_t)bit / 8 % length] ^= (uint8_t)(1 << bit % 8);
    enum qbb_verdict verdict = qbb_link_receive(ends[!way], now_ns, packet, length, &delivery);
    HOLDS(bit < 0 || verdict >= QBB_HELLO);
    if (verdict == QBB_DELIVER) {
        size_t padded = delivery.length - delivery.clear;
        uint8_t payload[300];
        memcpy(payload, delivery.payload, delivery.clear);
        qbb_pad(payload + delivery.clear, delivery.payload + delivery.clear, delivery.pad, padded);
        for (size_t i = 1; i < delivery.length; i++)
            HOLDS(payload[i] == payload[0]);
        HOLDS(submitted[way][payload[0]] && !delivered[way][payload[0]]);
        delivered[way][payload[0]] = 1;
    }
    free(packet);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    input in = {data, size};
    start();
    while (in.left != 0) {
        uint8_t step = take_byte(&in), argument = take_byte(&in);
        int way = step >> 7;
        switch (step & 15) {
        case 0: case 1: case 2: submit(way, argument, take_byte(&in)); break;
        case 3: case 4: case 5: poll(way, argument); break;
        case 6: case 7: case 8: deliver(way, argument, -1, 0); break;
        case 9: deliver(way, argument, -1, 1); break;
        case 10: deliver(way, argument, take_short(&in), 1); break;
        case 11: load(way, argument); break;
        case 12: now_ns += argument * 4u; break;
        case 13: qbb_link_allow(ends[way], argument % 9); break;
        case 14: qbb_link_close_below(ends[way], argument & 1, ends[way]->out.floor + argument / 2 % 32); break;
        case 15:
            if (argument % 8 == 0)
                begin();
            break;
        }
    }
    return 0;
}
