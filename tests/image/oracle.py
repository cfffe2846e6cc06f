"""The key oracle on the wire between two virtual machines: QEMU writes down every frame (filter-dump, in the format of
libpcap), and tests/endurance/spans.py says whether a word of key served two packets.

What is written down is what passed at one end: that of a machine which stays on while the other one's power is cut.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path

from tests.endurance.spans import LinkSpans
from tests.endurance.wire import show

FILE_HEADER, FRAME_HEADER = struct.Struct("<IHHiIII"), struct.Struct("<IIII")
MAGIC, ETHERNET = 0xA1B2C3D4, 1
ETHERNET_BYTES, IPV4_TYPE = 14, 0x0800
LONGEST = 65536


def recorder(file: Path, wire: int = 0) -> tuple[str, ...]:
    """QEMU's words for a machine whose network card at wires[wire] is to be written down from its start on."""
    return ("-object", f"filter-dump,id=recorder{wire},netdev=wire{wire},file={file},maxlen={LONGEST}")


def frames(file: Path) -> Iterator[bytes]:
    """Those that are whole: QEMU may be writing the last one."""
    data = file.read_bytes()
    magic, *_, link_type = FILE_HEADER.unpack_from(data)
    assert (magic, link_type) == (MAGIC, ETHERNET), f"{file}: not a dump of QEMU's"
    at = FILE_HEADER.size
    while at + FRAME_HEADER.size <= len(data):
        _, _, kept, whole = FRAME_HEADER.unpack_from(data, at)
        frame = data[at + FRAME_HEADER.size : at + FRAME_HEADER.size + kept]
        if len(frame) == kept == whole:
            yield frame
        at += FRAME_HEADER.size + kept


def listened(file: Path, link: str, master: IPv4Address) -> LinkSpans:
    """What the oracle says of the link so far. `master`: address of the master's end of the wire."""
    spans = LinkSpans(link)
    for frame in frames(file):
        if int.from_bytes(frame[12:14], "big") == IPV4_TYPE:
            show(spans, frame[ETHERNET_BYTES:], master.packed)
    return spans
