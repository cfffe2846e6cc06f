"""Applications that use keys, each for a while between one pair of nodes and then between another. What both ends get
is compared, and no key may come twice."""

from __future__ import annotations

import hashlib
import re
import threading
from collections import Counter
from random import Random

from appliance.client import Client, KeyServiceError

from .lab import Lab

SERVER_PORT, FIRST_PORT = 6000, 20_000
PAUSE_S = 0.05  # between two keys of a pair
AFTER_ERROR_S = 0.5
SHORTEST_S, LONGEST_S = 5.0, 40.0
TIMEOUT_S = 12.0  # longer than the keys service itself waits


class Pair(threading.Thread):
    """One application at each end of a pair of nodes at a time."""

    def __init__(self, lab: Lab, number: int, seed: int) -> None:
        super().__init__(daemon=True)
        self.keys = self.wrong = self.twice = self.connections = self.broken = 0
        self.errors: Counter[str] = Counter()
        self.between = ("", "")
        self.failure = ""
        self._lab, self._number, self._random = lab, number, Random(seed)
        self._digests: set[bytes] = set()
        self._stopping = threading.Event()

    def stop(self) -> None:
        self._stopping.set()

    def run(self) -> None:
        try:
            while not self._stopping.is_set():
                self._between(*self._random.sample(self._lab.nodes, 2), self._random.uniform(SHORTEST_S, LONGEST_S))
        except Exception as error:  # the thread's last word; the run asks for it
            self.failure = f"a pair of applications ended: {error!r}"

    def _between(self, near: str, far: str, duration_s: float) -> None:
        """Connections from near to far for so long; another after each error."""
        self.between = near, far
        over = threading.Event()
        timer = threading.Timer(duration_s, over.set)
        timer.daemon = True
        timer.start()
        while not over.is_set() and not self._stopping.is_set():
            try:
                with self._lab.client(far, TIMEOUT_S) as server, self._lab.client(near, TIMEOUT_S) as asker:
                    self._talk(server, asker, far, over)
            except OSError as error:
                self.broken += 1
                self.errors[_kind(error)] += 1
                self._stopping.wait(AFTER_ERROR_S)
        timer.cancel()

    def _talk(self, server: Client, asker: Client, far: str, over: threading.Event) -> None:
        port = FIRST_PORT + self._number
        server.register(SERVER_PORT + self._number, "127.0.0.1")
        asker.register(port, "127.0.0.1")
        address = self._lab.configurations[far].address
        prefetch = self._random.choice((0, 0, 8))
        connection = asker.connect(address, SERVER_PORT + self._number, local_port=port, prefetch=prefetch)
        self.connections += 1
        while not over.is_set() and not self._stopping.is_set():
            with connection.key() as asked, server.fetch(asked.id) as fetched:
                self._compare(asked.secret, fetched.secret)
            self._stopping.wait(PAUSE_S)

    def _compare(self, asked: bytearray, fetched: bytearray) -> None:
        digest = hashlib.sha256(asked).digest()[:12]
        self.wrong += asked != fetched
        self.twice += digest in self._digests
        self._digests.add(digest)
        self.keys += 1


def _kind(error: OSError) -> str:
    """Its words, without numbers and names that differ each time."""
    words = (error.strerror or str(error)) if isinstance(error, KeyServiceError) else f"{type(error).__name__}"
    return re.sub(r"\b(n\d+(-n\d+)?|[0-9a-f]{8}-[0-9a-f-]+|\d+(\.\d+)*)\b", "#", words)
