"""Requests at the local socket of the keys service, on a connection with keys in stock, against a bare echo server.

One client, one request at a time, the same bytes for both servers and answers of the same length. What the client does
with an answer is not measured: it is the same loop for both.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from uuid import UUID

from appliance.client import Client, Connection
from appliance.keys import pfkey
from appliance.keys.pfkey import Ext, Message, MessageType, SaType
from appliance.lab import until
from tests.bench import echo
from tests.bench.pairing import Pair
from tests.bench.result import Row, turns_of

STOCK = 1024
FROM_STOCK = 240  # less than a quarter of the stock: nothing is refilled while it is asked for
BEYOND = 800
TARGET = 0.5


def request_for_key(connection: Connection, seq: int = 1) -> bytes:
    """GETSPI for the connection's usual key."""
    message = Message(MessageType.GETSPI, SaType.TLS, seq, 1)
    message.extensions = {Ext.CONNECTION: pfkey.Connection(connection.id, 0)}
    return pfkey.build(message)


def key_id(answer: bytes) -> UUID:
    """Raises AssertionError for a refusal."""
    parsed = pfkey.parse(answer)
    assert parsed.errno == 0, f"the keys service refused: {parsed}"
    return UUID(bytes=bytes(parsed.get(Ext.KEY_ID).key_id))


def ask(client: socket.socket, request: bytes, count: int) -> tuple[float, list[bytes]]:
    """Requests a second, and the answers."""
    answers = []
    began = time.perf_counter()
    for _ in range(count):
        client.send(request)
        answers.append(client.recv(echo.MESSAGE_BYTES))
    return count / (time.perf_counter() - began), answers


class Asking:
    """Keys are asked for at one end, and fetched at the other at leisure."""

    def __init__(self, pair: Pair, asking: Client, fetching: Client, connection: Connection) -> None:
        self._pair, self._fetching = pair, fetching
        self.request = request_for_key(connection)
        self.socket = socket.socket(fileno=asking.fileno())
        self.socket.setblocking(True)

    def fill(self) -> None:
        """A full stock. It is refilled once a quarter is gone: if it rests above that, the quarter is taken first."""
        before = -1

        def full() -> bool:
            nonlocal before
            stock = self._pair.stock()
            if STOCK * 3 // 4 < stock < STOCK and stock == before:
                self.fetch(ask(self.socket, self.request, stock - STOCK * 3 // 4)[1])
            before = stock
            return stock >= STOCK

        until(full, lambda: f"the stock is full; it has {before} keys")

    def answer(self) -> bytes:
        _, answers = ask(self.socket, self.request, 1)
        self.fetch(answers)
        return answers[0]

    def fetch(self, answers: list[bytes]) -> None:
        for answer in answers:
            self._fetching.fetch(key_id(answer)).wipe()

    def close(self) -> None:
        self.socket.detach()


def from_stock(quick: bool) -> Iterator[Row]:
    """Requests for keys at pfkey.sock against a SEQPACKET echo server in Python."""
    turns = 5 if quick else 31
    with Pair(rule={"stock_keys": 2 * STOCK}) as pair, pair.connected(prefetch=STOCK) as (asking, fetching, connection):
        asked = Asking(pair, asking, fetching, connection)
        try:
            asked.fill()
            path = str(pair.directory / "echo.sock")
            with echo.seqpacket(asked.answer(), path) as plain:
                yield _compare(f"requests, {FROM_STOCK} keys from stock", asked, plain, FROM_STOCK, turns, TARGET)
                yield _compare(
                    f"requests, {BEYOND} keys, the stock refilled meanwhile", asked, plain, BEYOND, turns, None
                )
        finally:
            asked.close()


def _compare(name: str, asked: Asking, plain: socket.socket, count: int, turns: int, target: float | None) -> Row:
    """The echo server is asked before and after, so that a drift of the machine meets both alike."""
    rates: list[tuple[float, float]] = []
    for _ in range(turns):
        asked.fill()
        before, _ = ask(plain, asked.request, count)
        ours, answers = ask(asked.socket, asked.request, count)
        after, _ = ask(plain, asked.request, count)
        rates.append((ours, 2 / (1 / before + 1 / after)))
        asked.fetch(answers)
    return turns_of(name, rates, "requests/s", echo.NAME, target=target)
