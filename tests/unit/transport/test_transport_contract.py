"""The C data plane reads the same packets the same way."""

from __future__ import annotations

import pytest
from transport_pipe import World

from appliance.network.checksum import internet_checksum
from appliance.transport.connection import Connection

native = pytest.importorskip("appliance.native._native", exc_type=ImportError)  # while not built


def busy() -> tuple[World, Connection]:
    world = World(1, loss=0.2)
    world.node(1).endpoint.listen(7)
    connection = world.connect(0, 1, 7)
    for count in (1, 5, 60):
        world.send(connection, count, 36)
        world.run(1)
    connection.close(world.now)
    world.run(10)
    return world, connection


def test_the_clear_part_ends_where_the_data_plane_says() -> None:
    world, _ = busy()
    kinds = set()
    for _, clear, _ in world.history:
        length = int.from_bytes(clear[2:4], "big")
        whole = clear + bytes(length - len(clear))
        assert native.lib.qbb_network_clear(whole, length) == len(clear)
        kinds.add(clear[32])
    assert len(kinds) >= 5


@pytest.mark.parametrize("data", [b"", b"\0\0", b"\xff\xff", b"\1", b"\xff\xff\xff", bytes(range(255))])
def test_checksums_agree(data: bytes) -> None:
    assert native.lib.qbb_checksum(data, len(data), 0) == internet_checksum(data)


def test_sizes_agree() -> None:
    from appliance.network import packet as network
    from appliance.transport import packet

    lib = native.lib
    assert network.MTU_BYTES == lib.QBB_NETWORK_MTU
    assert network.HEADER_BYTES == lib.QBB_NETWORK_HEADER_BYTES
    assert packet.HEADER_BYTES == lib.QBB_TRANSPORT_HEADER_BYTES
    assert network.PROTOCOL_QKDTL == lib.QBB_PROTOCOL_QKDTL
    assert network.PROTOCOL_ICMP == lib.QBB_PROTOCOL_ICMP
    assert network.PROTOCOL_OSPF == lib.QBB_PROTOCOL_OSPF
