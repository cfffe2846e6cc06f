/* QKDNL (paper Fig. 13, an IPv4 header) and QKDTL headers, as far as the data plane reads them.
 *
 * QKDTL, 20 bytes: source port u16, destination port u16, sequence u32, acknowledgement u32, flags u8, reserved u8,
 * window u16, clear length u16, checksum u16. Clear length counts from the start of the QKDTL header to the end of the
 * key IDs: where padding begins. Checksum (RFC 1071) covers the pseudo-header (source, destination, 0, protocol, QKDTL
 * length) and the clear part only, never key bytes. */
#ifndef QBB_QKD_H
#define QBB_QKD_H
#include <stddef.h>
#include <stdint.h>
/* cffi:begin */
#define QBB_NETWORK_MTU 1280
#define QBB_NETWORK_HEADER_BYTES 20
#define QBB_TRANSPORT_HEADER_BYTES 20
#define QBB_PROTOCOL_ICMP 1
#define QBB_PROTOCOL_OSPF 89
#define QBB_PROTOCOL_QKDTL 253
/* How many leading bytes of this QKDNL packet travel unpadded; -1 when the packet contradicts itself. */
int qbb_network_clear(const uint8_t *packet, size_t length);
uint16_t qbb_checksum(const uint8_t *bytes, size_t length, uint32_t sum);
/* cffi:end */
#endif
