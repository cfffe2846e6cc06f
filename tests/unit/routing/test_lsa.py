"""LSAs, the database, the gate and the messages of ports: what is read from bytes; any bytes are read or refused."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from routing_world import POINT_TO_POINT, STUB, address, router_lsa, summary_lsa, whole

from appliance.network import packet as network
from appliance.network.errors import RemoteProtocolError
from appliance.routing import gate, lsa, port, vty
from appliance.routing.lsdb import Change, Database
from appliance.routing.port import Assembly, Row

ROUTER = address("1.1.1.1")


def test_a_router_lsa_byte_by_byte() -> None:
    """RFC 2328 A.4.2: border flag, one point-to-point link at cost 6, one stub network at cost 1."""
    data = bytes.fromhex(
        "0001" "02" "01" "01010101" "01010101" "80000001" "abcd" "0030"
        "01" "00" "0002"
        "01010201" "01018001" "01" "00" "0006"
        "01010100" "fffffffc" "03" "00" "0001"
    )  # fmt: skip
    read = lsa.parse(data)
    assert read.header == lsa.Header(1, 2, 1, ROUTER, ROUTER, 0x80000001, 0xABCD, 48)
    assert read.body == lsa.RouterBody(
        lsa.BORDER,
        (
            lsa.RouterLink(POINT_TO_POINT, address("1.1.2.1"), address("1.1.128.1"), 6),
            lsa.RouterLink(STUB, address("1.1.1.0"), 0xFFFFFFFC, 1),
        ),
    )


def test_summaries_networks_and_opaque_lsas() -> None:
    assert lsa.parse(summary_lsa(ROUTER, address("1.4.0.0"), 16, 8)).body == lsa.SummaryBody(16, 8)
    assert lsa.parse(summary_lsa(ROUTER, address("1.4.1.1"), 32, 9, kind=4)).body == lsa.SummaryBody(32, 9)
    assert lsa.parse(whole(2, 5, ROUTER, struct.pack("!3I", 0xFFFFFF00, 1, 2))).body == lsa.NetworkBody(24, (1, 2))
    assert lsa.parse(whole(11, 200 << 24 | 7, ROUTER, b"abcd")).body == lsa.OpaqueBody(200, 7, b"abcd")
    assert lsa.parse(whole(5, 5, ROUTER, b"what?")).body is None


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "lsa-short"),
        (bytes(19), "lsa-short"),
        (router_lsa(ROUTER, [])[:-1], "lsa-length"),
        (router_lsa(ROUTER, []) + b"\0", "lsa-length"),
        (whole(1, 1, 1, b"\0\0"), "lsa-length"),
        (whole(1, 1, 1, struct.pack("!BBH", 0, 0, 1)), "lsa-links"),
        (whole(1, 1, 1, struct.pack("!BBH", 0, 0, 0) + bytes(12)), "lsa-links"),
        (router_lsa(ROUTER, [(STUB, 0, 0xFF00FF00, 1)]), "lsa-mask"),
        (whole(3, 1, 1, bytes(4)), "lsa-length"),
        (whole(3, 1, 1, struct.pack("!II", 0x00FFFFFF, 1)), "lsa-mask"),
        (whole(2, 1, 1, bytes(4)), "lsa-length"),
    ],
)
def test_wrong_lsas(data: bytes, reason: str) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        lsa.parse(data)
    assert caught.value.reason == reason


def test_a_node_is_a_qan_when_all_its_links_say_so() -> None:
    def body(*links: tuple[int, int, int, int]) -> lsa.RouterBody:
        read = lsa.parse(router_lsa(ROUTER, list(links))).body
        assert isinstance(read, lsa.RouterBody)
        return read

    far, stub = (POINT_TO_POINT, 5, 6, 0xFFFF), (STUB, 4, 0xFFFFFFFC, 1)
    assert not body(far, stub).transit
    assert body(far, (POINT_TO_POINT, 7, 8, 65534)).transit
    assert body(stub).transit, "a node without a link yet"


def test_the_database_tells_what_changed() -> None:
    database = Database()
    first = lsa.parse(router_lsa(ROUTER, []))
    assert database.put(1, first) is Change.PATHS
    assert database.put(1, lsa.parse(router_lsa(ROUTER, []))) is Change.NONE, "a refresh"
    assert database.put(1, lsa.parse(router_lsa(ROUTER, [(STUB, 4, 0xFFFFFFFC, 1)]))) is Change.PATHS
    assert database.put(0, lsa.parse(whole(11, 200 << 24, ROUTER, b"abcd"))) is Change.REGISTRATIONS
    assert [(router, body.data) for router, body in database.opaque_of(200)] == [(ROUTER, b"abcd")]
    assert not list(database.opaque_of(201))
    assert database.put(1, lsa.parse(whole(5, 5, ROUTER, b"what"))) is Change.NONE
    aged = lsa.parse(whole(1, ROUTER, ROUTER, struct.pack("!BBH", 0, 0, 0), age_s=3600))
    assert database.put(1, aged) is Change.PATHS, "MaxAge is the end"
    assert database.areas == {}
    assert database.remove(1, first) is Change.NONE
    assert database.areas == {}


NEAR, FAR = IPv4Address("1.1.128.1").packed, IPv4Address("1.1.128.2").packed


def ospf(source: str = "1.1.128.2", destination: str = "224.0.0.5", protocol: int = 89) -> bytes:
    return network.pack(address(source), address(destination), protocol, bytes(24), ttl=1)


@pytest.mark.parametrize(
    ("packet", "reason"),
    [
        (ospf(), None),
        (ospf(destination="1.1.128.1"), None),
        (ospf(protocol=6), "protocol"),
        (ospf(protocol=253), "protocol"),
        (ospf(source="1.1.128.1"), "source"),
        (ospf(source="1.1.2.1"), "source"),
        (ospf(destination="1.1.128.2"), "destination"),
        (ospf(destination="224.0.0.6"), "destination"),
        (ospf(destination="127.0.0.1"), "destination"),
        (ospf()[:19], "length"),
        (ospf() + b"\0", "length"),
        (b"\x65" + ospf()[1:], "version"),
        (b"\x44" + ospf()[1:], "options"),
        (b"\x46" + ospf()[1:], "options"),
        (b"\x4f" + ospf()[1:], "options"),
        (ospf()[:8] + b"\x02" + ospf()[9:], "checksum"),
        (ospf()[:10] + bytes(2) + ospf()[12:], "checksum"),
        (b"", "length"),
        (bytes(1281), "length"),
    ],
)
def test_the_gate(packet: bytes, reason: str | None) -> None:
    assert gate.why_not(packet, FAR, NEAR) == reason


def table_of(count: int) -> list[Row]:
    return [Row(address("1.1.0.0") + 4 * n, 30, (("a", n + 1, True), ("b", n + 2, False))) for n in range(count)]


@pytest.mark.parametrize("count", [0, 1, 255, 256, 257, 3000])
def test_a_table_arrives_whole(count: int) -> None:
    messages = port.table_messages(4, table_of(count), {"a": 0, "b": 3})
    assert max(map(len, messages)) < 1 << 17
    assembly = Assembly(links=4)
    results = [assembly.add(port.parse_text(message)) for message in messages]
    assert results[:-1] == [None] * (len(messages) - 1)
    table = results[-1]
    assert table is not None
    assert [(entry.prefix, entry.bits) for entry in table] == [(row.prefix, row.bits) for row in table_of(count)]
    assert all(entry.choices == ((0, n + 1, True), (3, n + 2, False)) for n, entry in enumerate(table))


def test_links_that_the_data_plane_does_not_have_are_left_out() -> None:
    (message,) = port.table_messages(1, table_of(1), {"b": 0})
    (entry,) = Assembly(1).add(port.parse_text(message)) or []
    assert entry.choices == ((0, 2, False),)
    (message,) = port.table_messages(1, table_of(1), {})
    assert Assembly(1).add(port.parse_text(message)) == []


GOOD: dict[str, Any] = {"type": "table", "version": 1, "part": 0, "parts": 1, "entries": []}


@pytest.mark.parametrize(
    "wrong",
    [
        {"parts": 0},
        {"part": 1, "parts": 2},
        {"parts": 1 << 20},
        {"version": None},
        {"part": True},
        {"entries": None},
        {"entries": [7]},
        {"entries": [["1.1.1.0", 30]]},
        {"entries": [["1.1.1.1", 30, [[0, 1, True]]]]},
        {"entries": [["1.1.1.0", 33, [[0, 1, True]]]]},
        {"entries": [["1.1.1.0", 30, []]]},
        {"entries": [["1.1.1.0", 30, [[2, 1, True]]]]},
        {"entries": [["1.1.1.0", 30, [[-1, 1, True]]]]},
        {"entries": [["1.1.1.0", 30, [[0, 1.5, True]]]]},
    ],
)
def test_wrong_tables(wrong: dict[str, Any]) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        Assembly(2).add(GOOD | wrong)
    assert caught.value.reason == "port-table"


def test_parts_of_different_tables_do_not_mix() -> None:
    assembly = Assembly(4)
    first = [port.parse_text(message) for message in port.table_messages(1, table_of(600), {"a": 0})]
    second = [port.parse_text(message) for message in port.table_messages(2, table_of(600), {"a": 1})]
    assert assembly.add(first[0]) is None
    with pytest.raises(RemoteProtocolError):
        assembly.add(second[1])
    assert [assembly.add(message) is None for message in second] == [True, True, False]


def test_vty_answers() -> None:
    assert vty.request("show version") == b"show version\0"
    assert vty.answer(b"hello\0\0\0\0") == ("hello", 0)
    assert vty.answer(b"no\0\0\0\2") == ("no", 2)
    for end in range(9):
        assert vty.answer(b"hello\0\0\0\0"[:end]) is None
    assert "ip ospf cost 12" in vty.set_costs([("qbb0", 12)])


def _read_port(data: bytes) -> None:
    if port.split_packet(data) is None:
        text = port.parse_text(data)
        Assembly(4).add(text)
        port.parse_links(text)


@given(st.binary(max_size=200))
def test_any_bytes_are_an_lsa_or_refused(data: bytes) -> None:
    for kind in (1, 2, 3, 4, 11):
        try:
            lsa.parse(whole(kind, 1, 1, data))
        except RemoteProtocolError as error:
            assert error.reason.startswith("lsa-")
    try:
        lsa.parse(data)
    except RemoteProtocolError as error:
        assert error.reason.startswith("lsa-")


@given(st.one_of(st.binary(max_size=100), st.builds(lambda tail: b"{" + tail, st.binary(max_size=100))))
def test_any_bytes_are_a_message_or_refused(data: bytes) -> None:
    try:
        _read_port(data)
    except RemoteProtocolError as error:
        assert error.reason.startswith("port-")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.fixed_dictionaries(
        {"version": JSON, "part": JSON | st.just(0), "parts": JSON | st.just(1), "entries": st.lists(JSON, max_size=3)}
    ),
    st.fixed_dictionaries({"links": JSON | st.lists(st.fixed_dictionaries({"name": JSON, "index": JSON}), max_size=2)}),
)
def test_any_json_is_a_message_or_refused(table: dict[str, Any], links: dict[str, Any]) -> None:
    for read in (lambda: Assembly(2).add(table), lambda: port.parse_links(links)):
        try:
            read()
        except RemoteProtocolError as error:
            assert error.reason.startswith("port-")


@given(st.binary(max_size=80))
def test_any_bytes_pass_the_gate_or_do_not(data: bytes) -> None:
    if gate.why_not(data, FAR, NEAR) is None:
        assert data[9] == 89
        assert data[12:16] == FAR
