"""Forwarding: by which link a QKDNL packet goes on (paper 2.5.2, 2.5.3; csrc/core table, load, forward).

C decides for each packet, in the data plane's thread; what it decides by is made here and handed over whole.

    table.py    the extended routing table: from the routing unit's, configured and neighbours' routes to the rows of C
    policy.py   w and L_cr of each link, what a link can carry, what happens when everything is overloaded
    reports.py  ICMP: what is told to the source of a dropped packet, and what others tell us

**The table.** For each destination all outgoing links in increasing order of cost. The longest prefix wins.
Configured routes go before learned ones, and these before the plain fact that a neighbour is at the other end of its
link.

**The choice.** The first way whose link carries traffic (up, key above its low mark), has room in its queue and a
filtered load below L_cr. Never back over the link by which the packet came. Besides the best ways only loop-free
ones, whose next hop is nearer to the destination than we are: along a path of such ways the distance falls with every
hop, so no packet circles, whatever load makes the nodes choose. For a hold time after a change of the table best ways
only, because the distances that different nodes compute may differ for so long.

**Load.** Equations (1) and (2) over the key words that are offered to a link. Departures from the paper: l is divided
by what the link can carry (its key rate, and the store above the low mark spread over `load_store_s`), so that one
L_cr fits links of all rates; and words count when they are offered, not when they are sent, so that a full queue does
not look idle. Time moves the filter, not packets.

**Overload.** `default-link`, the default: a packet that all ways refuse for overload goes out nevertheless, by the
configured default link where that is a way of its, else by the cheapest way. So load only spreads traffic; what
bounds it is key. `drop`: the packet is dropped, and connections slow down.

**Priorities.** The ToS precedence of a packet is its priority in the link's queue, 0 to 5. Control's packets are
above.
"""
