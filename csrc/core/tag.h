/* The A-tag of a sealed packet: Wegman-Carter, POLYVAL over a fixed-width block and the payload as sent, XOR 16 mask bytes
 * that serve this tag alone.
 *
 * The fixed block says which packet this is beyond what the wire shows: link, epoch, direction and the full 64-bit
 * offsets, so nothing sealed for one place verifies at another. Its header has the lengths (packet and clear part), which
 * seal writes and open compares with the packet's before anything else: so payloads that differ in trailing zeros alone
 * differ here, and there is no length block behind the payload; the link id, never 0, leads. All integers are big-endian:
 *
 *   0          8        16          17        24          32          40            60      64
 *   | link id  | epoch  | direction | zero    | E-offset  | A-offset  | header (20) | zero  |
 */
#ifndef QBB_TAG_H
#define QBB_TAG_H
#include <stddef.h>
#include <stdint.h>

#include "hash.h"
#include "packet.h"
#include "probe.h"

#define QBB_TAG_FIXED_BYTES 64

/* direction: 0 master to slave, 1 slave to master. */
void qbb_tag_fixed(uint8_t fixed[QBB_TAG_FIXED_BYTES], uint64_t link_id, uint64_t epoch, uint8_t direction,
    uint64_t e_offset, uint64_t a_offset, const uint8_t header[QBB_HEADER_BYTES]);

/* out = POLYVAL(H, fixed || payload, zero-padded to whole blocks) XOR mask. payload: as sent, `length` bytes, preamble
 * included. use: QBB_USE_MASK_SEAL or QBB_USE_MASK_OPEN; the probe is told of a mask that seals here, of one that opens by
 * the caller, after qbb_equal. */
void qbb_tag(uint8_t out[QBB_TAG_BYTES], const qbb_hash_key *key, const uint8_t fixed[QBB_TAG_FIXED_BYTES],
    const uint8_t *payload, size_t length, const uint8_t mask[QBB_TAG_BYTES], enum qbb_use use);

/* Sealing: out = in, behind `clear` XOR pad_a (unless NULL) XOR pad_b; then the tag of out, as above. out may be in. Tells the
 * probe of pad_b (whole words) and mask itself. */
void qbb_pad_and_tag(uint8_t *out, uint8_t tag[QBB_TAG_BYTES], const qbb_hash_key *key,
    const uint8_t fixed[QBB_TAG_FIXED_BYTES], const uint8_t *in, size_t length, size_t clear, const uint8_t *pad_a,
    const uint8_t *pad_b, const uint8_t mask[QBB_TAG_BYTES]);
#endif
