"""QKDTL of one node. (Interface first; the machine follows.)"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address

from appliance.transport.admission import PathRate, Qos
from appliance.transport.connection import Connection
from appliance.transport.events import Event


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One QKDNL packet to send: its clear part, then the keys that the handles name, key_bytes bytes in all.
    """

    clear: bytes
    handles: tuple[int, ...] = ()
    key_bytes: int = 0


class Endpoint:
    """All QKDTL connections of the node at `address`.

    The owner's loop: receive(...) for what came, tick(now) when deadline() has passed, then events() first
    and outgoing() second. outgoing() acknowledges only keys whose KeysArrived events() has already handed
    over. `random(n)` returns n random bytes. `path_rate` gives the advertised key bit/s to a node, None if
    unknown; without it rates are not checked at connect. `now` is monotonic, in seconds.
    """

    dropped: Counter[str]  # packets dropped, by reason

    def __init__(
        self, address: IPv4Address, random: Callable[[int], bytes], path_rate: PathRate | None = None
    ) -> None:
        raise NotImplementedError

    def listen(self, port: int) -> None:
        """Accept connections to a port, 1..65535. Raises LocalProtocolError when it already listens."""
        raise NotImplementedError

    def unlisten(self, port: int) -> None:
        """Accept no more; connections that stand stay."""
        raise NotImplementedError

    def connect(
        self, now: float, local_port: int, remote: IPv4Address, remote_port: int, qos: Qos | None = None
    ) -> Connection:
        """Begin a connection; local_port 0 draws a free one of 49152..65535. Ends in Opened or Closed.

        Raises AdmissionRefused (a LocalProtocolError) when the path cannot carry qos, LocalProtocolError when
        the pair of addresses and ports is in use.
        """
        raise NotImplementedError

    def receive(self, now: float, packet_clear: bytes, handles: Sequence[int] = ()) -> None:
        """One QKDNL packet for this node: its clear part, and the handles of the keys that followed, in
        order.

        Raises nothing: a wrong packet is dropped, counted in `dropped`, and its handles come back in Discard.
        """
        raise NotImplementedError

    def tick(self, now: float) -> None:
        """Let timers that are due fire."""
        raise NotImplementedError

    def deadline(self) -> float | None:
        """When tick is next needed."""
        raise NotImplementedError

    def events(self) -> list[Event]:
        """Take what happened since the last call."""
        raise NotImplementedError

    def outgoing(self) -> list[Outgoing]:
        """Take the packets to send now."""
        raise NotImplementedError

    @property
    def connections(self) -> tuple[Connection, ...]:
        """Every connection that is not closed."""
        raise NotImplementedError
