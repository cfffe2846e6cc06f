"""Links that flap, damped as routers damp routes (RFC 2439).

Each time a link goes down adds a penalty of one, of which half is gone after a half-life. A link with a penalty above
SUPPRESS is told to OSPF as down, though it may be up by now, until the penalty has fallen below REUSE: two failures in
a row are told at once, and back as soon as the link is; the third keeps it down for one to two half-lives. Going down
is never delayed. What is damped is the routes through the link; the neighbour itself is reached by it whenever Q3P is
up.
"""

from __future__ import annotations

SUPPRESS, REUSE, MOST = 2.5, 1.0, 4.0


class Damping:
    """One link. `held`: told as down because it flaps."""

    def __init__(self, half_life_s: float) -> None:
        """0: nothing is damped."""
        self.held = False
        self._half_life_s = half_life_s
        self._penalty, self._since_s = 0.0, 0.0
        self._usable = False

    def update(self, now_s: float, usable: bool) -> bool:
        """Whether OSPF shall see the link up. To be called at each change and, while `held`, now and then."""
        if self._half_life_s:
            self._penalty *= 0.5 ** ((now_s - self._since_s) / self._half_life_s)
            self._since_s = now_s
            if self._usable and not usable:
                self._penalty = min(self._penalty + 1, MOST)
            self.held = self._penalty > SUPPRESS or (self.held and self._penalty >= REUSE)
        self._usable = usable
        return usable and not self.held
