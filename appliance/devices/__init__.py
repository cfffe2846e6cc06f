"""QKD devices: drivers that deliver blocks of raw key (paper section 2.1, the array of QKD device drivers).

A driver delivers *blocks*: (device, block id, bytes, QBER, time), block.py. The bytes never are Python
objects: they are made or received in key memory by C, and travel to the data plane as a memory file's
descriptor. The unit qbb-device@NAME (services/device.py) holds one driver and speaks to the data plane.

Kinds so far: `simulated`, the two ends of a simulated fibre.

    decoystate.py  gain, error rate and key rate of a fibre: weak + vacuum decoy-state BB84. Formulae only.
    simulated.py   the exchange of photons played out: counts drawn from the formulae, an eavesdropper, blocks
    alarms.py      what one end concludes from the counts: too many errors, no light, stalled
    fibre.py       the fibre's own process, which plays the exchange once and tells both ends
    fibrewire.py   how fibre and devices talk
    block.py       a block in key memory

**Why the fibre is a process.** The two ends of a quantum channel see the same photons, so neither end can
simulate it alone, and the nodes must not share memory or trust each other's generator. The fibre is neither
node's: it is the piece of nature between them. It tells both ends the same counts and, for each block, the
same seed; each end expands the seed in C. A real device would get there by sifting, error correction and
privacy amplification over the classical channel; the counts that these would have had are what is simulated.

**What is honest and what is not.** The number of pulses, clicks, sifted bits and errors are random draws with
the probabilities of a measured system (Gobby, Yuan, Shields 2004), so rates and error rates fluctuate as they
would. The secret fraction is the asymptotic bound on the measured counts: there is no finite-key margin, and
error correction is its cost (1.22 times the Shannon limit), not its rounds. The key itself is a seed expanded
by SHAKE256, so it is computational: a simulated link demonstrates, it does not protect.

Block ids are the fibre's, equal at both ends, and never come again when a fibre restarts (they start at its
start time). A block is good until the data plane has accepted it; then it is wiped here.
"""
