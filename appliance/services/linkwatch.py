"""What happens to a link bit by bit and is told to the journal once: its store runs low, its packets are forged."""

from __future__ import annotations

from typing import Protocol

from appliance.q3p.reserves import StoreState

EVENTS = {StoreState.READY: "store-ready", StoreState.LOW: "store-low", StoreState.EXHAUSTED: "store-exhausted"}
FORGED_NOTE_S = 60.0  # anybody can send wrong packets: they are told of so often


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
