"""A connection to another unit's socket, and what becomes of it when that unit ends."""

from __future__ import annotations

import socket
from pathlib import Path

from appliance.services.control import listen
from appliance.services.runtime import Loop
from appliance.services.unitsocket import UnitSocket

EVERY_S = 0.5


class Bench:
    def __init__(self, folder: Path) -> None:
        self.now_s = 0.0
        self.loop = Loop(lambda: self.now_s)
        self.path = folder / "unit.sock"
        self.began: list[socket.socket] = []
        self.unit = UnitSocket(self.loop, self.path, EVERY_S, self.began.append)

    def listen(self) -> socket.socket:
        return listen(self.path, socket.SOCK_SEQPACKET, 0o600)

    def pass_s(self, seconds: float) -> None:
        self.now_s += seconds
        self.loop.turn(0)


def test_it_is_tried_by_the_clock_until_it_answers(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.unit.keep()
    assert bench.unit.cause == "No such file or directory"
    with bench.listen():
        bench.pass_s(EVERY_S / 2)
        assert bench.unit.socket is None
        bench.pass_s(EVERY_S / 2)
        assert bench.began == [bench.unit.socket] and bench.unit.cause == ""
        bench.unit.close("it said so")
        assert bench.unit.cause == "it said so"
        bench.pass_s(EVERY_S)
        assert bench.unit.socket is None, "nobody asked for another"
        bench.unit.again()
        bench.pass_s(EVERY_S)
        assert len(bench.began) == 2
        bench.unit.close()


def test_who_waits_has_it_at_once_and_only_one(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.unit.keep()
    with bench.listen():
        for _ in range(3):
            bench.unit.attempt()
        bench.pass_s(EVERY_S)
        assert len(bench.began) == 1
        bench.unit.close()


def test_a_connection_that_breaks_as_it_begins_is_tried_again_once(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    begun = []

    def breaks(connection: socket.socket) -> None:
        begun.append(connection)
        bench.unit.close("broken")
        bench.unit.again()

    bench.unit = UnitSocket(bench.loop, bench.path, EVERY_S, breaks)
    with bench.listen():
        bench.unit.keep()
        for count in range(1, 4):
            assert len(begun) == count
            bench.pass_s(EVERY_S)
