"""The TLS applications: a server at one site, clients at the other. Each session is under a key of its own."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Protocol

from appliance.lab import Process, until

SERVER_PORT, CLIENT_PORT, TLS_PORT = 6000, 5000, 8443
FILE_BYTES = 256 << 10


def program() -> str:
    """Raises FileNotFoundError when the package was not compiled."""
    path = Path(str(resources.files("appliance.client"))) / "c" / "qbb-tls"
    if not path.exists():
        raise FileNotFoundError(2, "qbb-tls is not compiled: make install does it", str(path))
    return str(path)


@dataclass(frozen=True)
class Session:
    """One session as its client saw it."""

    key_id: str
    key_s: float  # from asking for the key until it was there
    handshake_s: float
    digest: str


@dataclass
class Outcome:
    """What one run of the client gave."""

    sessions: list[Session] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)  # reasons of the keys service
    failures: list[str] = field(default_factory=list)  # of TLS or the network

    def keys_s(self) -> list[float]:
        return sorted(session.key_s for session in self.sessions)

    def handshakes_s(self) -> list[float]:
        return sorted(session.handshake_s for session in self.sessions)

    @property
    def failed(self) -> int:
        return len(self.refusals) + len(self.failures)

    def add(self, other: Outcome) -> None:
        self.sessions += other.sessions
        self.refusals += other.refusals
        self.failures += other.failures


def percentile(sorted_values: list[float], share: float) -> float:
    """0 when there are none."""
    return sorted_values[min(len(sorted_values) - 1, int(share * len(sorted_values)))] if sorted_values else 0.0


class Client:
    """One run of the client: `count` sessions, `parallel` at a time, with a stock of `prefetch` keys."""

    def __init__(self, process: Process, count: int) -> None:
        self.count = count
        self._process = process
        process.start()

    def done(self) -> int:
        return self._process.printed().count("session ")

    def outcome(self, limit_s: float = 60.0) -> Outcome:
        """Waits for its end."""
        until(lambda: not self._process.running, lambda: f"sessions; so far {self._process.printed()[-300:]}", limit_s)
        outcome = Outcome()
        for line in self._process.printed().splitlines():
            word, _, rest = line.partition(" ")
            if word == "session":
                key_id, key_us, handshake_us, _, digest = rest.split()
                outcome.sessions.append(Session(key_id, int(key_us) / 1e6, int(handshake_us) / 1e6, digest))
            elif word == "refused":
                outcome.refusals.append(rest.partition(" ")[2])
            else:
                outcome.failures.append(line)
        if self._process.said():
            outcome.failures.append(self._process.said().strip())
        return outcome


class Site(Protocol):
    """Where an application runs, and the node that it has keys from: a node of the lab, or a host beside one."""

    name: str
    address: str  # of the node

    @property
    def pfkey(self) -> Path: ...

    def public_address(self) -> str: ...

    def process(self, name: str, command: list[str]) -> Process: ...


class Traffic:
    """A server at one site; clients at another on demand. `name`: under which the server registers in the QKD network
    and the clients find it; without one they know its node and port."""

    def __init__(self, client: Site, server: Site, directory: Path, name: str = "") -> None:
        self._client, self._node, self._name = client, server, name
        self._file = directory / f"file-from-{client.name}"
        self._file.write_bytes(os.urandom(FILE_BYTES))
        self._runs = 0
        words = ["serve", str(server.pfkey), str(SERVER_PORT), server.public_address(), str(TLS_PORT)]
        self._server = server.process("tls-server", [program(), *words, *filter(None, [name])])

    def start(self) -> None:
        self._server.start()
        until(lambda: "ready" in self._server.printed(), lambda: f"the TLS server: {self._server.said()}")

    def begin(self, count: int, parallel: int = 8, prefetch: int = 0) -> Client:
        """A client that is on its way."""
        self._runs += 1
        node, far = self._client, self._node
        words = ["connect", str(node.pfkey), str(CLIENT_PORT), node.public_address()]
        words += [self._name, "0"] if self._name else [far.address, str(SERVER_PORT)]
        words += [far.public_address(), str(TLS_PORT)]
        words += [str(self._file), str(count), str(parallel), str(prefetch)]
        return Client(node.process(f"tls-client-{self._runs}", [program(), *words]), count)

    def run(self, count: int, parallel: int = 8, prefetch: int = 0) -> Outcome:
        return self.begin(count, parallel, prefetch).outcome()

    def server_sessions(self) -> dict[str, str]:
        """SHA-256 of the file by key ID, as the server found it."""
        lines = [line.split() for line in self._server.printed().splitlines() if line.startswith("session ")]
        return {words[1]: words[3] for words in lines}

    def differing(self, outcome: Outcome) -> list[str]:
        """Key IDs whose session the server did not see, or saw with another file."""
        seen = self.server_sessions()
        return [session.key_id for session in outcome.sessions if seen.get(session.key_id) != session.digest]


class Sessions:
    """Sessions that are on their way, half of them opened from each side."""

    def __init__(self, both: Both, count: int, parallel: int, prefetch: int) -> None:
        self.count, self._both = count, both
        shares = count - count // 2, count // 2
        self._clients = [way.begin(share, parallel, prefetch) for way, share in zip(both.ways, shares, strict=True)]

    def done(self) -> int:
        """From that side which has fewer."""
        return min(client.done() for client in self._clients)

    def outcome(self) -> Outcome:
        """Waits for their end. A session whose file is not the same at both ends is a failure."""
        together = Outcome()
        for way, client in zip(self._both.ways, self._clients, strict=True):
            outcome = client.outcome()
            outcome.failures += [f"key {key_id}: the server has another file" for key_id in way.differing(outcome)]
            together.add(outcome)
        return together


class Both:
    """A server and clients at each of two sites. Each server registers as files-SITE."""

    def __init__(self, first: Site, second: Site, directory: Path) -> None:
        self.names = f"files-{first.name}", f"files-{second.name}"
        self.ways = (
            Traffic(first, second, directory, self.names[1]),
            Traffic(second, first, directory, self.names[0]),
        )

    def start(self) -> None:
        for way in self.ways:
            way.start()

    def begin(self, count: int, parallel: int = 4, prefetch: int = 0) -> Sessions:
        return Sessions(self, count, parallel, prefetch)
