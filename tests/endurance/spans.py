"""No word of a link's key serves two packets: told from the wire alone.

Everything that names key travels in the clear. The records of the link log (STORE, OPEN, EPOCH) pass in hellos and
control messages, so the listener keeps a copy of the log and knows which chunk's words make up the stream of each
direction in each session. A sealed packet names its span of the stream by E-offset and A-offset. What it does not name
is the session: that is the one of the sender's last LOGSTATE or RECORDS in a hello, because an end drops its old
session before it sends these, and seals nothing in the new one before the peer received them.

Checked:

- in a stream no word lies in two different packets; the same packet may come again, byte for byte;
- no packet takes words that no OPEN has given to its direction;
- a chunk is opened once, or serves EPOCHs; a slot serves one EPOCH; a block is stored once; a session has one EPOCH:
  so no two streams share a word;
- a record's number always stands for the same record;
- CONFIRM names the session.

What cannot be seen here: words of packets that were sealed and lost before the wire (a cable that is cut), and what was
said before the listener was there. For the latter it is given the log file of one end, and what the wire says must fit.
Offsets are 32 bits of 64; here no session is long enough (32 GiB of key) for that to matter.
"""

from __future__ import annotations

import struct
from collections import Counter
from dataclasses import dataclass, field

from appliance.q3p.messages import Confirm, HelloRecords, LogStateMessage, MessageError, Records
from appliance.q3p.records import (
    BlockName,
    Direction,
    Epoch,
    Open,
    RecordError,
    SessionId,
    Store,
    decode,
)

HEADER = struct.Struct(">HHIBBHII")
PREAMBLE_BYTES, TAG_BYTES, MAC_BYTES = 8, 16, 32
TAG_WORDS, STARTER_WORDS = 2, 14
ENCRYPTED, AUTHENTICATED = 0x80, 0x40
CONTROL_CHANNEL, NETWORK_CHANNEL, CONTROL_COMMAND = 0, 1, 4
TTL_AT = 8  # in a QKDNL packet
MOST_TOLD = 20  # of violations of one link


@dataclass
class Stream:
    """The words of one direction in one session, from the first starter on."""

    used: bytearray = field(default_factory=lambda: bytearray(STARTER_WORDS))
    packets: dict[int, int] = field(default_factory=dict)  # first word: hash of the packet


