#include "packet.h"

#include "bytes.h"

void qbb_header_write(uint8_t out[QBB_HEADER_BYTES], const qbb_header *header)
{
    uint64_t flags = (header->encrypted ? 0x80u : 0) | (header->authenticated ? 0x40u : 0) | (header->priority & 7u) << 3
        | (header->version & 7u);
    /* Whole words: the tag reads them again at once (hash_vpclmul.c tells why that matters). */
    qbb_put64(out, (uint64_t)header->length << 48 | (uint64_t)header->clear << 32 | header->message);
    qbb_put64(out + 8, flags << 56 | (uint64_t)header->command << 48 | (uint64_t)header->channel << 32 | header->e_offset);
    qbb_put32(out + 16, header->a_offset);
}

void qbb_header_read(qbb_header *header, const uint8_t in[QBB_HEADER_BYTES])
{
    header->length = qbb_get16(in);
    header->clear = qbb_get16(in + 2);
    header->message = qbb_get32(in + 4);
    header->encrypted = in[8] >> 7;
    header->authenticated = in[8] >> 6 & 1;
    header->priority = in[8] >> 3 & 7;
    header->version = in[8] & 7;
    header->command = in[9];
    header->channel = qbb_get16(in + 10);
    header->e_offset = qbb_get32(in + 12);
    header->a_offset = qbb_get32(in + 16);
}
