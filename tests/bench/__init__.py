"""Speed, as ratios: every row is measured beside its reference in the same run, in turns, and the ratio is the median
of the turns' ratios. Absolute figures depend on the machine and its other load; ratios hold better.

    result.py    a row, the table for people, JSON for programs
    ccode.py     what the C benchmarks of csrc/bench print, as rows
    plane.py     the data plane's thread in this process: beside a busy control thread, and with logs synced
    requests.py  requests at the local socket, against an echo server
    pairing.py   two real nodes of a 1 Mbit/s link
    nodes.py     two real nodes: key spent for key delivered, the idle link, one key without prefetch
    echo.py      the bare servers that stand as references

    make bench                                 .venv/bin/python -m tests.bench --quick --only requests

A missed target is shown as such and makes the exit status 1; a row without a target is there to be known.
"""
