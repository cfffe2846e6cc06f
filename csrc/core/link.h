/* One end of a Q3P link: seal, open, selective repeat, queues, key buffers. Pure: time and bytes come in, bytes and
 * verdicts go out; no I/O, clock, allocation or randomness. The caller serialises access (one mutex per data plane).
 *
 * Life: qbb_link_init once; qbb_link_begin for each epoch (new H, empty buffers, everything of the old epoch gone);
 * qbb_link_reserve/commit as OPEN records allow; qbb_link_end when the session ends. Sealing happens at dequeue, in send
 * order: a packet dropped from the queue costs no key. A sealed packet is kept as sent and resent byte for byte until
 * acknowledged, given up (SKIP) or the epoch ends. */
#ifndef QBB_LINK_H
#define QBB_LINK_H
#include "hash.h"
#include "keybuf.h"
#include "packet.h"

/* cffi:begin */
enum qbb_direction { QBB_OUT = 0, QBB_IN = 1 };

/* What became of a received packet. Everything from QBB_DROP_SHORT on is a drop, counted under its reason. */
enum qbb_verdict {
    QBB_DELIVER = 0,  /* verified, new, with a payload for its channel */
    QBB_ABSORBED = 1, /* verified, new, and wholly dealt with here (ACK, SKIP) */
    QBB_HELLO = 2,    /* unsealed hello: authenticate elsewhere */
    QBB_DROP_SHORT = 3,
    QBB_DROP_LENGTH,
    QBB_DROP_VERSION,
    QBB_DROP_FLAGS,     /* reserved combination of E, A, Clear, offsets */
    QBB_DROP_COMMAND,
    QBB_DROP_NO_EPOCH,
    QBB_DROP_WINDOW,    /* key words not loaded yet or already gone */
    QBB_DROP_DUPLICATE,
    QBB_DROP_TAG,
    QBB_DROP_CLEAR,     /* verified, but padded in the wrong place: an alarm */
    QBB_DROP_QUEUE_FULL,
    QBB_DROP_QUEUE_EPOCH, /* waiting when the epoch ended */
    QBB_VERDICTS
};

/* Why key words were spent. Indexes qbb_link_stats.spent_words. */
enum qbb_cause { QBB_SPENT_PAD, QBB_SPENT_TAG_DATA, QBB_SPENT_TAG_CONTROL, QBB_SPENT_TAG_ACK, QBB_SPENT_TAG_ROUTING,
    QBB_SPENT_STORE, QBB_SPENT_LOST, QBB_CAUSES };

typedef struct {
    uint64_t link_id;         /* both ends' node addresses, lower first: low << 32 | high */
    uint8_t master;           /* 1 at the end with the lower node address */
    uint32_t queue_slots;     /* waiting packets, all priorities together; priorities below 6 leave a quarter to control */
    uint32_t flight_slots;    /* sealed packets awaiting acknowledgement; a power of two */
    uint64_t window_words;    /* how far the sender may run ahead of its oldest unacknowledged packet; equal at both ends */
    uint64_t reserve_words;   /* of the out buffer, only priorities 6 and 7 may take the last ones */
    uint64_t ack_delay_ns;    /* a lone acknowledgement waits so long for a packet to ride on */
    uint64_t rto_ns;          /* first retransmission time-out; doubles up to rto_max_ns */
    uint64_t rto_max_ns;
    uint32_t give_up_tries;   /* transmissions after which a packet is given up by SKIP; never one of channel 0 */
} qbb_link_params;

typedef struct {
    uint64_t verdicts[16];     /* by enum qbb_verdict */
    uint64_t spent_words[8];   /* by enum qbb_cause */
    uint64_t sent_packets, sent_bytes, received_packets, received_bytes;
    uint64_t resent_packets, skipped_packets;
    uint64_t delivered_key_bytes; /* padded bytes of channel 1 acknowledged by the peer */
    uint64_t queued, in_flight;
    uint64_t queued_control_words;    /* of the out buffer: what the waiting packets of priorities 6 and 7 will take */
    uint64_t out_words, in_words;     /* loaded and not yet spent */
    uint64_t out_loaded, in_loaded;   /* stream position: words loaded since the epoch began */
    uint64_t out_settled;             /* stream words below are spent and acknowledged or given up */
    uint64_t last_verified_ns;        /* when the last packet verified */
} qbb_link_stats;

