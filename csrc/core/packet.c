#include "packet.h"

#include "bytes.h"

void qbb_header_write(uint8_t out[QBB_HEADER_BYTES], const qbb_header *header)
{
    qbb_put16(out, header->length);
    qbb_put16(out + 2, header->clear);
    qbb_put32(out + 4, header->message);
    out[8] = (uint8_t)((header->encrypted ? 0x80 : 0) | (header->authenticated ? 0x40 : 0) | (header->priority & 7) << 3
        | (header->version & 7));
    out[9] = header->command;
    qbb_put16(out + 10, header->channel);
    qbb_put32(out + 12, header->e_offset);
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
