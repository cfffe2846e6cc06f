"""What the implementation chose (what the protocol fixes is in packet.py). Times in seconds."""

from __future__ import annotations

from typing import Final

ACK_DELAY_S: Final = 0.040  # at most one acknowledgement in this time, unless a gap opens or closes: 16 bytes a hop
PACKET_THRESHOLD: Final = 3  # later transmissions acknowledged before one counts as lost (RFC 6675, RFC 9002)
WINDOW_KEYS: Final = 1024  # the window of a receiver whose owner sets none
MAX_WINDOW_KEYS: Final = 8192  # that an owner can offer
MAX_QUEUED_KEYS: Final = 4096  # waiting in one connection
PLAUSIBLE_SPAN: Final = 1 << 16  # how far behind an acknowledgement may be: the largest window

GIVE_UP_S: Final = 60.0  # nothing that was sent is acknowledged for so long: the connection has failed
HALF_OPEN_S: Final = 30.0  # a connection that a peer began
IDLE_S: Final = 120.0  # silence after which the peer is asked whether it is there: 32 bytes of key a hop
IDLE_STAGGER_S: Final = 20.0  # the passive end waits longer: being probed, it need not probe
PROBE_GIVE_UP_S: Final = 45.0  # silence after the first probe
LINGER_S: Final = 30.0  # TIME_WAIT; longer than the longest retransmission time-out

MAX_CONNECTIONS: Final = 4096
MAX_HALF_OPEN: Final = 128
MAX_HALF_OPEN_PER_NODE: Final = 32
MAX_RESETS_WAITING: Final = 64
RESETS_PER_S: Final = 20.0  # answers to segments of unknown connections; each costs 16 bytes a hop
