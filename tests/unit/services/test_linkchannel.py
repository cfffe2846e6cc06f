"""The classical channel of a link: whom a listener takes for the neighbour, and ends that are given by name. All on the
loopback; names are what a test says."""

from __future__ import annotations

import contextlib
import gc
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from appliance import config
from appliance.config import LinkConfig
from appliance.native.dataplane import ChannelKind, DataPlane
from appliance.services.hostnames import Lookup
from appliance.services.linkchannel import PATIENCE_S, RETRY_S, LinkChannel
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


class Names:
    """Name servers: what they answer, when they are let."""

    def __init__(self, *answer: str) -> None:
        self.answer: tuple[str, ...] | OSError = answer
        self.asked: list[tuple[str, socket.AddressFamily]] = []
        self.speak = threading.Event()
        self.speak.set()

    def __call__(self, name: str, family: socket.AddressFamily) -> tuple[str, ...]:
        self.asked.append((name, family))
        assert self.speak.wait(UNREACHED_S)
        if isinstance(self.answer, OSError):
            raise self.answer
        return self.answer


def nobody(name: str, family: socket.AddressFamily) -> tuple[str, ...]:
    raise AssertionError(f"{name} needs no name server")


class World:
    """A channel, and a clock that the test advances."""

    def __init__(self) -> None:
        self.time_s = 100.0
        self.loop = Loop(lambda: self.time_s)
        self.plane = Plane()
        self.causes: list[str | None] = []
        self.channels: list[LinkChannel] = []

    def open(self, link: LinkConfig, lookup: Lookup = nobody, master: bool = True) -> LinkChannel:
        plane = cast(DataPlane, self.plane)
        channel = LinkChannel(self.loop, plane, 0, link, master, self.causes.append, lookup)
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


# Whom a listener takes -----------------------------------------------------------------------------------------------


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


def test_a_listener_whose_neighbour_has_a_name(world: World) -> None:
    port, names = free_port(), Names("127.0.0.8", "127.0.0.9")
    channel = world.open(link(f"127.0.0.1:{port}", "vienna.example:7301", "tcp"), names, master=False)
    world.until(lambda: names.asked and channel._found, "the name is resolved")
    for address in ("127.0.0.9", "127.0.0.8"):
        with caller(world, ("127.0.0.1", port), address):
            assert world.plane.channel is not None and world.plane.peer() == address
    assert (len(names.asked), channel.strangers.refused) == (1, 0)


def test_a_neighbour_that_moved_reaches_a_listener_when_it_tries_again(world: World) -> None:
    port, names = free_port(), Names("127.0.0.8")
    channel = world.open(link(f"127.0.0.1:{port}", "vienna.example:7301", "tcp"), names, master=False)
    world.until(lambda: channel._found, "the name is resolved")
    names.answer = ("127.0.0.9",)
    world.advance(RETRY_S)
    with caller(world, ("127.0.0.1", port), "127.0.0.9"):
        assert channel.strangers.refused == 1
    world.until(lambda: len(names.asked) == 2 and channel._question is None, "the name is asked for again")
    with caller(world, ("127.0.0.1", port), "127.0.0.9"):
        assert world.plane.peer() == "127.0.0.9"


def test_strangers_make_a_listener_ask_for_names_once_a_second_at_most(world: World) -> None:
    port, names = free_port(), Names("127.0.0.8")
    channel = world.open(link(f"127.0.0.1:{port}", "vienna.example:7301", "tcp"), names, master=False)
    world.until(lambda: channel._found, "the name is resolved")
    for _ in range(3):
        with caller(world, ("127.0.0.1", port), "127.0.0.7"):
            pass
    assert (channel.strangers.refused, len(names.asked)) == (3, 1)


# Names ---------------------------------------------------------------------------------------------------------------


def test_addresses_are_used_at_once_and_no_thread_is_made(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading, "Thread", nobody)
    world.open(link(f"127.0.0.1:{free_port(kind=socket.SOCK_DGRAM)}", "127.0.0.9:7301"))
    assert (world.causes, world.plane.peer()) == ([None], "127.0.0.9")


