"""The data plane's thread through its Python class: two planes, a UDP channel, control messages, an offer of blocks."""

from __future__ import annotations

import errno
import os
import select
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from appliance.native import blockfile, ffi
from appliance.native.dataplane import ChannelKind, DataPlane, FingerprintShelf, Punt, PuntKind
from appliance.native.forward import Way
from appliance.native.keymem import KeyMemory
from appliance.native.link import Channel, Command, Direction, LinkParams

ADDRESSES = IPv4Address("1.1.1.1"), IPv4Address("1.1.1.2")
LINK_ID = int(ADDRESSES[0]) << 32 | int(ADDRESSES[1])
SLOT_HALF_BYTES = 128
KEY_BYTES = 65536


def params(master: bool, buffer_words: int = 1 << 14) -> LinkParams:
    return LinkParams(LINK_ID, master, buffer_words=buffer_words)


@dataclass
class End:
    plane: DataPlane
    link: int

    def next_punt(self) -> Punt:
        while (punt := self.plane.next_punt()) is None:
            ready, _, _ = select.select([self.plane.punt_fd], [], [], 20)
            assert ready, "no punt came"
            os.read(self.plane.punt_fd, 8)
        return punt

    def control(self, payload: bytes) -> bool:
        return self.plane.submit(self.link, Channel.CONTROL, Command.CONTROL, 6, payload)


@pytest.fixture
def blocks(tmp_path: Path) -> Iterator[int]:
    """A directory with the block `key`."""
    descriptor = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    with KeyMemory.map(KEY_BYTES) as memory:
        ffi.memmove(memory.pointer, os.urandom(KEY_BYTES), KEY_BYTES)
        blockfile.write(descriptor, "key", memory.pointer, KEY_BYTES)
    yield descriptor
    os.close(descriptor)


@pytest.fixture
def ends() -> Iterator[tuple[End, End]]:
    planes = [DataPlane(address) for address in ADDRESSES]
    sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in planes]
    for end in sockets:
        end.bind(("127.0.0.1", 0))
    sockets[0].connect(sockets[1].getsockname())
    sockets[1].connect(sockets[0].getsockname())
    found = []
    for plane, end, master in zip(planes, sockets, (True, False), strict=True):
        plane.start()
        link = plane.add_link(params(master))
        plane.set_channel(link, ChannelKind.UDP, end.detach())
        found.append(End(plane, link))
    yield found[0], found[1]
    for plane in planes:
        plane.stop()


@pytest.fixture
def running(ends: tuple[End, End], blocks: int) -> tuple[End, End]:
    """Both ends in an epoch, with key."""
    with KeyMemory.map(2 * SLOT_HALF_BYTES) as slot:
        ffi.memmove(slot.pointer, os.urandom(2 * SLOT_HALF_BYTES), 2 * SLOT_HALF_BYTES)
        first, second = slot.at(0), slot.at(SLOT_HALF_BYTES)
        ends[0].plane.begin(ends[0].link, 1, first, second)
        ends[1].plane.begin(ends[1].link, 1, second, first)
    for end, direction in ((ends[0], Direction.OUT), (ends[1], Direction.IN)):
        assert end.plane.load(end.link, direction, blocks, "key", KEY_BYTES)
    return ends


def test_control_messages_arrive_verified(running: tuple[End, End]) -> None:
    a, b = running
    assert a.control(b"to be seen")
    punt = b.next_punt()
    assert (punt.kind, punt.link, punt.channel) == (PuntKind.CONTROL, b.link, Channel.CONTROL)
    assert (punt.clear, punt.secret_bytes) == (b"to be seen", 0)
    assert a.plane.progress(a.link)[1] == 2  # the tag's words alone
    assert b.plane.network_drops() == {}


def test_an_offer_carries_fingerprints_that_match_the_same_block_only(running: tuple[End, End], blocks: int) -> None:
    a, b = running
    h, shelf = os.urandom(16), FingerprintShelf()
    named = [("key", KEY_BYTES)]
    assert a.plane.submit_offer(a.link, 7, b"offer", h, blocks, named)
    punt = b.next_punt()
    assert (punt.clear, punt.secret_bytes) == (b"offer", 16)
    fingerprints = shelf.put(punt.pointer, punt.secret_bytes, blocks)
    assert fingerprints is not None
    assert fingerprints.compare(0, h, "key", KEY_BYTES)
    assert not fingerprints.compare(0, bytes(16), "key", KEY_BYTES)
    assert not fingerprints.compare(1, h, "key", KEY_BYTES)
    with pytest.raises(FileNotFoundError, match="other"):
        fingerprints.compare(0, h, "other", KEY_BYTES)
    fingerprints.release()
    assert not fingerprints.compare(0, h, "key", KEY_BYTES)
    with pytest.raises(FileNotFoundError):
        a.plane.submit_offer(a.link, 7, b"offer", h, blocks, [("other", 8)])
    with pytest.raises(OSError) as refused:
        a.plane.submit_offer(a.link, 7, b"offer", h, blocks, named * 100)
    assert refused.value.errno == errno.EMSGSIZE


def test_hellos_pass_without_an_epoch(ends: tuple[End, End]) -> None:
    a, b = ends
    hello = (24).to_bytes(2, "big") + bytes(6) + b"\x03\x00" + bytes(10) + b"hey!"
    a.plane.send_hello(a.link, hello)
    punt = b.next_punt()
    assert (punt.kind, punt.clear, punt.secret_bytes) == (PuntKind.HELLO, hello, 0)


def test_without_epoch_packets_are_lost_and_key_is_refused(ends: tuple[End, End], blocks: int) -> None:
    a, _ = ends
    assert not a.control(b"lost")
    with pytest.raises(OSError, match="block key") as refused:
        a.plane.load(a.link, Direction.OUT, blocks, "key", KEY_BYTES)
    assert refused.value.errno == errno.ENOTCONN


def test_loading_stops_when_the_buffer_is_full(running: tuple[End, End], blocks: int) -> None:
    a, _ = running
    # 14 starter words and the first block leave less than a second block.
    assert not a.plane.load(a.link, Direction.OUT, blocks, "key", KEY_BYTES)
    assert a.plane.progress(a.link)[0] == 14 + KEY_BYTES // 8


WRONG: list[tuple[str, Callable[[End], object]]] = [
    ("statistics of a link that is not there", lambda end: end.plane.stats(7)),
    ("a channel on an eventfd", lambda end: end.plane.set_channel(end.link, ChannelKind.UDP, end.plane.punt_fd)),
    ("a window wider than the buffer", lambda end: end.plane.add_link(params(True, buffer_words=1024))),
    ("a route to a link that is not there", lambda end: end.plane.set_table([Way(0, 0, 7, 1)])),
    ("routes out of order", lambda end: end.plane.set_table([Way(1 << 24, 8, 0, 1), Way(0, 0, 0, 1)])),
]


@pytest.mark.parametrize(("case", "call"), WRONG, ids=[case for case, _ in WRONG])
def test_wrong_calls_are_errors(running: tuple[End, End], case: str, call: Callable[[End], object]) -> None:
    with pytest.raises(OSError):
        call(running[0])
