"""A network of real units under random faults for as long as one likes, watched from outside.

    python -m tests.endurance --nodes 20 --minutes 60 --seed 7        (as root, from the repository; or make endurance)

    __main__.py  the run: options, progress, summary, exit status
    lab.py       a random network with OSPF, made by `qbb lab`
    events.py    cuts, silent losses, taps, falling key rates, killed and restarted units, dead nodes, flapping links
    traffic.py   applications between random pairs of nodes, that compare the keys of both ends
    spans.py     what the wire of one link tells of its key: no word serves two packets
    wire.py      listens to the wires of all links
    health.py    memory and descriptors of the units; units that end unasked

What must hold: the keys of both ends are equal and none comes twice; no key word serves two packets; no unit leaks
memory or descriptors, ends unasked or says "Traceback"; and when the faults stop, all links and all pairs of nodes come
back by themselves.
"""
