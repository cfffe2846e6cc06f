"""Is the peer there? When a connection has been silent for long, or waits for a window to open, it asks.

An answer costs a tag each way on every hop, so the passive end waits longer than the active one: being asked, it need
not ask.
"""

from __future__ import annotations

from appliance.transport.constants import IDLE_S, IDLE_STAGGER_S, PROBE_GIVE_UP_S
from appliance.transport.rtt import HIGHEST_S


class Silence:
    """Measures the time since the peer was heard."""

    __slots__ = ("_heard_s", "_idle_s", "_probes", "probe_s", "probe_wanted")

    def __init__(self, now: float, active: bool) -> None:
        self._idle_s = IDLE_S if active else IDLE_S + IDLE_STAGGER_S
        self.probe_wanted = False
        self.heard(now)

    def heard(self, now: float) -> None:
        self._heard_s = now
        self._probes = 0
        self.probe_s = now + self._idle_s  # when to ask

    def blocked(self, now: float, timeout_s: float) -> None:
        """Keys wait for the peer's window: a lost opening must not stop them for the idle time."""
        if not self._probes:
            self.probe_s = min(self.probe_s, now + timeout_s)

    def over(self, now: float) -> bool:
        """Asked, and not answered for so long that the peer counts as gone."""
        return self._probes > 0 and now >= self._heard_s + self._idle_s + PROBE_GIVE_UP_S

    def on_time(self, now: float, timeout_s: float) -> None:
        """Ask when it is time, and again at doubling intervals."""
        if now >= self.probe_s:
            self.probe_wanted = True
            self._probes += 1
            self.probe_s = now + min(HIGHEST_S, timeout_s * (1 << min(self._probes, 8)))
