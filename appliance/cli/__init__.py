"""The command `qbb`: what people ask a node.

    main.py      reads the words, runs the command, turns errors into sentences
    commands.py  the table of commands: the parser and the manual page are made from it
    asking.py    the units' control sockets
    output.py    tables as wide as the screen, JSON for programs, quantities for people
    views.py     status, links, store, sessions, device
    network.py   network, registrations: the routing unit's view
    link.py      link show, secret, discard
    key.py       key: asks for one session key
    check.py     check: the configuration and the secret files
    lab.py       lab up, down, status, cut, mend, tap, rate, kill, restart, exec
    top.py       top: the live view; topview.py makes its frames
    manual.py    makes packaging/qbb.1 and packaging/qbb-node.toml.5

It holds no state and no privilege of its own: it asks the running units over their control sockets, whose group may
use them.
"""
