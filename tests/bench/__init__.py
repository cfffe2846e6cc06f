"""Speed, as ratios: every row is measured beside its reference in the same run, in turns, and the ratio is the median
of the turns' ratios. Absolute figures depend on the machine and its other load; ratios hold better.

    result.py    a row, the table for people, JSON for programs
    ccode.py     what the C benchmarks of csrc/bench print, as rows
    plane.py     the data plane's thread in this process: beside a busy control thread, and with logs synced
    requests.py  requests at the local socket, against an echo server
    pairing.py   two real nodes of a 1 Mbit/s link
    nodes.py     two real nodes: key spent for key delivered, the idle link, one key without prefetch
    gain.py      a square of real nodes under more load than it can carry: load-aware forwarding, shortest path alone
    reroute.py   a link of the square is cut: how long until the next key
    start.py     networks of 20 and 50 nodes, from nothing to all routes
    labs.py      the networks of these three, by `qbb lab`
    echo.py      the bare servers that stand as references
    frralone.py  FRR's daemons alone, over veth pairs, as a reference

    make bench                                 .venv/bin/python -m tests.bench --quick --only requests

A missed target is shown as such and makes the exit status 1; a row without a target is there to be known.
"""