class LinkSpans:
    """One link. Directions by their sender: 0 the master, 1 the slave, as in OPEN records."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.violations: list[str] = []
        self.figures: Counter[str] = Counter()
        self.least_ttl = 255
        self._records: dict[int, bytes] = {}
        self._length = 0  # records taken, without a gap
        self._streams: dict[SessionId, tuple[Stream, Stream]] = {}
        self._newest: SessionId | None = None  # of the log
        self._session: list[SessionId | None] = [None, None]  # of each sender
        self._chunk_words: dict[int, int] = {}
        self._opened: set[int] = set()
        self._slots: set[tuple[int, int]] = set()
        self._epoch_chunks: set[int] = set()
        self._blocks: set[BlockName] = set()

    # --- the log -----------------------------------------------------------------------------------------------------

    @property
    def gap(self) -> bool:
        """Are records missing, which the log file can give?"""
        return any(index > self._length for index in self._records)

    def begin(self, records: list[bytes], first: int = 0) -> None:
        """The log as a file of one end has it."""
        for index, record in enumerate(records, first):
            self._record(index, record)
        self._session = [session or self._newest for session in self._session]

    def _record(self, index: int, data: bytes) -> None:
        known = self._records.setdefault(index, data)
        if known != data:
            self._violated(f"record {index} is {data.hex()} and was {known.hex()}")
        while self._length in self._records:
            self._take(self._records[self._length])
            self._length += 1

    def _take(self, data: bytes) -> None:
        self.figures["records"] += 1
        match decode(data):
            case Store(chunk=chunk, entries=entries):
                names = {entry.name for entry in entries}
                if chunk in self._chunk_words or names & self._blocks or len(names) != len(entries):
                    self._violated(f"STORE of chunk {chunk} takes a block or number a second time")
                self._chunk_words[chunk] = sum(entry.length_bytes for entry in entries) // 8
                self._blocks |= names
            case Open(chunk=chunk, direction=direction):
                if chunk in self._opened or chunk in self._epoch_chunks or self._newest is None:
                    self._violated(f"OPEN of chunk {chunk}, which serves something already")
                    return
                self._opened.add(chunk)
                self._streams[self._newest][direction].used.extend(bytes(self._chunk_words[chunk]))
            case Epoch(chunk=chunk, slot=slot, session=session):
                if (chunk, slot) in self._slots or chunk in self._opened or session in self._streams:
                    self._violated(f"EPOCH names slot {slot} of chunk {chunk}, or its session, a second time")
                self._slots.add((chunk, slot))
                self._epoch_chunks.add(chunk)
                self._newest = session
                self._streams[session] = Stream(), Stream()
                self.figures["sessions"] += 1
            case _:
                pass  # CLOSE and VOID give no words

    # --- packets -----------------------------------------------------------------------------------------------------

    def packet(self, sender: Direction, packet: bytes) -> None:
        """One Q3P packet, as it stands on the wire."""
        self.figures["packets"] += 1
        try:
            self._packet(sender, packet)
        except (MessageError, RecordError, struct.error, IndexError) as error:
            self._violated(f"a packet that cannot be read: {error}: {packet[:60].hex()}")

    def _packet(self, sender: Direction, packet: bytes) -> None:
        _, clear, _, flags, command, channel, first, mask = HEADER.unpack_from(packet)
        payload = packet[HEADER.size : HEADER.size + clear]
        if not flags & AUTHENTICATED:
            self._hello(sender, payload)
            return
        text = payload[PREAMBLE_BYTES:]
        if channel == CONTROL_CHANNEL and command == CONTROL_COMMAND:
            self._control(sender, text)
        elif channel == NETWORK_CHANNEL:
            self.figures["key packets"] += bool(flags & ENCRYPTED)
            self.least_ttl = min(self.least_ttl, text[TTL_AT])
        self._span(sender, first, mask + TAG_WORDS, packet)

    def _hello(self, sender: Direction, payload: bytes) -> None:
        self.figures["hellos"] += 1
        if payload[0] == LogStateMessage.kind:
            self._session[sender] = LogStateMessage.parse(payload[1:]).session
        elif payload[0] == HelloRecords.kind:
            message = HelloRecords.parse(payload[1:])
            self._session[sender] = message.session
            for index, record in enumerate(message.records, message.first):
                self._record(index, record)

    def _control(self, sender: Direction, text: bytes) -> None:
        if text[0] == Records.kind:
            message = Records.parse(text[1:])
            for index, record in enumerate(message.records, message.first):
                self._record(index, record)
        elif text[0] == Confirm.kind and Confirm.parse(text[1:]).session != self._session[sender]:
            self._violated("CONFIRM names another session than its sender's hello")

    def _span(self, sender: Direction, first: int, end: int, packet: bytes) -> None:
        session = self._session[sender]
        streams = self._streams.get(session) if session is not None else None
        if streams is None:
            self.figures["unplaced"] += 1  # the log has a gap, or the listener came late
            return
        stream = streams[sender]
        known = stream.packets.get(first)
        if known == hash(packet):
            self.figures["resent"] += 1
            return
        words = f"words {first} to {end - 1} of direction {sender:d} in session {session.nonce.hex()[:8]}"  # type: ignore[union-attr]
        if end > len(stream.used) and not self.gap:
            self._violated(f"{words}: the log gave it {len(stream.used)} so far: {packet[:60].hex()}")
        if any(stream.used[first:end]):
            self._violated(f"{words} served another packet already: {packet[:60].hex()}")
        if end > len(stream.used):
            return
        stream.used[first:end] = b"\1" * (end - first)
        stream.packets[first] = hash(packet)
        self.figures["words"] += end - first

    def _violated(self, what: str) -> None:
        self.figures["violations"] += 1
        if len(self.violations) < MOST_TOLD:
            self.violations.append(f"link {self.name}: {what}")
