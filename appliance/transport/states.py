"""The states of a connection and everything that moves it from one to another. Names as in RFC 9293.

Two of TCP's states are missing on purpose. LISTEN is the endpoint's. CLOSE_WAIT is passed through at once:
when the peer says FIN, this end has nothing to add to what is queued already, and follows with its own FIN.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Final


class State(Enum):
    CLOSED = auto()
    SYN_SENT = auto()  # we asked
    SYN_RECEIVED = auto()  # they asked; half-open until our tag comes back
    ESTABLISHED = auto()
    FIN_WAIT_1 = auto()  # we closed: what is queued still goes, then our FIN
    FIN_WAIT_2 = auto()  # our FIN arrived
    CLOSING = auto()  # both closed, our FIN is not acknowledged
    LAST_ACK = auto()  # they closed first: what is queued still goes, then our FIN
    TIME_WAIT = auto()  # done; kept to acknowledge their FIN again


class Cause(Enum):
    CONNECT = auto()  # our user asked for a connection
    SYN = auto()  # a valid SYN came
    TAG_RETURNED = auto()  # a segment proved that the peer knows our tag
    CLOSE = auto()  # our user is done
    FIN = auto()  # the peer's FIN came, and every key before it
    FIN_ACKNOWLEDGED = auto()
    END = auto()  # reset, abort, time-out; in TIME_WAIT: waited long enough


TRANSITIONS: Final[dict[tuple[State, Cause], State]] = {
    (State.CLOSED, Cause.CONNECT): State.SYN_SENT,
    (State.CLOSED, Cause.SYN): State.SYN_RECEIVED,
    (State.SYN_SENT, Cause.SYN): State.SYN_RECEIVED,  # both asked at the same time
    (State.SYN_SENT, Cause.TAG_RETURNED): State.ESTABLISHED,
    (State.SYN_RECEIVED, Cause.TAG_RETURNED): State.ESTABLISHED,
    (State.ESTABLISHED, Cause.CLOSE): State.FIN_WAIT_1,
    (State.ESTABLISHED, Cause.FIN): State.LAST_ACK,
    (State.FIN_WAIT_1, Cause.FIN_ACKNOWLEDGED): State.FIN_WAIT_2,
    (State.FIN_WAIT_1, Cause.FIN): State.CLOSING,
    (State.FIN_WAIT_2, Cause.FIN): State.TIME_WAIT,
    (State.CLOSING, Cause.FIN_ACKNOWLEDGED): State.TIME_WAIT,
    (State.LAST_ACK, Cause.FIN_ACKNOWLEDGED): State.CLOSED,
    **{(state, Cause.END): State.CLOSED for state in State},
}

# tuples: a state is found in a few by identity faster than by an enum's hash
HALF_OPEN: Final = (State.SYN_SENT, State.SYN_RECEIVED)
WRITABLE: Final = (State.SYN_SENT, State.SYN_RECEIVED, State.ESTABLISHED)
SENDS_FIN: Final = (State.FIN_WAIT_1, State.CLOSING, State.LAST_ACK)
OVER: Final = (State.TIME_WAIT, State.CLOSED)


def follow(state: State, cause: Cause) -> State:
    """The next state. A KeyError here is a mistake of ours: callers ask only what the table has."""
    return TRANSITIONS[state, cause]
