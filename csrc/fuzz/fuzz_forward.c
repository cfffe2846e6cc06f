/* Forwarding: any table, in order or not, and any packet. A wrong table is refused; a packet that goes on goes by a link
 * that may be used, never back; the header that leaves is whole. */
#include "bytes.h"
#include "forward.h"
#include "fuzz.h"
#include "qkd.h"

#define WAYS_MOST 40
#define LINKS 8

/* A way of 3 input bytes: near addresses, so that prefixes nest and repeat. */
static qbb_way take_way(input *in)
{
    uint8_t address = take_byte(in), shape = take_byte(in), more = take_byte(in);
    uint8_t bits = (uint8_t)(shape % 34);
    uint32_t prefix = 0x01010100u | address;
    if (!(more & 0x80) && bits <= 32)
        prefix &= bits == 0 ? 0 : UINT32_MAX << (32 - bits);
    return (qbb_way){.prefix = prefix, .bits = bits, .flags = more >> 4, .link = (int16_t)(more % (LINKS + 2) - 1)};
}

static int by_prefix(const void *a, const void *b)
{
    const qbb_way *x = a, *y = b;
    if (x->prefix != y->prefix)
        return x->prefix < y->prefix ? -1 : 1;
    return (x->bits > y->bits) - (x->bits < y->bits);
}

static void check(const qbb_forwarding *f, int from, const uint8_t *bytes, size_t size)
{
    uint8_t *packet = exact_copy(bytes, size);
    qbb_decision d = qbb_forward(f, from, packet, size);
    HOLDS(d.fate != QBB_FATE_DROP || d.reason < QBB_NET_DROPS);
    if (d.fate == QBB_FATE_LOCAL)
        HOLDS(from != QBB_WAY_LOCAL);
    if (d.fate == QBB_FATE_SEND) {
        uint64_t bit = 1ull << d.link;
        HOLDS(d.link >= 0 && d.link < LINKS && d.link != from);
        HOLDS(f->up & f->room & bit);
        HOLDS(f->calm & bit || f->overload == QBB_OVERLOAD_DEFAULT_LINK);
        if (from != QBB_WAY_LOCAL) {
            uint8_t ttl = packet[8];
            qbb_forward_hop(packet);
            HOLDS(ttl > 1 && packet[8] == ttl - 1 && qbb_checksum(packet, QBB_NETWORK_HEADER_BYTES, 0) == 0);
        }
        HOLDS(qbb_forward_priority(packet) <= 5);
    }
    free(packet);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    input in = {data, size};
    qbb_way ways[WAYS_MOST];
    uint8_t settings = take_byte(&in);
    size_t count = take_byte(&in) % (WAYS_MOST + 1);
    qbb_forwarding f = {.address = 0x01010101, .default_link = (int16_t)(settings % (LINKS + 1) - 1),
        .alternates = settings >> 6 & 1, .overload = settings >> 7};
    f.up = take_byte(&in);
    f.room = take_byte(&in);
    f.calm = take_byte(&in);
    int from = take_byte(&in) % (LINKS + 1) - 1, sorted = settings >> 5 & 1;
    for (size_t i = 0; i < count; i++)
        ways[i] = take_way(&in);
    if (sorted)
        qsort(ways, count, sizeof *ways, by_prefix);
    void *memory = malloc(qbb_table_bytes(count));
    f.table = qbb_table_build(memory, ways, count, LINKS);
    check(&f, from, in.at, in.left);
    /* The same with a header that is right, so that the choice itself is reached. */
    uint8_t header[QBB_NETWORK_HEADER_BYTES] = {0x45, settings, 0, sizeof header, [8] = take_byte(&in), [9] = 253};
    qbb_put32(header + 12, from == QBB_WAY_LOCAL ? f.address : 0x01010177);
    qbb_put32(header + 16, 0x01010100u | take_byte(&in));
    qbb_put16(header + 10, qbb_checksum(header, sizeof header, 0));
    check(&f, from, header, sizeof header);
    free(memory);
    return 0;
}