def test_a_name_is_resolved_for_the_family_of_listen(world: World) -> None:
    names = Names("::1")
    world.open(link(f"[::1]:{free_port('::1', socket.SOCK_DGRAM)}", "vienna.example:7301"), names)
    world.until(lambda: world.causes, "the channel opens")
    assert names.asked == [("vienna.example", socket.AF_INET6)]
    assert (world.causes, world.plane.peer()) == ([None], "::1")


def test_a_listen_that_is_a_name(world: World) -> None:
    names = Names("127.0.0.9")
    world.open(link(f"paris.example:{free_port('127.0.0.9', socket.SOCK_DGRAM)}", "127.0.0.8:7301"), names)
    world.until(lambda: world.causes, "the channel opens")
    assert world.plane.channel is not None and world.plane.channel.getsockname()[0] == "127.0.0.9"


def test_silent_name_servers_hold_up_nothing_and_are_told(world: World) -> None:
    names, fired = Names("127.0.0.9"), []
    names.speak.clear()
    world.loop.after(1, lambda: fired.append(True))
    channel = world.open(link(f"127.0.0.1:{free_port(kind=socket.SOCK_DGRAM)}", "vienna.example:7301"), names)
    world.advance(1)
    assert fired and world.causes == []
    world.advance(PATIENCE_S)
    assert world.causes == ["name vienna.example is not resolved: no answer within 5 s"]
    channel.open()
    world.idle()
    assert len(names.asked) == 1, "one question at a time"
    names.speak.set()
    world.until(lambda: world.causes[1:], "an answer that is late is an answer")
    assert (world.causes[1:], world.plane.peer()) == ([None], "127.0.0.9")


def test_a_name_that_is_not_known_is_told_and_tried_again(world: World) -> None:
    names = Names()
    names.answer = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    world.open(link(f"127.0.0.1:{free_port(kind=socket.SOCK_DGRAM)}", "vienna.example:7301"), names)
    world.until(lambda: world.causes, "it is told")
    assert world.causes == ["name vienna.example is not resolved: Name or service not known"]
    names.speak.clear()
    world.advance(RETRY_S)
    world.advance(PATIENCE_S)
    assert len(world.causes) == 1, "no second story while the first one stands"
    names.answer = ("127.0.0.9",)
    names.speak.set()
    world.until(lambda: world.causes[1:], "the channel opens")
    assert world.causes[1:] == [None]


def test_without_a_thread_it_is_tried_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", full)
        world.open(link(f"127.0.0.1:{free_port(kind=socket.SOCK_DGRAM)}", "vienna.example:7301"), Names("127.0.0.9"))
        world.loop.turn(0)
    assert world.causes == ["name vienna.example is not resolved: no thread can be started"]
    world.advance(RETRY_S)
    world.until(lambda: world.causes[1:], "the channel opens")


def test_who_is_closed_hears_no_answer(world: World) -> None:
    names = Names("127.0.0.9")
    names.speak.clear()
    channel = world.open(link("127.0.0.1:7301", "vienna.example:7301"), names)
    world.until(lambda: names.asked, "it is asked")
    channel.close()
    world.channels.clear()
    names.speak.set()
    world.idle()
    world.advance(PATIENCE_S)
    assert (world.causes, world.plane.kinds) == ([], [])


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_threads_leave_no_descriptors(world: World) -> None:
    names = Names("127.0.0.9")
    port = free_port(kind=socket.SOCK_DGRAM)
    channel = world.open(link(f"127.0.0.1:{port}", "vienna.example:7301"), names)
    world.until(lambda: world.causes, "the channel opens")
    gc.collect()  # those of earlier tests, which would go meanwhile
    before = descriptors()
    for count in range(2, 12):
        channel.look(silent=True)
        world.until(lambda count=count: len(names.asked) == count and channel._question is None, "it is asked")
    assert descriptors() == before


# A neighbour that moves ----------------------------------------------------------------------------------------------


