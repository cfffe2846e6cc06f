"""The routing module of a node (paper 2.5.1, Fig. 8, appendices A to C): who is reached by which links, at what cost.

    lsa.py            one link-state advertisement (RFC 2328 appendix A.4; RFC 5250): router, network, summary, opaque
    lsdb.py           the link-state database, area by area (Table III)
    spf.py            the graph of an area and its shortest-path trees, one per outgoing interface
    table.py          the extended routing table: every link for every destination, and which of them cannot loop
    cost.py           a link's cost out of its key rate and stored key, damped
    damping.py        links that flap
    registrations.py  applications of the whole network, several to an opaque LSA
    frrconfig.py      the text that zebra and ospfd read; names of interfaces and addresses of links
    ospfapi.py        messages of ospfd's API, and the conversation with it
    vty.py            commands to a running ospfd
    gate.py           what may pass a TUN: OSPF between the two ends of that link, and nothing else
    port.py           messages to and from the data plane

OSPF itself (neighbours, flooding, summaries) is FRR's ospfd, in a network namespace of the node's own, over one TUN per
link; appliance/services/routing.py carries the packets. ospfd computes shortest paths only and its routes are not used:
the tables here are computed from its database, pushed over its API.

**Extended table.** The cost of a destination by one interface is what the shortest path costs when the other interfaces
cost infinity (2.5.2): the interface's cost, and the neighbour's distance in the area without this node.

**No loops.** The paper leaves alternatives to luck ("this will minimise possibility of routing loops"). Here a link
that is not the best is used only when its neighbour N is nearer to the destination D than this node S is: dist(N, D) <
dist(S, D), both as OSPF prefers routes, of the same type and area (RFC 5286 inequality 3, which is stricter than its
loop-free condition). Then whatever each node chooses, the distance falls with every hop of an area; and between areas a
packet only goes on: from its area to the backbone, from there to the destination's area. All nodes must compute from
one database for that, so for a hold time after each change only best entries are offered.

Departures from the paper and RFC 2328:
- Areas are named by their addresses (2.3): area 1.1.0.0 holds 1.1.0.0/16, which its border nodes advertise as one
  summary. Area 0.0.0.0 is the backbone that OSPF wants; a chain of areas without it does not route.
- A node whose links all cost 65535 (RFC 6987) is a QAN: it is never gone through. RFC 6987 would, as a last resort.
- ospfd cannot advertise a network at cost 0 as in Table III: a node's own /30 costs 1, for everyone, so the order of
  paths is the same.
- Table I prints 16 for NA4. By Table III it is 9 + 8 = 17.
"""
