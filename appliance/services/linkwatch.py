"""What happens to a link bit by bit and is told to the journal once: its store runs low, its packets are forged,
strangers connect."""

from __future__ import annotations

from typing import Protocol

from appliance.config import LinkConfig
from appliance.q3p.reserves import StoreState
from appliance.services import journal

EVENTS = {StoreState.READY: "store-ready", StoreState.LOW: "store-low", StoreState.EXHAUSTED: "store-exhausted"}
FORGED_NOTE_S = 60.0  # anybody can send wrong packets: they are told of so often
STRANGERS_NOTE_S = 60.0


class Note(Protocol):
    def __call__(self, event: str, **fields: str | int) -> None: ...


class LinkWatch:
    """Time is passed in."""

    def __init__(self, note: Note) -> None:
        self._note = note
        self._state: StoreState | None = None
        self._told = 0  # wrong tags
        self._told_s = -FORGED_NOTE_S

    def store(self, state: StoreState, stored_bytes: int) -> None:
        if state is self._state:
            return
        self._state = state
        if state in EVENTS:
            self._note(EVENTS[state], cause=f"{stored_bytes} bytes of key are left", stored_bytes=stored_bytes)

    def tags(self, now_s: float, wrong: int) -> None:
        """`wrong`: packets whose tag did not verify, since the link's start."""
        if wrong > self._told and now_s - self._told_s >= FORGED_NOTE_S:
            self._note(
                "forged-packet", cause=f"{wrong - self._told} packets with a wrong tag", packets=wrong - self._told
            )
            self._told, self._told_s = wrong, now_s


class Strangers:
    """Connections to a link's port that came from elsewhere than its neighbour. Anybody can make them."""

    def __init__(self, config: LinkConfig) -> None:
        self._config = config
        self.refused = self._told = 0
        self._told_s = -STRANGERS_NOTE_S

    def refuse(self, now_s: float, address: str) -> None:
        self.refused += 1
        if now_s - self._told_s < STRANGERS_NOTE_S:
            return
        fresh = self.refused - self._told
        self._told, self._told_s = self.refused, now_s
        name, remote = self._config.name, self._config.remote.host
        text = f"link {name}: connections refused: {fresh}, the last from {address}; the neighbour is {remote}"
        journal.write("stranger-refused", text, link=name, address=address, connections=fresh)
