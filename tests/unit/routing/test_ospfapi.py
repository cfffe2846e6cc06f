"""ospfd's API: requests byte by byte, the conversation, and any bytes."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from routing_world import address, router_lsa, whole

from appliance.network.errors import LocalProtocolError, RemoteProtocolError
from appliance.routing import lsa, ospfapi
from appliance.routing.ospfapi import Changed, Message, Ready, Refusal, Session, Synchronised

AREA, ROUTER = address("1.1.0.0"), address("1.1.1.1")


def reply(sequence: int, code: int = 0) -> bytes:
    return ospfapi.pack(Message.REPLY, sequence, struct.pack("!bxxx", code))


def change(kind: Message, data: bytes) -> bytes:
    return ospfapi.pack(kind, 0, struct.pack("!IIBxxx", 0, AREA, 0) + data)


def test_a_session_begins_with_events_then_the_opaque_type_then_the_database() -> None:
    assert Session(200).start() == bytes.fromhex(
        "01" "03" "0004" "00000001" "040f" "02" "00"
        "01" "01" "0004" "00000002" "0b" "c8" "0000"
        "01" "04" "0004" "00000003" "040f" "02" "00"
    )  # fmt: skip


def test_originate_and_withdraw() -> None:
    session = Session(200)
    assert session.originate(7, b"abcd") == bytes.fromhex(
        "01" "05" "0020" "00000001" "00000000" "00000000"
        "0000" "00" "0b" "c8000007" "00000000" "00000000" "0000" "0018" "61626364"
    )  # fmt: skip
    assert session.withdraw(7).hex() == "0106000c00000002" + "00000000" + "0bc80000" + "00000007"
    for body in (b"abc", bytes(1304)):
        with pytest.raises(LocalProtocolError, match="a multiple of 4 up to 1300"):
            session.originate(8, body)


def test_a_conversation_byte_by_byte() -> None:
    session = Session(200)
    session.start()
    session.originate(1, b"abcd")
    replies = reply(1) + reply(2) + reply(3) + reply(4, -7)
    told = [event for at in range(len(replies)) for event in session.receive_replies(replies[at : at + 1])]
    assert told == [Synchronised(), Refusal(Message.ORIGINATE, "not ready")]
    data = router_lsa(ROUTER, [])
    ready = ospfapi.pack(Message.READY, 0, struct.pack("!BBxxI", 11, 200, 0))
    others = ospfapi.pack(Message.READY, 0, struct.pack("!BBxxI", 10, 200, 0)) + ospfapi.pack(Message(13), 0, bytes(12))
    stream = ready + others + ospfapi.pack(Message.SYNC, 0, b"") + change(Message.UPDATED, data)
    stream += change(Message.DELETED, data)
    told = [event for at in range(len(stream)) for event in session.receive_events(stream[at : at + 1])]
    parsed = lsa.parse(data)
    assert told == [Ready(), Changed(AREA, parsed, False), Changed(AREA, parsed, True)]
    assert session.dropped == {"lsa-short": 1}


def test_an_lsa_that_cannot_be_read_hides_no_other() -> None:
    session = Session(200)
    bad = change(Message.UPDATED, whole(1, 1, 1, b"\0"))
    (event,) = session.receive_events(bad + change(Message.UPDATED, router_lsa(ROUTER, [])))
    assert isinstance(event, Changed)
    assert session.dropped == {"lsa-length": 1}


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (struct.pack("!BBHI", 2, 10, 4, 1) + bytes(4), "api-version"),
        (struct.pack("!BBHI", 1, 10, 0xFFFF, 1), "api-length"),
        (ospfapi.pack(Message.READY, 1, bytes(8)), "api-reply"),
        (ospfapi.pack(Message.REPLY, 1, b""), "api-reply"),
    ],
)
def test_another_version_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        Session(200).receive_replies(data)
    assert caught.value.reason == reason


@given(st.lists(st.binary(max_size=60), max_size=8), st.booleans())
def test_any_bytes_are_messages_or_refused(pieces: list[bytes], framed: bool) -> None:
    session = Session(200)
    session.start()
    for number, piece in enumerate(pieces):
        data = ospfapi.pack(Message(10 + number % 4), number, piece) if framed else piece
        for receive in (session.receive_replies, session.receive_events):
            try:
                receive(data)
            except RemoteProtocolError as error:
                assert error.reason.startswith("api-")
