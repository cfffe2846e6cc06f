"""Messages: every one round-trips; any other bytes are refused with MessageError and nothing else."""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from q3p_strategies import controls, corpus, fuzz, hellos, records

from appliance.q3p import messages as m
from appliance.q3p.records import MAX_RECORD_BYTES, encode

LINK = 7


def mac(data: bytes) -> bytes:
    return hmac.digest(b"secret", data, hashlib.sha256)


def parse_hello(payload: bytes) -> None:
    """A hello's payload under a right HMAC: refused, or it means one message that is written in just these bytes."""
    header = m.HEADER.pack(len(payload) + m.HEADER.size + m.MAC_BYTES, len(payload), 0, m.VERSION, 0, 0, 0, 0)
    packet = header + payload
    packet += mac(m._mac_input(LINK, True, packet))
    try:
        message = m.open_hello(packet, LINK, True, mac)
    except m.MessageError:
        return
    assert m.seal_hello(message, LINK, True, mac) == packet


def parse_control(data: bytes) -> None:
    try:
        message = m.unpack_control(data)
    except m.MessageError:
        return
    assert m.pack_control(message) == data


@given(hellos, st.booleans())
def test_hellos_round_trip(message: m.Hello, master: bool) -> None:
    packet = m.seal_hello(message, LINK, master, mac)
    assert m.open_hello(packet, LINK, master, mac) == message


@given(hellos)
def test_a_hello_is_bound_to_link_role_and_secret(message: m.Hello) -> None:
    packet = m.seal_hello(message, LINK, True, mac)
    for link, master, other in (
        (LINK + 1, True, mac),
        (LINK, False, mac),  # reflected to its sender
        (LINK, True, lambda data: hmac.digest(b"another", data, hashlib.sha256)),
    ):
        with pytest.raises(m.MessageError, match="wrong HMAC"):
            m.open_hello(packet, link, master, other)


@given(hellos, st.data())
def test_a_changed_hello_is_refused(message: m.Hello, data: st.DataObject) -> None:
    packet = bytearray(m.seal_hello(message, LINK, True, mac))
    packet[data.draw(st.integers(0, len(packet) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(m.MessageError):
        m.open_hello(bytes(packet), LINK, True, mac)


@given(controls)
def test_control_messages_round_trip(message: m.Control) -> None:
    assert m.unpack_control(m.pack_control(message)) == message


@given(st.binary(max_size=400))
def test_any_bytes(data: bytes) -> None:
    parse_hello(data or b"\0")
    parse_control(data)
    with pytest.raises(m.MessageError):
        m.open_hello(data, LINK, True, mac)


def test_fuzz() -> None:
    fuzz("hello", parse_hello)
    fuzz("control", parse_control)


@pytest.mark.parametrize(
    "path", [*corpus("hello"), *corpus("control")], ids=lambda path: f"{path.parent.name}-{path.stem}"
)
def test_corpus(path: Path) -> None:
    data = bytes.fromhex(path.read_text())
    (parse_hello if path.parent.name == "hello" else parse_control)(data)


def test_corpus_is_there() -> None:
    assert min(len(corpus(kind)) for kind in ("hello", "control", "record", "checkpoint")) >= 5


@given(st.lists(records.map(encode), min_size=1, max_size=100))
def test_as_many_records_as_fit_travel_together(log: list[bytes]) -> None:
    taken = m.fitting(log)
    assert taken and list(taken) == log[: len(taken)]
    size = sum(2 + len(record) for record in taken)
    assert size <= MAX_RECORD_BYTES or len(taken) == 1
    assert len(taken) == len(log) or size + 2 + len(log[len(taken)]) > MAX_RECORD_BYTES
    assert len(m.pack_control(m.Records(0, taken))) <= m.MAX_MESSAGE_BYTES
