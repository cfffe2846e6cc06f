/* Framing of a TCP channel: the first byte says how the rest is cut into writes. What comes out are the packets that the
 * Length fields describe, in order, until a length is impossible: then the channel is lost. */
#include <sys/socket.h>
#include <unistd.h>

#include "channel.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static qbb_received *received;
    if (received == NULL) {
        received = calloc(1, sizeof *received);
        qbb_received_init(received);
    }
    if (size < 1)
        return 0;
    size_t piece = 1 + data[0], at = 1, expected = 1;
    int pair[2], lost = 0;
    qbb_channel channel;
    memset(&channel, 0, sizeof channel);
    HOLDS(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair) == 0);
    HOLDS(qbb_channel_open(&channel, QBB_CHANNEL_TCP, pair[0]) == 0);
    while (!lost && at < size) {
        size_t length = piece < size - at ? piece : size - at;
        HOLDS(write(pair[1], data + at, length) == (ssize_t)length);
        at += length;
        int more;
        do {
            more = qbb_channel_receive(&channel, received);
            lost = more < 0;
            HOLDS(received->count >= 0 && received->count <= QBB_BATCH);
            for (int i = 0; i < received->count; i++) {
                size_t n = received->length[i];
                HOLDS(n >= QBB_HEADER_BYTES && n <= QBB_PACKET_MAX && expected + n <= at);
                HOLDS(memcmp(received->packet[i], data + expected, n) == 0);
                HOLDS(n == (size_t)(data[expected] << 8 | data[expected + 1]));
                expected += n;
            }
        } while (more > 0);
    }
    qbb_channel_close(&channel);
    close(pair[1]);
    return 0;
}
