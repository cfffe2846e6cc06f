"""QKDTL, the transport layer (paper 3.2, 3.3, Figs. 14-17): session keys, each delivered once and known to
be so.

Files, from the bottom:
    constants.py   what we chose
    packet.py      the segment: header, flags, key IDs, tags, options
    window.py      sequence numbers as whole numbers; the set of those that arrived
    rtt.py         the retransmission time-out (RFC 6298)
    congestion.py  how much may be in flight (RFC 5681, RFC 9438's factor), losses and queue marks (RFC 3168)
    admission.py   (lambda, sigma) token bucket; requests the path cannot carry are refused
    sender.py      keys waiting, in flight, lost, confirmed
    receiver.py    what arrived, the window offered, when to acknowledge
    silence.py     probes, and when a peer counts as gone
    states.py      the table of states
    events.py      what the owner is told
    outgoing.py    what the owner sends
    owner.py       what a connection asks of its endpoint
    connection.py  set-up, close, timers of one connection
    timers.py      many deadlines in one heap
    endpoint.py    the node's connections, listeners, answers to strangers: the interface
All are pure: `now` and random bytes are passed in, packets and events are handed out.

A packet on its way, and what of it is padded (Q3P pads all that is not clear):

    | QKDNL header 20 | QKDTL header 20 | count, key length 4 | key IDs n * 16 |  keys n * length  |
    |<------------------------------ clear, authenticated ------------------->|<---- padded ----->|

Key is what the network runs short of: a packet costs its key bytes once and a tag of 16 bytes, on every hop.
Therefore keys that wait together share a segment; acknowledgements ride on KEY segments, else come at most
every 40 ms unless a gap opens or closes; nothing is sent into a shut window; a quiet connection is probed
once in two minutes; and congestion windows count key bytes. Clear bytes are cheap, so tags have 64 bits.

Delivery is unordered. Session keys are independent and carry their IDs, so a lost packet holds back no
other; nothing is buffered for reassembly, no locked memory stands idle, and a selective acknowledgement
already is a confirmation. A segment is repeated with the same keys, handles and numbers; the data plane pads
it afresh. What arrives twice comes back as Discard. A key is acknowledged after its KeysArrived was handed
over, never before (rule 6). After any end but an orderly one the owner deletes what is unconfirmed
(KeysLost), and by its own policy what the peer may have lost.

Old segments. A 64-bit random tag names one connection of one end's one life. Segments without keys carry
both ends' tags; those of another life are answered by a reset in the stranger's own terms, which is how a
restart is noticed: at the latest by the probe. KEY segments have no room for tags; both their numbers must
fit windows that begin at random points, the low halves of the tags, so one from another life passes by
chance of about 2^-38 at the usual window, 2^-35 at the largest. The network below authenticates each hop and
drops replays; this guards against age, not against forgers.

Departures from the paper and from TCP (RFC 9293), from which it takes most:
  - sequence numbers count keys; SYN and FIN take one each, as there;
  - no half-close: the side told FIN sends what it had queued and follows (states.py);
  - no ordered delivery, so no receive buffer; a SACK is never taken back (RFC 2018 allows it);
  - congestion marks are counted in an option, as in QUIC (RFC 9000 19.3.2), for want of flags;
  - losses are found by order of transmission with a threshold of 3 (RFC 9002 6.1.1), not by duplicate
    acknowledgements, which would each cost a tag;
  - the lowest retransmission time-out is 250 ms, for the peer's delay is 40 ms and not 500;
  - the guaranteed rate of the paper's next version is carried and admitted but not enforced.
"""
