"""Two applications that use keys: one at paris asks, the one at vienna fetches, and what they got is compared."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Self

from appliance.client import Client, Connection, KeyServiceError
from appliance.lab import Network, until
from appliance.lab.waiting import LIMIT_S

SERVER_PORT, CLIENT_PORT = 6000, 5000


class Talk:
    """A connection from paris to vienna."""

    def __init__(
        self,
        network: Network,
        prefetch: int = 0,
        port: int = CLIENT_PORT,
        timeout_s: float = 20.0,
        server_port: int = SERVER_PORT,
    ) -> None:
        paris, vienna = network.node("paris"), network.node("vienna")
        self.server: Client = vienna.client(timeout_s)
        self.client: Client = paris.client(timeout_s)
        try:
            self.server.register(server_port, vienna.public_address())
            self.client.register(port, paris.public_address())
            self.connection: Connection = self.client.connect(
                vienna.address, server_port, local_port=port, prefetch=prefetch
            )
        except BaseException:
            self.__exit__()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()
        self.server.close()

    def key(self, length_bytes: int = 0) -> bytes:
        """One key, equal at both ends."""
        with self.connection.key(length_bytes) as asked, self.server.fetch(asked.id) as fetched:
            assert asked.secret == fetched.secret
            return bytes(asked.secret)

    def keys(self, count: int) -> None:
        """All of them different."""
        assert len({self.key() for _ in range(count)}) == count


class Flow(threading.Thread):
    """Applications that ask for keys all the time, and connect again after every error."""

    def __init__(self, network: Network) -> None:
        super().__init__(daemon=True)
        self.good = self.wrong = self.connections = 0
        self.errors: list[str] = []
        self._network = network
        self._stopping = threading.Event()

    def run(self) -> None:
        while not self._stopping.is_set():
            try:
                with Talk(self._network, timeout_s=3.0) as talk:
                    self.connections += 1
                    while not self._stopping.is_set():
                        self._one(talk)
            except OSError as error:
                self.errors.append(str(error))
                self._stopping.wait(0.1)

    def _one(self, talk: Talk) -> None:
        """An asker whose far end lost the key hears of it when the key is fetched; a wrong key is never right."""
        with talk.connection.key() as asked, talk.server.fetch(asked.id) as fetched:
            if asked.secret == fetched.secret:
                self.good += 1
            else:
                self.wrong += 1

    def wait(self, more: int = 5, limit_s: float = LIMIT_S) -> None:
        """Until so many further keys were equal at both ends."""
        wanted = self.good + more
        until(lambda: self.good >= wanted, lambda: f"{more} keys; errors {self.errors[-3:]}", limit_s)
        assert self.wrong == 0

    def stop(self) -> None:
        self._stopping.set()
        self.join(30)
        assert not self.is_alive()
        assert self.wrong == 0


def refusal(action: Callable[[], object]) -> KeyServiceError:
    """The error that the action must end with."""
    try:
        action()
    except KeyServiceError as error:
        return error
    raise AssertionError("it was not refused")


def refused_with(action: Callable[[], object], words: str, limit_s: float = LIMIT_S) -> KeyServiceError:
    """The refusal that names the words, once it comes: an outage shows after a second."""

    def found() -> KeyServiceError | None:
        try:
            action()
        except KeyServiceError as error:
            seen.append(str(error))
            return error if words in str(error) else None
        return None

    seen: list[str] = []
    error = until(found, lambda: f"a refusal that says {words!r}; seen {seen[-3:]}", limit_s)
    assert error is not None
    return error
