/* Every decision about a QKDNL packet: what is wrong with it, where it goes, and by which of several ways. */
#include <string.h>

#include "bytes.h"
#include "check.h"
#include "forward.h"
#include "qkd.h"

#define SELF 0x01010101u
#define FAR 0x01010109u
#define FROM 0x01010105u
#define IN 3 /* the link by which packets come */

enum { B = QBB_WAY_BEST, F = QBB_WAY_LOOP_FREE };

static uint64_t memory[512];

static void checksum(uint8_t *packet)
{
    qbb_put16(packet + 10, 0);
    qbb_put16(packet + 10, qbb_checksum(packet, 20, 0));
}

static uint8_t *packet_to(uint32_t destination, uint8_t ttl)
{
    static uint8_t packet[40];
    memset(packet, 0, sizeof packet);
    packet[0] = 0x45;
    qbb_put16(packet + 2, sizeof packet);
    packet[8] = ttl;
    packet[9] = QBB_PROTOCOL_QKDTL;
    qbb_put32(packet + 12, FROM);
    qbb_put32(packet + 16, destination);
    checksum(packet);
    return packet;
}

static qbb_forwarding forwarding(const qbb_way *ways, size_t count)
{
    qbb_forwarding f = {.address = SELF, .alternates = 1, .default_link = -1, .up = ~0ull, .room = ~0ull, .calm = ~0ull};
    f.table = qbb_table_build(memory, ways, count, 8);
    CHECK(f.table != NULL);
    return f;
}

static void expect_send(const qbb_forwarding *f, int from, int link)
{
    uint8_t *packet = packet_to(FAR, 9);
    if (from < 0) {
        qbb_put32(packet + 12, SELF);
        checksum(packet);
    }
    qbb_decision d = qbb_forward(f, from, packet, 40);
    CHECK_EQUAL(d.fate, QBB_FATE_SEND);
    CHECK_EQUAL(d.link, link);
}

static void expect_drop(const qbb_forwarding *f, const uint8_t *packet, size_t length, enum qbb_network_drop reason)
{
    qbb_decision d = qbb_forward(f, IN, packet, length);
    CHECK_EQUAL(d.fate, QBB_FATE_DROP);
    CHECK_EQUAL(d.reason, reason);
}

static void bad_packets(void)
{
    static const qbb_way way = {FAR, 32, B, 0, 5};
    qbb_forwarding f = forwarding(&way, 1);
    uint8_t *packet = packet_to(FAR, 9);
    for (size_t length = 0; length < 40; length++)
        expect_drop(&f, packet, length, QBB_NET_SHORT);
    packet[0] = 0x46;
    checksum(packet);
    expect_drop(&f, packet, 40, QBB_NET_VERSION);
    for (int bit = 0; bit < 160; bit++) {
        packet = packet_to(FAR, 9);
        packet[bit / 8] ^= (uint8_t)(1 << bit % 8);
        CHECK_EQUAL(qbb_forward(&f, IN, packet, 40).fate, QBB_FATE_DROP); /* each single wrong bit of the header */
    }
    static const uint32_t strange[] = {SELF, 0, 0x7f000001, 0xe0000005, 0xffffffff};
    for (size_t i = 0; i < sizeof strange / sizeof *strange; i++) {
        packet = packet_to(FAR, 9);
        qbb_put32(packet + 12, strange[i]);
        checksum(packet);
        expect_drop(&f, packet, 40, QBB_NET_SOURCE);
    }
    packet = packet_to(FAR, 9);
    CHECK_EQUAL(qbb_forward(&f, QBB_WAY_LOCAL, packet, 40).reason, QBB_NET_SOURCE); /* ours come from ourselves */
    f.table = NULL;
    expect_drop(&f, packet, 40, QBB_NET_NO_ROUTE);
}

static void places(void)
{
    static const qbb_way ways[] = {
        {0x01010000, 16, B, 0, 1}, {0x01010204, 30, 0, QBB_WAY_LOCAL, 0}, {0x01010205, 32, 0, QBB_WAY_LOCAL, 0}};
    qbb_forwarding f = forwarding(ways, 3);
    CHECK_EQUAL(qbb_forward(&f, IN, packet_to(SELF, 1), 40).fate, QBB_FATE_LOCAL); /* even with its last hop */
    CHECK_EQUAL(qbb_forward(&f, IN, packet_to(0x01010205, 1), 40).fate, QBB_FATE_LOCAL); /* another address of ours */
    CHECK_EQUAL(qbb_forward(&f, IN, packet_to(SELF, 0), 40).fate, QBB_FATE_LOCAL); /* RFC 1122 3.2.1.7: no hop is needed */
    expect_drop(&f, packet_to(0x01010206, 9), 40, QBB_NET_NO_HOST);
    expect_drop(&f, packet_to(0x02010206, 9), 40, QBB_NET_NO_ROUTE);
    expect_drop(&f, packet_to(FAR, 1), 40, QBB_NET_TTL);
    expect_drop(&f, packet_to(FAR, 0), 40, QBB_NET_TTL);
    CHECK_EQUAL(qbb_forward(&f, IN, packet_to(FAR, 2), 40).fate, QBB_FATE_SEND);
    uint8_t *own = packet_to(SELF, 9);
    qbb_put32(own + 12, SELF);
    checksum(own);
    CHECK_EQUAL(qbb_forward(&f, QBB_WAY_LOCAL, own, 40).reason, QBB_NET_NO_ROUTE);
}

