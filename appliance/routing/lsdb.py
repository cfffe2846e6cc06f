"""The link-state database as ospfd has it (paper appendix A): one per area, and what the whole network shares.

`Database` takes LSAs as they are pushed and tells whether paths or registrations may have changed. An LSA that is only
refreshed (same body) changes nothing, so the half-hourly refreshes cost no computation.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Flag, auto

from appliance.routing.lsa import (
    MAX_AGE_S,
    Lsa,
    LsaType,
    NetworkBody,
    OpaqueBody,
    RouterBody,
    SummaryBody,
)

BACKBONE = 0
Key = tuple[int, int, int]  # type, id, advertising router


class Change(Flag):
    NONE = 0
    PATHS = auto()
    REGISTRATIONS = auto()


@dataclass
class Area:
    """The LSAs of one area, by type."""

    id: int
    lsas: dict[Key, Lsa] = field(default_factory=dict)

    def routers(self) -> Iterator[tuple[int, RouterBody]]:
        for (_, _, router), lsa in self.lsas.items():
            if isinstance(lsa.body, RouterBody):
                yield router, lsa.body

    def router(self, router: int) -> RouterBody | None:
        """A router LSA's id is its router's (RFC 2328 A.4.2)."""
        lsa = self.lsas.get((LsaType.ROUTER, router, router))
        return lsa.body if lsa is not None and isinstance(lsa.body, RouterBody) else None

    def networks(self) -> Iterator[tuple[int, NetworkBody]]:
        """(address of the designated router's interface, body)"""
        for (_, lsa_id, _), lsa in self.lsas.items():
            if isinstance(lsa.body, NetworkBody):
                yield lsa_id, lsa.body

    def summaries(self, kind: LsaType) -> Iterator[tuple[int, int, SummaryBody]]:
        """(link state id, border node, body)"""
        for (of, lsa_id, router), lsa in self.lsas.items():
            if of == kind and isinstance(lsa.body, SummaryBody):
                yield lsa_id, router, lsa.body


class Database:
    def __init__(self) -> None:
        self.areas: dict[int, Area] = {}
        self.opaque: dict[Key, Lsa] = {}

    def put(self, area: int, lsa: Lsa) -> Change:
        """A new or newer LSA; one of MaxAge is deleted."""
        if lsa.header.age_s >= MAX_AGE_S:
            return self.remove(area, lsa)
        place, change = self._place(area, lsa)
        if change is Change.NONE:
            return change
        key = _key(lsa)
        before = place.get(key)
        place[key] = lsa
        return Change.NONE if before is not None and before.body == lsa.body else change

    def remove(self, area: int, lsa: Lsa) -> Change:
        place, change = self._place(area, lsa)
        gone = place.pop(_key(lsa), None)
        if place is not self.opaque and not place:
            self.areas.pop(area, None)
        return change if gone is not None else Change.NONE

    def _place(self, area: int, lsa: Lsa) -> tuple[dict[Key, Lsa], Change]:
        if isinstance(lsa.body, OpaqueBody):
            return self.opaque, Change.REGISTRATIONS
        if lsa.body is None:
            return {}, Change.NONE
        return self.areas.setdefault(area, Area(area)).lsas, Change.PATHS

    def opaque_of(self, kind: int) -> Iterator[tuple[int, OpaqueBody]]:
        """(advertising router, body) of one opaque type"""
        for (_, _, router), lsa in self.opaque.items():
            if isinstance(lsa.body, OpaqueBody) and lsa.body.kind == kind:
                yield router, lsa.body


def _key(lsa: Lsa) -> Key:
    return lsa.header.type, lsa.header.id, lsa.header.router
