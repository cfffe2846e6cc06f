"""`make demo`: the paper's Figure 18 on this machine, session keys by QKD for TLS, and the faults that may happen.

    __main__.py     runs the story; exit status 0 when everything was as it should be
    figure18.toml   the network: the square of Area 1, its border, four more areas
    square.py       that network as a lab of `qbb lab`, and two hosts beside it
    story.py        what happens, step by step
    tablei.py       QBB1's routing table beside the paper's Table I
    traffic.py      the TLS applications (the program qbb-tls) and what they measured
    backup.py       an application that wants much key
    account.py      where key went: spent by cause on each link, given up at restarts
    screen.py       one line a step, the links and their stores below; plain lines where there is no terminal
    report.py       the tables at the end

The hosts meet on a network of their own, so that a cut cable between nodes leaves the applications alone: what is shown
is what happens to keys.
"""
