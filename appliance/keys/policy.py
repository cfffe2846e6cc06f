"""Who may ask for what, and how much of it.

A client is known by its socket's peer credentials alone (SO_PEERCRED). The first rule that matches holds, also for the
quota, which all connections of one uid under one rule share: opening more sockets gives no more keys.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import NamedTuple

from appliance.keys.errors import Refused
from appliance.keys.pfkey import SaType

SATYPES = {"esp": SaType.ESP, "tls": SaType.TLS}
SATYPE_NAMES: Mapping[int, str] = {satype: name for name, satype in SATYPES.items()}


class Credentials(NamedTuple):
    pid: int
    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class Rule:
    """uid, gid: None matches anyone. ports: (first, last) pairs. names: patterns, as in shells."""

    name: str = "default"
    uid: int | None = None
    gid: int | None = None
    ports: tuple[tuple[int, int], ...] = ((1, 65535),)
    satypes: tuple[int, ...] = (SaType.ESP, SaType.TLS)
    keys_per_s: float = 100.0
    burst_keys: float = 256.0
    stock_keys: int = 256
    connections: int = 64
    names: tuple[str, ...] = ("*",)
    priority: int = 0  # the highest that it may ask for

    @property
    def held_keys(self) -> int:
        """Keys drawn at the far end of one connection that wait here to be fetched."""
        return max(1, self.stock_keys)

    def matches(self, who: Credentials) -> bool:
        return self.uid in (None, who.uid) and self.gid in (None, who.gid)


class Quota:
    """What one uid has left: a token bucket of keys, its stock (keys drawn for it and not given out), connections."""

    __slots__ = ("_filled_at_s", "_tokens", "connections", "rule", "stock")

    def __init__(self, rule: Rule, now: float) -> None:
        self.rule = rule
        self.stock = 0
        self.connections = 0
        self._tokens = rule.burst_keys
        self._filled_at_s = now

    def take_key(self, now: float) -> bool:
        rule = self.rule
        tokens = self._tokens + (now - self._filled_at_s) * rule.keys_per_s
        if tokens > rule.burst_keys:
            tokens = rule.burst_keys
        self._filled_at_s = now
        self._tokens = tokens
        if tokens < 1.0:
            return False
        self._tokens = tokens - 1.0
        return True

    def give_back(self) -> None:
        """A key that was counted and could not be had."""
        self._tokens = min(self.rule.burst_keys, self._tokens + 1.0)

    def take_connection(self) -> None:
        if self.connections >= self.rule.connections:
            raise Refused(errno.EMFILE, f"rule {self.rule.name!r} allows {self.rule.connections} connections")
        self.connections += 1

    @property
    def stock_room(self) -> int:
        return self.rule.stock_keys - self.stock


class Policy:
    def __init__(self, rules: Sequence[Rule]) -> None:
        self._rules = tuple(rules)
        self._quotas: dict[tuple[str, int], Quota] = {}

    def admit(self, who: Credentials, now: float) -> Quota:
        """The client's quota; raises Refused (EACCES) when no rule is for it."""
        for rule in self._rules:
            if rule.matches(who):
                return self._quotas.setdefault((rule.name, who.uid), Quota(rule, now))
        raise Refused(errno.EACCES, f"no [[keys.client]] rule is for uid {who.uid}, gid {who.gid}")


def check_application(rule: Rule, port: int, satype: int, name: str = "") -> None:
    """Raises Refused (EACCES) when the rule does not allow the application."""
    if not any(first <= port <= last for first, last in rule.ports):
        raise Refused(errno.EACCES, f"rule {rule.name!r} does not allow port {port}")
    if satype not in rule.satypes:
        raise Refused(errno.EACCES, f"rule {rule.name!r} does not allow SA type {satype}")
    if name and not any(fnmatchcase(name, pattern) for pattern in rule.names):
        raise Refused(errno.EACCES, f"rule {rule.name!r} does not allow the name {name!r}")