def test_a_silent_neighbour_is_found_where_its_name_is_now(world: World) -> None:
    names = Names("127.0.0.8")
    port = free_port(kind=socket.SOCK_DGRAM)
    channel = world.open(link(f"127.0.0.1:{port}", "vienna.example:7301"), names)
    world.until(lambda: world.causes, "the channel opens")
    channel.look(silent=False)
    world.idle()
    assert len(names.asked) == 1
    names.answer = ("127.0.0.9", "127.0.0.8")
    channel.look(silent=True)
    world.until(lambda: len(names.asked) == 2 and channel._question is None, "it is asked for again")
    assert world.plane.kinds == [ChannelKind.UDP], "its address is still among those of the name"
    names.answer = OSError(0, "no name server answers")
    channel.look(silent=True)
    world.until(lambda: len(names.asked) == 3 and channel._question is None, "it is asked for again")
    assert world.causes == [None], "the old address may still be right"
    names.answer = ("127.0.0.9",)
    names.speak.clear()
    channel.look(silent=True)
    channel.look(silent=False)
    names.speak.set()
    world.until(lambda: channel._question is None, "it is asked for again")
    assert world.causes == [None], "it was heard of meanwhile"
    channel.look(silent=True)
    world.until(lambda: world.causes[1:], "it is found elsewhere")
    assert world.causes[1:] == ["vienna.example is at 127.0.0.9 now and no longer at 127.0.0.8"]
    channel.look(silent=True)
    world.advance(RETRY_S)
    world.until(lambda: world.causes[2:], "the channel opens")
    assert world.plane.kinds == [ChannelKind.UDP, ChannelKind.NONE, ChannelKind.UDP]
    assert world.plane.peer() == "127.0.0.9"
    assert world.plane.channel is not None and world.plane.channel.getsockname() == ("127.0.0.1", port)


def test_a_silent_neighbour_with_an_address_is_left_alone(world: World) -> None:
    channel = world.open(link(f"127.0.0.1:{free_port(kind=socket.SOCK_DGRAM)}", "127.0.0.9:7301"))
    channel.look(silent=True)
    world.idle()
    assert world.plane.kinds == [ChannelKind.UDP]


def test_a_tcp_connection_goes_where_the_name_is_now(world: World) -> None:
    with socket.create_server(("127.0.0.8", 0)) as old, socket.create_server(("127.0.0.9", old.getsockname()[1])):
        names = Names("127.0.0.8")
        channel = world.open(link("127.0.0.1:7301", f"vienna.example:{old.getsockname()[1]}", "tcp"), names)
        world.until(lambda: world.causes, "it connects")
        assert world.plane.peer() == "127.0.0.8"
        names.answer = ("127.0.0.9",)
        channel.lost()
        world.advance(RETRY_S)
        world.until(lambda: world.causes[-1] is None, "it connects again")
        assert world.plane.peer() == "127.0.0.9"


def test_a_tcp_connection_that_is_silent_is_given_up_for_a_new_address(world: World) -> None:
    with socket.create_server(("127.0.0.8", 0)) as old, socket.create_server(("127.0.0.9", old.getsockname()[1])):
        names = Names("127.0.0.8")
        channel = world.open(link("127.0.0.1:7301", f"vienna.example:{old.getsockname()[1]}", "tcp"), names)
        world.until(lambda: world.causes, "it connects")
        names.answer = ("127.0.0.9",)
        channel.look(silent=True)
        world.until(lambda: world.causes[1:], "it is found elsewhere")
        world.advance(RETRY_S)
        world.until(lambda: world.causes[2:], "it connects")
        assert world.plane.kinds == [ChannelKind.TCP, ChannelKind.NONE, ChannelKind.TCP]
        assert world.plane.peer() == "127.0.0.9"


def test_a_refused_connection_is_told_in_words(world: World) -> None:
    port = free_port("127.0.0.9")
    world.open(link("127.0.0.1:7301", f"127.0.0.9:{port}", "tcp"))
    world.until(lambda: world.causes, "it is told")
    assert world.causes[0] is not None and "Connection refused" in world.causes[0]
