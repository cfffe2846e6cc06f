"""Delivery to a data plane that is slow to read: what waits in the queue is the block, whatever its device did."""

from __future__ import annotations

import array
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from appliance.devices.block import Block, expand
from appliance.native import blockfile, ffi
from appliance.services.control import listen
from appliance.services.delivery import Delivery
from appliance.services.runtime import Loop

LENGTH = 4096


class SlowReader:
    """A data plane's end of device.sock that reads when told to, and takes blocks into files as the data plane does."""

    def __init__(self, folder: Path) -> None:
        self.loop = Loop()
        self.listener = listen(folder / "device.sock", socket.SOCK_SEQPACKET, 0o600)
        self.delivery = Delivery(self.loop, folder / "device.sock", "line", "dev", 16, lambda: None)
        (folder / "blocks").mkdir()
        self.folder = folder / "blocks"
        self.store = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
        self.taken = 0
        self.delivery.start()
        self.connection = self.accept()

    def accept(self) -> socket.socket:
        connection, _ = self.listener.accept()
        assert self.read(connection)["type"] == "hello"
        self.answer({"type": "ok"}, connection)
        return connection

    def turn(self) -> None:
        for _ in range(3):
            self.loop.turn(0.01)

    def read(self, connection: socket.socket) -> dict[str, Any]:
        """The next message; a block's bytes are then in `content`."""
        data, ancillary, _, _ = connection.recvmsg(65536, socket.CMSG_SPACE(4))
        message: dict[str, Any] = json.loads(data)
        fds = array.array("i")
        for _, _, packed in ancillary:
            fds.frombytes(packed)
        for fd in fds:
            self.taken += 1
            blockfile.accept(self.store, str(self.taken), fd, message["length_bytes"])
            os.close(fd)
        return message

    def content(self) -> bytes:
        return (self.folder / str(self.taken)).read_bytes()

    def answer(self, message: dict[str, Any], connection: socket.socket | None = None) -> None:
        (connection or self.connection).send(json.dumps(message).encode())
        self.turn()

    def close(self) -> None:
        self.delivery.stop()
        self.connection.close()
        self.listener.close()
        os.close(self.store)


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[SlowReader]:
    made = SlowReader(tmp_path)
    yield made
    made.close()


def block(id: int) -> tuple[Block, bytes]:
    made = expand(id, LENGTH, 0.03, 0, bytearray([id] * 32))
    return made, bytes(ffi.buffer(made.memory.at(0), LENGTH))


def test_a_block_in_transit_is_whole_after_its_device_stopped(reader: SlowReader) -> None:
    made, whole = block(1)
    reader.delivery.offer(made)
    reader.delivery.stop()
    assert reader.read(reader.connection)["id"] == 1
    assert reader.content() == whole


def test_a_message_of_a_lost_connection_is_whole_after_the_block_was_answered(reader: SlowReader) -> None:
    """The data plane reads the old connection's queue last."""
    made, whole = block(1)
    reader.delivery.offer(made)
    old = reader.connection
    reader.delivery._lost("a test")
    reader.loop.turn(0.5)
    reader.connection = reader.accept()
    assert reader.read(reader.connection)["id"] == 1
    reader.answer({"type": "accepted", "id": 1})
    assert reader.delivery.pending == 0
    assert reader.read(old)["id"] == 1
    assert reader.content() == whole
    old.close()


@pytest.mark.parametrize("kind", ["accepted", "refused"])
def test_an_answered_block_is_wiped(reader: SlowReader, kind: str) -> None:
    made, _ = block(1)
    kept = os.dup(made.fd)
    reader.delivery.offer(made)
    reader.read(reader.connection)
    reader.answer({"type": kind, "id": 1})
    with pytest.raises(OSError, match="Bad message"):
        blockfile.accept(reader.store, "kept", kept, LENGTH)
    os.close(kept)


def test_a_block_that_was_never_sent_is_wiped_when_the_device_stops(tmp_path: Path) -> None:
    delivery = Delivery(Loop(), tmp_path / "nobody", "line", "dev", 16, lambda: None)
    made, _ = block(1)
    kept = os.dup(made.fd)
    delivery.offer(made)
    delivery.stop()
    store = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    with pytest.raises(OSError, match="Bad message"):
        blockfile.accept(store, "kept", kept, LENGTH)
    os.close(store)
    os.close(kept)
