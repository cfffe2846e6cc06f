/* Headers of all layers: whatever the bytes, nothing beyond them is read, and what they say is possible. */
#include "fuzz.h"
#include "packet.h"
#include "qkd.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *packet = exact_copy(data, size);
    if (size >= QBB_HEADER_BYTES) {
        qbb_header header;
        uint8_t again[QBB_HEADER_BYTES];
        qbb_header_read(&header, packet);
        qbb_header_write(again, &header);
        HOLDS(memcmp(again, packet, QBB_HEADER_BYTES) == 0);
    }
    int clear = qbb_network_clear(packet, size);
    HOLDS(clear == -1 || (clear >= QBB_NETWORK_HEADER_BYTES && (size_t)clear <= size && size <= QBB_NETWORK_MTU));
    if (clear != -1 && (size_t)clear < size) {
        /* Something is padded: then it is a KEY segment, and exactly its keys. */
        size_t count = (size_t)(packet[40] << 8 | packet[41]), key = (size_t)(packet[42] << 8 | packet[43]);
        HOLDS(packet[9] == QBB_PROTOCOL_QKDTL && (packet[32] & 16));
        HOLDS((size_t)clear == 44 + 16 * count && size - (size_t)clear == count * key);
    }
    uint16_t sum = qbb_checksum(packet, size, 0);
    if (size >= 2 && size % 2 == 0) { /* a checksum put in place sums up to zero */
        uint8_t *copy = exact_copy(packet, size);
        copy[0] = copy[1] = 0;
        sum = qbb_checksum(copy, size, 0);
        copy[0] = (uint8_t)(sum >> 8);
        copy[1] = (uint8_t)sum;
        HOLDS(qbb_checksum(copy, size, 0) == 0);
        free(copy);
    }
    free(packet);
    return 0;
}
