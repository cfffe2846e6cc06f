/* The Q3P header against bytes laid out by hand, and where padding begins in QKDNL packets. */
#include <string.h>

#include "check.h"
#include "mirror.h"
#include "packet.h"
#include "qkd.h"

static void header_bytes(void)
{
    static const uint8_t expected[QBB_HEADER_BYTES] = {0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08,
        0xeb, 0x0c, 0x0d, 0x0e, 0x11, 0x12, 0x13, 0x14, 0x21, 0x22, 0x23, 0x24};
    qbb_header header = {.length = 0x0102, .clear = 0x0304, .message = 0x05060708, .encrypted = 1, .authenticated = 1,
        .priority = 5, .version = 3, .command = 0x0c, .channel = 0x0d0e, .e_offset = 0x11121314, .a_offset = 0x21222324};
    uint8_t bytes[QBB_HEADER_BYTES];
    qbb_header_write(bytes, &header);
    CHECK(memcmp(bytes, expected, sizeof bytes) == 0);
}

static void header_round_trip(void)
{
    uint64_t random = 1;
    for (int i = 0; i < 10000; i++) {
        uint8_t in[QBB_HEADER_BYTES], out[QBB_HEADER_BYTES];
        qbb_header header;
        for (size_t k = 0; k < sizeof in; k++)
            in[k] = (uint8_t)(next_random(&random) >> 56);
        qbb_header_read(&header, in);
        qbb_header_write(out, &header);
        CHECK(memcmp(in, out, sizeof in) == 0);
    }
}

/* A QKDNL packet with a KEY segment of count keys, key_bytes each, that says it is clear up to `clear`. */
static size_t key_segment(uint8_t *packet, unsigned count, unsigned key_bytes, unsigned clear)
{
    size_t length = 40 + 4 + count * (16 + key_bytes);
    memset(packet, 0, length);
    packet[0] = 0x45;
    packet[2] = (uint8_t)(length >> 8);
    packet[3] = (uint8_t)length;
    packet[9] = QBB_PROTOCOL_QKDTL;
    packet[20 + 12] = 16; /* KEY */
    packet[20 + 16] = (uint8_t)(clear >> 8);
    packet[20 + 17] = (uint8_t)clear;
    packet[40] = (uint8_t)(count >> 8);
    packet[41] = (uint8_t)count;
    packet[42] = (uint8_t)(key_bytes >> 8);
    packet[43] = (uint8_t)key_bytes;
    return length;
}

static void network_clear(void)
{
    uint8_t p[2048];
    size_t length = key_segment(p, 2, 32, 20 + 4 + 32);
    CHECK(qbb_network_clear(p, length) == 20 + 20 + 4 + 32);
    /* The keys start one byte later, or earlier, than announced; a byte is missing, or too many. */
    CHECK(qbb_network_clear(p, key_segment(p, 2, 32, 20 + 4 + 33)) == -1);
    CHECK(qbb_network_clear(p, key_segment(p, 2, 32, 20 + 4 + 31)) == -1);
    length = key_segment(p, 2, 32, 20 + 4 + 32);
    p[3]--;
    CHECK(qbb_network_clear(p, length - 1) == -1);
    CHECK(qbb_network_clear(p, length) == -1);
    p[3] += 2;
    CHECK(qbb_network_clear(p, length + 1) == -1);
    CHECK(qbb_network_clear(p, key_segment(p, 0, 32, 24)) == -1);
    CHECK(qbb_network_clear(p, key_segment(p, 1, 0, 40)) == -1);
    CHECK(qbb_network_clear(p, key_segment(p, 26, 32, 24 + 26 * 16)) == -1); /* beyond the MTU */
    CHECK(qbb_network_clear(p, key_segment(p, 25, 32, 24 + 25 * 16)) == 44 + 25 * 16);

    /* KEY segments cut short at each length up to their counts. */
    for (length = 0; length < 44; length++) {
        key_segment(p, 1, 16, 40);
        p[2] = 0;
        p[3] = (uint8_t)length;
        CHECK(qbb_network_clear(p, length) == -1);
    }

    /* Without KEY all is clear, and must say so. */
    length = key_segment(p, 1, 16, 20 + 4 + 32);
    p[32] = 2;
    CHECK(qbb_network_clear(p, length) == (int)length);
    p[37]--;
    CHECK(qbb_network_clear(p, length) == -1);

    /* Other protocols; fragments, options, version. */
    length = key_segment(p, 1, 16, 40);
    p[9] = QBB_PROTOCOL_ICMP;
    CHECK(qbb_network_clear(p, length) == (int)length);
    p[9] = QBB_PROTOCOL_OSPF;
    CHECK(qbb_network_clear(p, length) == (int)length);
    p[6] = 0x40; /* don't fragment */
    CHECK(qbb_network_clear(p, length) == (int)length);
    p[6] = 0x20; /* more fragments */
    CHECK(qbb_network_clear(p, length) == -1);
    p[6] = 0;
    p[7] = 1;
    CHECK(qbb_network_clear(p, length) == -1);
    p[7] = 0;
    p[0] = 0x46;
    CHECK(qbb_network_clear(p, length) == -1);
    p[0] = 0x65;
    CHECK(qbb_network_clear(p, length) == -1);
    p[0] = 0x45;
    p[9] = 17;
    CHECK(qbb_network_clear(p, length) == -1);
}

static void checksum(void)
{
    /* RFC 1071, section 3: the sum of 00 01 f2 03 f4 f5 f6 f7 is ddf2. */
    static const uint8_t bytes[] = {0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7};
    static const uint8_t odd[] = {0x12, 0x34, 0x56};
    CHECK(qbb_checksum(bytes, 8, 0) == (uint16_t)~0xddf2);
    CHECK(qbb_checksum(bytes + 4, 4, 0x0001 + 0xf203) == (uint16_t)~0xddf2);
    CHECK(qbb_checksum(odd, 3, 0) == (uint16_t)~(0x1234 + 0x5600));
    CHECK(qbb_checksum(odd, 0, UINT32_MAX) == 0);
}

int main(void)
{
    header_bytes();
    header_round_trip();
    network_clear();
    checksum();
    return 0;
}
