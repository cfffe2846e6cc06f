"""QKDNL, the network layer (paper 3.2, Fig. 13, Appendix D): connectionless packets with an IPv4 header.

    address.py   areas, /30 networks, which addresses a node may have (paper 2.3)
    checksum.py  RFC 1071, shared with QKDTL and ICMP
    packet.py    the IPv4 header
    icmp.py      Time Exceeded and Destination Unreachable
    errors.py    local errors apart from remote errors, for this layer and the transport

Session-key packets never enter the kernel's IP stack; the header is IPv4's so that OSPF, ICMP and people's
habits fit.

Departures from the paper: TTL counts hops, as everywhere since, not seconds. Fragments do not exist: the
network-wide MTU is 1,280 bytes, relays never cut, and a packet that claims to be a fragment is dropped.
So is one with
options.
"""