typedef struct qbb_link qbb_link;

/* What a verified packet hands over. payload points into the packet (as received, still padded behind `clear`); pad
 * holds the words taken for it: the caller XORs (local delivery) or fuses (relay) and wipes. */
typedef struct {
    uint16_t channel;
    uint8_t priority, command;
    uint32_t length;  /* payload bytes without preamble */
    uint32_t clear;   /* of these, leading bytes that are not padded */
    const uint8_t *payload;
    uint8_t pad[1472]; /* length - clear bytes */
} qbb_delivery;

/* Memory that a link needs: `secret` goes to key memory, `plain` anywhere; both 64-byte aligned, zeroed. */
size_t qbb_link_secret_bytes(const qbb_link_params *params);
size_t qbb_link_plain_bytes(const qbb_link_params *params);
/* Key buffers: out_base and in_base are mirrored mappings of buffer_words * 8 bytes each. Returns NULL on bad params. */
qbb_link *qbb_link_init(const qbb_link_params *params, void *secret, void *plain, uint8_t *out_base, uint8_t *in_base,
    uint64_t buffer_words);

/* Start epoch `epoch` from the two halves of its slot (128 bytes each: H 16, then the starter words). Everything of an older
 * epoch is dropped and wiped. */
#define QBB_SLOT_HALF_BYTES 128
#define QBB_STARTER_WORDS 14
void qbb_link_begin(qbb_link *link, uint64_t epoch, const uint8_t out_half[128], const uint8_t in_half[128]);
void qbb_link_end(qbb_link *link);
/* Nonzero while an epoch runs. */
int qbb_link_running(const qbb_link *link);

/* Put chunk words into a direction's buffer: NULL when there is no room (wait until more is settled). */
uint8_t *qbb_link_reserve(qbb_link *link, enum qbb_direction direction, uint64_t words);
void qbb_link_commit(qbb_link *link, enum qbb_direction direction, uint64_t words);
/* Receiver: the log closed everything below this stream word; wipe it. */
void qbb_link_close_below(qbb_link *link, enum qbb_direction direction, uint64_t word);
/* Only packets of at least this priority may leave (0 all, 6 control, 7 STORE only, 8 none). */
void qbb_link_allow(qbb_link *link, unsigned priority);

/* Queue a packet. payload is `length` bytes of which the first `clear` go unpadded. The rest arrives XORed with pad_a
 * (length - clear bytes, copied), or in the clear when pad_a is NULL. `reliable` asks for selective repeat. Returns 0, or
 * -QBB_DROP_QUEUE_FULL, -QBB_DROP_LENGTH, -QBB_DROP_CLEAR (a KEY segment padded in the wrong place), -QBB_DROP_NO_EPOCH,
 * -QBB_DROP_COMMAND (CONTROL is for channel 0, DATA for all others). */
int qbb_link_submit(qbb_link *link, uint16_t channel, uint8_t command, uint8_t priority, int reliable,
    const uint8_t *payload, size_t length, size_t clear, const uint8_t *pad_a);
/* Deal with one datagram. On QBB_DELIVER `delivery` is filled. A drop changes nothing but its counter, but for
 * two: QBB_DROP_CLEAR was genuine, so its key is taken and it is acknowledged (else it would come again and again);
 * QBB_DROP_DUPLICATE may have the last acknowledgement repeated. */
enum qbb_verdict qbb_link_receive(qbb_link *link, uint64_t now_ns, const uint8_t *packet, size_t length,
    qbb_delivery *delivery);
/* Next datagram to send now (resends first, then by priority, then a lone acknowledgement that is due): its length in
 * bytes, written to out (QBB_PACKET_MAX), or 0. */
size_t qbb_link_poll(qbb_link *link, uint64_t now_ns, uint8_t *out);
/* When qbb_link_poll may have something without new input; UINT64_MAX for never. */
uint64_t qbb_link_deadline(const qbb_link *link);
/* Packets waiting to be sealed. */
uint32_t qbb_link_waiting(const qbb_link *link);
void qbb_link_read_stats(const qbb_link *link, qbb_link_stats *stats);
/* cffi:end */
#endif
