"""Connections that must live through whatever happens to the network between their ends."""

from __future__ import annotations

import threading
import time
from typing import Self

from appliance.client import KeyServiceError
from appliance.lab import Network, until

from .talk import Talk

AGAIN_S, CONNECT_S = 0.1, 120.0
FIRST_PORT = 5100


class Steady(threading.Thread):
    """One connection from paris to vienna, which is never made anew. It asks on when a key is refused, and ends only
    when it is told that the connection has ended."""

    def __init__(self, network: Network, number: int = 0, length_bytes: int = 0) -> None:
        super().__init__(daemon=True)
        self.good = self.wrong = 0
        self.longest_gap_s = 0.0
        self.refusals: list[str] = []
        self.ended = ""
        self._network, self._port, self._length_bytes = network, FIRST_PORT + number, length_bytes
        self._stopping = threading.Event()

    def __enter__(self) -> Self:
        self.start()
        self.more()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self.join(60)
        assert not self.is_alive()
        assert self.wrong == 0

    def run(self) -> None:
        try:
            with until(self._talk, lambda: f"a connection; {self.refusals[-3:]}", CONNECT_S) as talk:
                last_s = time.monotonic()
                while not self._stopping.is_set():
                    self._one(talk)
                    now_s = time.monotonic()
                    self.longest_gap_s, last_s = max(self.longest_gap_s, now_s - last_s), now_s
        except OSError as error:
            self.ended = str(error)

    def _talk(self) -> Talk | None:
        """The keys service hears of a route a moment after the data plane."""
        try:
            return Talk(self._network, port=self._port, timeout_s=30.0, server_port=self._port + 1000)
        except KeyServiceError as error:
            self.refusals.append(str(error))
            return None

    def _one(self, talk: Talk) -> None:
        """Until one key is there. Raises OSError when the connection has ended."""
        while not self._stopping.is_set():
            try:
                with talk.connection.key(self._length_bytes) as asked, talk.server.fetch(asked.id) as fetched:
                    self.good += asked.secret == fetched.secret
                    self.wrong += asked.secret != fetched.secret
                    return
            except KeyServiceError as error:
                if "ended" in str(error):
                    raise
                self.refusals.append(str(error))
                self._stopping.wait(AGAIN_S)

    def more(self, count: int = 5, limit_s: float = 120.0) -> None:
        """Until so many further keys were equal at both ends."""
        wanted = self.good + count
        until(lambda: self.good >= wanted or self.ended, lambda: f"{count} keys; {self.refusals[-3:]}", limit_s)
        assert not self.ended, self.ended
        assert self.wrong == 0
