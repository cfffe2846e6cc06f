"""The classical channel of a link: whom a listener takes for the neighbour, and what is told. All on the loopback."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest

from appliance import config
from appliance.config import LinkConfig
from appliance.native.dataplane import ChannelKind, DataPlane
from appliance.services.linkchannel import LinkChannel
from appliance.services.linkwatch import STRANGERS_NOTE_S
from appliance.services.runtime import Loop

NODE = """
[node]
name = "paris"
address = "1.1.1.1"

[[link]]
name = "vienna"
peer = "1.1.1.2"
listen = "{listen}"
remote = "{remote}"
channel = "{kind}"
"""
UNREACHED_S = 20.0  # of a test that fails


def link(listen: str, remote: str, kind: str = "udp") -> LinkConfig:
    return config.parse(NODE.format(listen=listen, remote=remote, kind=kind)).links[0]


class Plane:
    """Keeps the channels that it is given; the last one is in use."""

    def __init__(self) -> None:
        self.kinds: list[ChannelKind] = []
        self.channel: socket.socket | None = None

    def set_channel(self, link: int, kind: ChannelKind, fd: int) -> None:
        self.close()
        self.kinds.append(kind)
        self.channel = socket.socket(fileno=fd) if fd >= 0 else None

    def close(self) -> None:
        if self.channel is not None:
            self.channel.close()

    def peer(self) -> str:
        assert self.channel is not None
        return str(self.channel.getpeername()[0])


class World:
    """A channel, and a clock that the test advances."""

    def __init__(self) -> None:
        self.time_s = 100.0
        self.loop = Loop(lambda: self.time_s)
        self.plane = Plane()
        self.causes: list[str | None] = []
        self.channels: list[LinkChannel] = []

    def open(self, link: LinkConfig, master: bool = True) -> LinkChannel:
        plane = cast(DataPlane, self.plane)
        channel = LinkChannel(self.loop, plane, 0, link, master, self.causes.append)
        self.channels.append(channel)
        channel.open()
        return channel

    def advance(self, seconds: float) -> None:
        self.time_s += seconds
        self.loop.turn(0)

    def until(self, condition: Callable[[], Any], what: str) -> None:
        end = time.monotonic() + UNREACHED_S
        while not condition():
            assert time.monotonic() < end, f"in vain: {what}; causes {self.causes}"
            self.loop.turn(0.01)

    def idle(self, seconds: float = 0.1) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.loop.turn(0.01)

    def close(self) -> None:
        for channel in self.channels:
            channel.close()
        self.plane.close()


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    made.close()


def free_port(host: str = "127.0.0.1", kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, kind) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def caller(world: World, target: tuple[str, int], source: str) -> Iterator[socket.socket]:
    with socket.create_connection(target, UNREACHED_S, source_address=(source, 0)) as connection:
        world.idle()
        yield connection


@pytest.mark.parametrize(
    ("listen", "remote", "target"),
    [
        ("127.0.0.1", "127.0.0.1", "127.0.0.1"),
        ("[::1]", "[0:0:0:0:0:0:0:1]", "::1"),
        ("[::]", "127.0.0.1", "127.0.0.1"),
        ("[::]", "[::ffff:7f00:1]", "127.0.0.1"),
    ],
)
def test_a_listener_knows_its_neighbour_however_its_address_is_written(
    world: World, listen: str, remote: str, target: str
) -> None:
    port = free_port(listen.strip("[]"))
    world.open(link(f"{listen}:{port}", f"{remote}:{port + 1}", "tcp"), master=False)
    with caller(world, (target, port), target):
        assert world.plane.kinds == [ChannelKind.TCP]
        assert world.causes == [None]


def test_strangers_are_refused_counted_and_told_once_a_minute(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    port = free_port()
    channel = world.open(link(f"127.0.0.1:{port}", "127.0.0.9:7301", "tcp"), master=False)
    for _ in range(3):
        with caller(world, ("127.0.0.1", port), "127.0.0.8") as stranger:
            assert stranger.recv(1) == b""
    assert (channel.strangers.refused, world.plane.kinds) == (3, [])
    said = capsys.readouterr().err
    assert said.count("stranger-refused") == 1 and "1, the last from 127.0.0.8; the neighbour is 127.0.0.9" in said
    world.advance(STRANGERS_NOTE_S)
    with caller(world, ("127.0.0.1", port), "127.0.0.7"):
        assert "3, the last from 127.0.0.7" in capsys.readouterr().err


def test_a_refused_connection_is_told_in_words(world: World) -> None:
    port = free_port("127.0.0.9")
    world.open(link("127.0.0.1:7301", f"127.0.0.9:{port}", "tcp"))
    world.until(lambda: world.causes, "it is told")
    assert world.causes[0] is not None and "Connection refused" in world.causes[0]
