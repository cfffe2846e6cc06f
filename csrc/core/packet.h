/* The Q3P packet (paper, Fig. 12 and Table II), big-endian:
 *
 *   0        2        4                8      9        10         12             16             20
 *   | Length | Clear  | Message number | EAPPPVVV| Command | Channel | E-offset    | A-offset     | Payload | A-tag (16)
 *
 * Payload of every sealed packet starts with the acknowledgement preamble (8 bytes: cumulative u32, bitmap u32).
 * Clear counts the leading payload bytes, preamble included, that are not padded. An unsealed packet (A = 0) is a
 * hello: its authentication is the HMAC of q3p/hello, and the data plane hands it to the control program unread. */
#ifndef QBB_PACKET_H
#define QBB_PACKET_H
#include <stddef.h>
#include <stdint.h>

/* cffi:begin */
#define QBB_Q3P_VERSION 3
#define QBB_HEADER_BYTES 20
#define QBB_PREAMBLE_BYTES 8
#define QBB_TAG_BYTES 16
#define QBB_PACKET_MAX 1472
#define QBB_PAYLOAD_MAX 1428 /* what a caller may submit: packet less header, preamble and tag */

#define QBB_CHANNEL_CONTROL 0
#define QBB_CHANNEL_NETWORK 1
#define QBB_CHANNEL_ROUTING 2
#define QBB_CHANNEL_DEVICE 16

#define QBB_PRIORITY_CONTROL 6 /* from here up a packet may use the reserve */

#define QBB_COMMAND_HELLO 0 /* unsealed only */
#define QBB_COMMAND_DATA 1
#define QBB_COMMAND_ACK 2
#define QBB_COMMAND_SKIP 3
#define QBB_COMMAND_CONTROL 4 /* the link machine's messages: their kind is the first byte of the payload */

typedef struct {
    uint16_t length, clear;
    uint32_t message;
    uint8_t encrypted, authenticated, priority, version, command;
    uint16_t channel;
    uint32_t e_offset, a_offset;
} qbb_header;
/* cffi:end */

/* Key words that a packet with so many padded bytes takes: its pad, and the mask of its tag. */
static inline uint64_t qbb_span_words(size_t padded_bytes)
{
    return (padded_bytes + 7) / 8 + QBB_TAG_BYTES / 8;
}

void qbb_header_write(uint8_t out[QBB_HEADER_BYTES], const qbb_header *header);
void qbb_header_read(qbb_header *header, const uint8_t in[QBB_HEADER_BYTES]);
#endif
