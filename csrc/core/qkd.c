#include "qkd.h"

#include "bytes.h"

#define FLAG_KEY 16
#define KEY_COUNTS_BYTES 4 /* count u16, key length u16 */
#define KEY_ID_BYTES 16

/* Clear bytes of a QKDTL segment: all of it, or up to the end of the key IDs; -1 when its fields contradict each other. */
static int transport_clear(const uint8_t *segment, size_t length)
{
    if (length < QBB_TRANSPORT_HEADER_BYTES)
        return -1;
    size_t clear = qbb_get16(segment + 16);
    if (!(segment[12] & FLAG_KEY))
        return clear == length ? (int)clear : -1;
    if (length < QBB_TRANSPORT_HEADER_BYTES + KEY_COUNTS_BYTES)
        return -1;
    size_t count = qbb_get16(segment + 20), key_bytes = qbb_get16(segment + 22);
    if (count == 0 || key_bytes == 0)
        return -1;
    /* The announced clear length must be where the key IDs end: one byte more would send key in the clear. */
    if (clear != QBB_TRANSPORT_HEADER_BYTES + KEY_COUNTS_BYTES + count * KEY_ID_BYTES || length != clear + count * key_bytes)
        return -1;
    return (int)clear;
}

int qbb_network_clear(const uint8_t *packet, size_t length)
{
    if (length < QBB_NETWORK_HEADER_BYTES || length > QBB_NETWORK_MTU)
        return -1;
    /* No options: nothing in the network makes them. Nor fragments (only DF may be set): relays never fragment, and the
     * second half of a KEY segment would look like something else. */
    if (packet[0] != 0x45 || qbb_get16(packet + 2) != length || (qbb_get16(packet + 6) & 0xbfff) != 0)
        return -1;
    switch (packet[9]) {
    case QBB_PROTOCOL_QKDTL: {
        int clear = transport_clear(packet + QBB_NETWORK_HEADER_BYTES, length - QBB_NETWORK_HEADER_BYTES);
        return clear < 0 ? -1 : QBB_NETWORK_HEADER_BYTES + clear;
    }
    case QBB_PROTOCOL_ICMP:
    case QBB_PROTOCOL_OSPF:
        return (int)length;
    default:
        return -1; /* what we cannot read might be key */
    }
}

uint16_t qbb_checksum(const uint8_t *bytes, size_t length, uint32_t sum)
{
    uint64_t total = sum;
    for (size_t i = 0; i + 1 < length; i += 2)
        total += qbb_get16(bytes + i);
    if (length & 1)
        total += (uint64_t)bytes[length - 1] << 8;
    while (total >> 16)
        total = (total & 0xffff) + (total >> 16);
    return (uint16_t)~total;
}
