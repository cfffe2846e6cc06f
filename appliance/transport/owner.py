"""What passes between a connection and its endpoint, besides calls to the connection."""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import TYPE_CHECKING, Protocol

from appliance.network.errors import RemoteProtocolError
from appliance.transport.events import Event
from appliance.transport.outgoing import Outgoing

if TYPE_CHECKING:
    from appliance.transport.connection import Connection


class UnknownConnection(RemoteProtocolError):
    """The segment belongs to a connection that is not known here: its sender should be reset."""


class Owner(Protocol):
    """What a connection needs of its endpoint."""

    address: IPv4Address

    def happened(self, event: Event) -> None:
        """Tell the user."""

    def touch(self, connection: Connection, now: float) -> None:
        """It is `now`, and the connection may have something to send, and another deadline."""

    def gone(self, connection: Connection) -> None:
        """Its state is CLOSED: forget it."""

    def send_now(self, outgoing: Outgoing) -> None:
        """Send a packet that outlives its connection."""
