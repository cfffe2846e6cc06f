"""One QKDTL connection. (Interface first; the machine follows.)"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address
from uuid import UUID

from appliance.transport.admission import Qos


class Connection:
    """Made by Endpoint.connect or given by Accepted; compared by identity.

    After any call here, collect endpoint.events() and then endpoint.outgoing().
    """

    local_port: int
    remote: IPv4Address
    remote_port: int
    qos: Qos
    active: bool  # this end asked for the connection

    @property
    def writable(self) -> bool:
        """send_keys would send: set up or being set up, and neither end has begun to close."""
        raise NotImplementedError

    @property
    def room(self) -> int:
        """How many keys send_keys takes now."""
        raise NotImplementedError

    def send_keys(self, now: float, keys: Sequence[tuple[UUID, int, int]]) -> None:
        """Queue keys: (key ID, handle, length in bytes). Each gets one KeysConfirmed or KeysLost.

        When the far end has begun to close, or the connection died, they come back as KeysLost. Raises
        LocalProtocolError when this end closed, when there are more than `room`, or when a length is 0 or
        does not fit the MTU.
        """
        raise NotImplementedError

    def set_window(self, now: float, keys: int | None) -> None:
        """How many further keys this end will take, counted down by KeysArrived until set again; 0 stops the
        peer.

        None, the default: the window moves along with what arrives.
        """
        raise NotImplementedError

    def close(self, now: float) -> None:
        """Orderly: what is queued is still delivered, then FIN. Ends with Closed. Idempotent."""
        raise NotImplementedError

    def abort(self, now: float) -> None:
        """At once: RST to the peer, KeysLost for what is unconfirmed, Closed(ABORTED). Idempotent."""
        raise NotImplementedError
