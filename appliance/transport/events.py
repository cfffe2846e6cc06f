"""What an endpoint tells its owner (Endpoint.events), in the order in which it happened.

Handles name key bytes in locked memory. Those of keys that arrived belong to whoever receives the event that
carries them: KeysArrived, or Discard for keys of dropped and duplicate packets, to be wiped. Those of keys
being sent stay the sender's all the time; the transport repeats them in Outgoing until KeysConfirmed or
KeysLost, and never after.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, TypeAlias
from uuid import UUID

if TYPE_CHECKING:
    from appliance.transport.connection import Connection


class CloseReason(StrEnum):
    """Why a connection ended. Only CLOSED is orderly: after any other, what the far end holds is not
    known."""

    CLOSED = "closed"  # both ends said FIN; every key sent was confirmed
    ABORTED = "aborted"  # this end called abort
    REFUSED = "refused"  # nobody listens at the far port
    RESET = "reset"  # the far end aborted, or restarted and no longer knows the connection
    TIMEOUT = "timeout"  # the far end did not answer for the give-up time
    UNREACHABLE = "unreachable"  # the network said so while the connection was being set up


@dataclass(frozen=True, slots=True)
class Opened:
    """The connection that connect() began stands."""

    connection: Connection


@dataclass(frozen=True, slots=True)
class Accepted:
    """A peer opened a connection to a listening port; its QoS request is connection.qos."""

    connection: Connection


@dataclass(frozen=True, slots=True)
class KeysArrived:
    """Keys from the peer: (key ID, handle, length in bytes), each exactly once, in no promised order.

    They are acknowledged by the next outgoing(): take them into the store before it, or abort the connection.
    """

    connection: Connection
    keys: tuple[tuple[UUID, int, int], ...]


@dataclass(frozen=True, slots=True)
class KeysConfirmed:
    """The far node holds these keys: now, and not before, the asking side may be told (rule 6)."""

    connection: Connection
    key_ids: tuple[UUID, ...]


@dataclass(frozen=True, slots=True)
class KeysLost:
    """These keys will not be sent again and were not confirmed. The far node may hold them: delete, never
    hand out.
    """

    connection: Connection
    key_ids: tuple[UUID, ...]


@dataclass(frozen=True, slots=True)
class Closed:
    """The connection's last event. Unconfirmed keys came in a KeysLost before it."""

    connection: Connection
    reason: CloseReason


@dataclass(frozen=True, slots=True)
class Discard:
    """Handles of keys that came in a packet which was dropped: wipe them."""

    handles: tuple[int, ...]


Event: TypeAlias = Opened | Accepted | KeysArrived | KeysConfirmed | KeysLost | Closed | Discard
