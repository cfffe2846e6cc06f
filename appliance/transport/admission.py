"""Best effort with bounds (paper 3.3, 2.5.3): what a connection may send, and whether its path could carry
it.

A connection asks for an average rate lambda and a burst sigma as upper bounds; sent key bits stay below
lambda * t + sigma for any span t. A request that the advertised rate of the path cannot carry is refused when
it is made, not starved later. The guaranteed rate is the paper's next version: carried in requests, counted,
not enforced.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address

from appliance.network.errors import LocalProtocolError

PathRate = Callable[[IPv4Address], float | None]  # key bit/s advertised for the path to a node; None: no path known


class AdmissionRefused(LocalProtocolError):
    """The path cannot carry the rate asked for."""


@dataclass(frozen=True, slots=True)
class Qos:
    """rate_bps: lambda, key bits a second, 0 = no bound; burst_bits: sigma; priority 0..7 goes to the ToS
    field.
    """

    rate_bps: int = 0
    burst_bits: int = 65_536
    guaranteed_bps: int = 0
    priority: int = 0

    def __post_init__(self) -> None:
        for name in ("rate_bps", "burst_bits", "guaranteed_bps"):
            if not 0 <= getattr(self, name) < 2**32:
                raise LocalProtocolError(f"{name} must be 0..2^32-1, not {getattr(self, name)}")
        if not 0 <= self.priority <= 7:
            raise LocalProtocolError(f"priority must be 0..7, not {self.priority}")


class TokenBucket:
    """The (lambda, sigma) regulator. Starts full. An amount above sigma waits for a full bucket and leaves a
    debt.
    """

    __slots__ = ("_burst_bits", "_rate_bps", "_tokens_bits", "_updated_s")

    def __init__(self, rate_bps: float, burst_bits: float, now: float) -> None:
        if rate_bps <= 0 or burst_bits <= 0:
            raise LocalProtocolError("a token bucket needs a rate and a burst above 0")
        self._rate_bps = rate_bps
        self._burst_bits = burst_bits
        self._tokens_bits = burst_bits
        self._updated_s = now

    def ready_at(self, now: float, bits: float) -> float:
        """The earliest time, >= now, at which take(bits) would succeed."""
        self._refill(now)
        missing = min(bits, self._burst_bits) - self._tokens_bits
        return now if missing <= 0 else now + missing / self._rate_bps

    def take(self, now: float, bits: float) -> bool:
        """Spend `bits` if the bucket has them."""
        self._refill(now)
        # a millionth of a bit forgives the rounding of ready_at, which would otherwise come back just too
        # early
        if self._tokens_bits + 1e-6 < min(bits, self._burst_bits):
            return False
        self._tokens_bits -= bits
        return True

    def _refill(self, now: float) -> None:
        if now > self._updated_s:
            grown = self._tokens_bits + (now - self._updated_s) * self._rate_bps
            self._tokens_bits = min(self._burst_bits, grown)
            self._updated_s = now


class Admission:
    """Sums the rates admitted to each node and compares them with what the path there advertises."""

    def __init__(self, path_rate: PathRate) -> None:
        self._path_rate = path_rate
        self._committed_bps: dict[IPv4Address, int] = {}

    def committed_bps(self, remote: IPv4Address) -> int:
        return self._committed_bps.get(remote, 0)

    def admit(self, remote: IPv4Address, qos: Qos) -> None:
        """Count a connection's rate in; raises AdmissionRefused when the path has no room for it."""
        asked = _asked_bps(qos)
        if asked == 0:
            return
        carried = self._path_rate(remote)
        if carried is None:
            raise AdmissionRefused(f"no path to {remote} advertises a key rate")
        committed = self.committed_bps(remote)
        if committed + asked > carried:
            free = max(0, int(carried) - committed)
            raise AdmissionRefused(f"{asked} bit/s asked to {remote}, {free} bit/s free of {int(carried)}")
        self._committed_bps[remote] = committed + asked

    def release(self, remote: IPv4Address, qos: Qos) -> None:
        """The connection ended: its rate is free again."""
        left = self.committed_bps(remote) - _asked_bps(qos)
        if left > 0:
            self._committed_bps[remote] = left
        else:
            self._committed_bps.pop(remote, None)


def _asked_bps(qos: Qos) -> int:
    return max(qos.rate_bps, qos.guaranteed_bps)