/* Ways by links 0 (best), 1 (loop-free), 2 (neither), 3 (loop-free). */
static const qbb_way four[] = {{FAR, 32, B | F, 0, 5}, {FAR, 32, F, 1, 7}, {FAR, 32, 0, 2, 8}, {FAR, 32, F, 3, 9}};

static void choice(void)
{
    qbb_forwarding f = forwarding(four, 4);
    expect_send(&f, 7, 0);
    expect_send(&f, 0, 1); /* not back */
    uint64_t *masks[] = {&f.up, &f.room, &f.calm};
    static const enum qbb_network_drop reasons[] = {QBB_NET_LINK_DOWN, QBB_NET_QUEUE, QBB_NET_OVERLOAD};
    for (int m = 0; m < 3; m++) {
        *masks[m] = ~1ull;
        expect_send(&f, 7, 1); /* the next one that is loop-free */
        *masks[m] = ~3ull;
        expect_send(&f, 7, 3); /* never link 2 */
        expect_drop(&f, packet_to(FAR, 9), 40, reasons[m]); /* it came by link 3 */
        f.alternates = 0;
        expect_drop(&f, packet_to(FAR, 9), 40, reasons[m]);
        *masks[m] = ~0ull;
        CHECK_EQUAL(qbb_forward(&f, 0, packet_to(FAR, 9), 40).reason, QBB_NET_BACK); /* hold: the best way or none */
        expect_send(&f, QBB_WAY_LOCAL, 0);
        f.alternates = 1;
    }
    /* The nearest miss is told. */
    f.up = ~1ull, f.room = ~2ull, f.calm = ~8ull;
    CHECK_EQUAL(qbb_forward(&f, 7, packet_to(FAR, 9), 40).reason, QBB_NET_OVERLOAD);
    f.up = ~9ull;
    CHECK_EQUAL(qbb_forward(&f, 7, packet_to(FAR, 9), 40).reason, QBB_NET_QUEUE);
}

static void overload(void)
{
    qbb_forwarding f = forwarding(four, 4);
    f.calm = 0;
    expect_drop(&f, packet_to(FAR, 9), 40, QBB_NET_OVERLOAD);
    f.overload = QBB_OVERLOAD_DEFAULT_LINK;
    expect_send(&f, 7, 0); /* none is named: the first */
    f.default_link = 1;
    expect_send(&f, 7, 1);
    expect_send(&f, 1, 0); /* but not back */
    f.default_link = 2;
    expect_send(&f, 7, 0); /* and never where packets may circle */
    f.default_link = 1;
    f.alternates = 0;
    expect_send(&f, 7, 0);
    f.up = 0;
    CHECK_EQUAL(qbb_forward(&f, 7, packet_to(FAR, 9), 40).reason, QBB_NET_LINK_DOWN);
}

static void hops_and_priorities(void)
{
    uint8_t *packet = packet_to(FAR, 9), before[40];
    memcpy(before, packet, sizeof before);
    qbb_forward_hop(packet);
    CHECK_EQUAL(packet[8], 8);
    CHECK_EQUAL(qbb_checksum(packet, 20, 0), 0);
    before[8] = 8;
    memcpy(before + 10, packet + 10, 2);
    CHECK(memcmp(before, packet, sizeof before) == 0);
    static const uint8_t wanted[] = {0, 1, 2, 3, 4, 5, 5, 5};
    for (unsigned p = 0; p < 8; p++) {
        packet[1] = (uint8_t)(p << 5 | 0x1f);
        CHECK_EQUAL(qbb_forward_priority(packet), wanted[p]);
    }
    for (unsigned reason = 0; reason < QBB_NET_DROPS; reason++) {
        int told = reason == QBB_NET_TTL || reason == QBB_NET_NO_ROUTE || reason == QBB_NET_NO_HOST;
        packet[9] = QBB_PROTOCOL_QKDTL;
        CHECK_EQUAL(qbb_forward_reportable((uint8_t)reason, packet), told);
        packet[9] = QBB_PROTOCOL_ICMP;
        CHECK_EQUAL(qbb_forward_reportable((uint8_t)reason, packet), 0);
    }
}

int main(void)
{
    bad_packets();
    places();
    choice();
    overload();
    hops_and_priorities();
    return 0;
}
