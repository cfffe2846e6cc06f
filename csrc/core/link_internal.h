/* What the files of the link share.
 *
 *   link.c      life: memory, epochs, loading of key, statistics; the queue's entrance
 *   seal.c      one packet under fresh key
 *   send.c      which packet leaves next (qbb_link_poll, qbb_link_deadline)
 *   open.c      a datagram from the wire (qbb_link_receive)
 *   queue.c     waiting packets, by priority            window.c    the receiver's key words
 *   repeat.c    sealed packets until acknowledged       arrivals.c  the numbers that arrived, acknowledgements owed
 *
 * Departure from the usual: a SKIP keeps the number of the packet that it replaces, so it needs no number, no slot and no
 * acknowledgement of its own. */
#ifndef QBB_LINK_INTERNAL_H
#define QBB_LINK_INTERNAL_H
#include "arrivals.h"
#include "link.h"
#include "queue.h"
#include "repeat.h"
#include "window.h"

#define QBB_TAG_WORDS (QBB_TAG_BYTES / 8)
/* The longest span: a packet that is all padded. */
#define QBB_SPAN_MAX_WORDS ((QBB_PAYLOAD_MAX + 7) / 8 + QBB_TAG_WORDS)
#define QBB_PRIORITY_ACK 7
#define QBB_ALLOW_NONE 8

struct qbb_link {
    qbb_link_params params;
    uint64_t epoch;
    int running;
    unsigned allow;
    qbb_hash_key *out_hash, *in_hash; /* key memory */
    qbb_keybuf out;                   /* its floor is the next word to spend */
    qbb_window in;
    uint64_t reserved_words[2];       /* by direction: handed out for loading, not committed yet */
    qbb_queue queue;
    qbb_flight flight;
    qbb_arrivals arrivals;
    qbb_link_stats stats;             /* counters alone; the rest is filled in when read */
};

/* A packet before it is sealed. */
typedef struct {
    uint16_t channel;
    uint8_t command, priority;
    uint32_t message;
    uint8_t *text;        /* room for the preamble, then the payload: padded part XOR pad_a, or clear without pad_a */
    size_t length, clear; /* of the payload */
    const uint8_t *pad_a;
} qbb_outgoing;

/* May a packet of this priority take `words` now? Enough key (above the reserve, if it is not control), and not too far
 * ahead of the oldest packet that the peer may still need. Acknowledgements and SKIPs (priority QBB_PRIORITY_ACK, urgent)
 * may use the window's last eighth: if everybody could, two ends might both fill their windows and then find no room for
 * the acknowledgements that would free them. */
int qbb_may_seal(const qbb_link *link, unsigned priority, uint64_t words, int urgent);
/* Seals into out (QBB_PACKET_MAX) and spends the words, which must be there (qbb_may_seal). Length of the packet. */
size_t qbb_seal(qbb_link *link, uint8_t *out, const qbb_outgoing *packet);
/* What a packet's mask, and its pad, are counted as. */
enum qbb_cause qbb_tag_cause(uint16_t channel, uint8_t command, uint8_t priority);
enum qbb_cause qbb_pad_cause(uint16_t channel, uint8_t priority);
#endif
