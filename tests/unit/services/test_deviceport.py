"""device.sock on the real store and C data plane: blocks accepted once and durably, alarms, and broken devices."""

from __future__ import annotations

import json
import os
import random
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from appliance import config
from appliance.native import linksecret
from appliance.native.dataplane import DataPlane
from appliance.services.deviceport import DevicePort
from appliance.services.linkunit import LinkUnit
from appliance.services.runtime import Loop

BLOCK = bytes(range(256)) * 16


class Bench:
    """One node with one link, and a device's end of the socket."""

    def __init__(self, folder: Path) -> None:
        secret = folder / "secret"
        linksecret.make(secret, 8192)
        text = f"""
            [node]
            name = "paris"
            address = "1.1.1.1"
            state_directory = "{folder}/state"
            runtime_directory = "{folder}"
            [[link]]
            name = "vienna"
            peer = "1.1.1.2"
            listen = "127.0.0.1:7301"
            remote = "127.0.0.1:7302"
            secret = "{secret}"
            [[link.device]]
            name = "d1"
            fibre = "unix:{folder}/fibre"
        """
        self.node = config.parse(text)
        self.loop = Loop()
        self.plane = DataPlane(self.node.address)
        self.unit = LinkUnit(self.loop, self.plane, self.node, self.node.links[0], secret, lambda: None)
        self.unit.start()
        self.port = DevicePort(self.loop, self.node.device_socket, {"vienna": self.unit})

    def connect(self) -> socket.socket:
        device = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        device.connect(str(self.node.device_socket))
        device.settimeout(5)
        return device

    def turn(self) -> None:
        for _ in range(3):
            self.loop.turn(0.01)

    def ask(self, device: socket.socket, message: Any, fds: tuple[int, ...] = ()) -> dict[str, Any]:
        data = message if isinstance(message, bytes) else json.dumps(message).encode()
        socket.send_fds(device, [data], list(fds))
        self.turn()
        answer: dict[str, Any] = json.loads(device.recv(4096))
        return answer

    def offer(self, device: socket.socket, block_id: Any, content: bytes, length: Any = None) -> dict[str, Any]:
        fd = os.memfd_create("block", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.write(fd, content)
            message = {"type": "block", "id": block_id, "length_bytes": len(content) if length is None else length}
            return self.ask(device, message, (fd,))
        finally:
            os.close(fd)

    def close(self) -> None:
        self.unit.close()
        self.plane.stop()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.close()


def hello(bench: Bench) -> socket.socket:
    device = bench.connect()
    assert bench.ask(device, {"type": "hello", "link": "vienna", "device": "d1"}) == {"type": "ok"}
    return device


def files(bench: Bench) -> dict[str, bytes]:
    folder = bench.unit.store.directory / "blocks"
    return {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.startswith("ffff")}


def test_a_block_is_on_disk_before_it_is_accepted_and_is_taken_once(bench: Bench) -> None:
    device = hello(bench)
    assert bench.offer(device, 7, BLOCK) == {"type": "accepted", "id": 7}
    assert files(bench) == {"0000-0000000000000007.key": BLOCK}
    assert bench.offer(device, 7, BLOCK[::-1])["type"] == "accepted"  # delivered again after a reconnect
    assert files(bench) == {"0000-0000000000000007.key": BLOCK}


@pytest.mark.parametrize("content", [bytes(4096), BLOCK[:2048] + bytes(2048)], ids=["wiped", "half wiped"])
def test_a_block_of_zeros_is_refused_for_good(bench: Bench, content: bytes) -> None:
    answer = bench.offer(hello(bench), 7, content)
    assert answer["type"] == "refused" and not answer["retry"] and "zeros" in answer["reason"]
    assert files(bench) == {}


@pytest.mark.parametrize(
    ("block_id", "content", "length"),
    [(1, b"x" * 100, None), (1, BLOCK, 8192), (1, b"", None), (1, BLOCK, -8), (1, BLOCK, 1 << 40), (1, BLOCK, "8"),
     (-1, BLOCK, None), (2**64, BLOCK, None), ("1", BLOCK, None), (None, BLOCK, None)],
)  # fmt: skip
def test_a_wrong_block_is_refused_with_a_reason_and_leaves_nothing(
    bench: Bench, block_id: Any, content: bytes, length: Any
) -> None:
    answer = bench.offer(hello(bench), block_id, content, length)
    assert answer["type"] == "refused" and answer["reason"]
    assert files(bench) == {}


@pytest.mark.parametrize(
    "message",
    [b"", b"\xff\xfe", b"[]", b"{}", b"null", b"{" * 3000, {"type": "block", "id": 1}, {"type": "hello"},
     {"type": "hello", "link": ["vienna"], "device": {"a": 1}}, {"type": "hello", "link": "vienna", "device": ["d1"]},
     {"type": "hello", "link": "rome", "device": "d1"}, {"type": ["x"]}],
)  # fmt: skip
def test_a_stranger_is_refused_and_the_port_lives(bench: Bench, message: Any) -> None:
    stranger = bench.connect()
    if message == b"":
        stranger.close()
        bench.turn()
    else:
        assert bench.ask(stranger, message)["type"] == "refused"
    assert bench.offer(hello(bench), 1, BLOCK)["type"] == "accepted"


def test_alarms_are_kept_by_cause_and_forgotten_with_the_connection(bench: Bench) -> None:
    device = hello(bench)
    for cause in ("qber", "no-light"):
        device.send(json.dumps({"type": "alarm", "on": True, "cause": cause, "qber": 0.2}).encode())
    device.send(json.dumps({"type": "alarm", "on": False, "cause": "no-light"}).encode())
    bench.turn()
    assert bench.unit.devices["d1"].alarm == "qber"
    assert list(bench.unit.machine.alarms) == ["d1"]
    device.close()
    bench.turn()
    hello(bench)
    assert bench.unit.devices["d1"].alarm is None and bench.unit.machine.alarms == {}


def test_status_takes_numbers_only(bench: Bench) -> None:
    device = hello(bench)
    device.send(json.dumps({"type": "status", "qber": "much", "rate_bps": 5.0, "more": [1]}).encode())
    bench.turn()
    assert bench.unit.devices["d1"].status == {"rate_bps": 5.0}


def test_any_bytes_are_answered_or_ignored_but_never_break_the_port(bench: Bench) -> None:
    source = random.Random(20)
    device = hello(bench)
    words = [b'"type"', b'"block"', b'"id"', b":", b",", b"{", b"}", b"1", b"null", b"[", b'"alarm"', b'"on"', b"true"]
    for _ in range(300):
        made = b"".join(source.choice(words) for _ in range(source.randrange(1, 14)))
        device.send(made if source.random() < 0.7 else source.randbytes(source.randrange(1, 60)))
        bench.turn()
    device.close()
    assert bench.offer(hello(bench), 1, BLOCK)["type"] == "accepted"
