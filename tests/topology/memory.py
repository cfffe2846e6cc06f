"""Looking for key bytes where they must not be: in the memory of running processes, in their open files, under folders.

A process's memory is read from outside, as root, by /proc/PID/mem: all that the kernel lets anyone read, whatever the
process did against core dumps. Secret memory (memfd_secret) cannot be read that way; other key memory can, and is known
by its flags in /proc/PID/smaps: locked (lo) and not to be dumped (dd).
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

WINDOW_BYTES = 1 << 22
KEY_MEMORY = re.compile(r"/(memfd:qbb-key|secretmem)\b")
HEAD = re.compile(r"^([0-9a-f]+)-([0-9a-f]+) (\S+) \S+ \S+ \S+\s*(.*)$")

Needles = Mapping[str, bytes]  # what they are, for the message of a failure


@dataclass(frozen=True)
class Area:
    """One mapping of a process."""

    start: int
    end: int
    name: str
    flags: frozenset[str]

    @property
    def protected(self) -> bool:
        """Key memory: locked, and kept out of core dumps."""
        return bool(KEY_MEMORY.search(self.name)) and {"dd", "lo"} <= self.flags


class Finding(NamedTuple):
    what: str
    where: str


class Searched(NamedTuple):
    findings: list[Finding]
    bytes_read: int
    bytes_hidden: int  # that the kernel does not let us read


def areas(pid: int) -> list[Area]:
    found: list[Area] = []
    head = None
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        head = HEAD.match(line) or head
        if line.startswith("VmFlags:") and head is not None and head[4] != "[vsyscall]":  # that is the kernel's
            start, end, _, name = head.groups()
            found.append(Area(int(start, 16), int(end, 16), name, frozenset(line.split()[1:])))
    return found


def windows(pid: int, area: Area, overlap: int) -> Iterator[bytes]:
    """The area's bytes, in pieces that overlap. Ends at what cannot be read."""
    at = area.start
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        while at < area.end:
            try:
                data = os.pread(memory.fileno(), min(WINDOW_BYTES, area.end - at), at)
            except OSError:
                return
            if not data:
                return
            yield data
            at += len(data) if at + len(data) == area.end else max(1, len(data) - overlap)


def search_process(pid: int, needles: Needles) -> Searched:
    """Everything outside of key memory."""
    longest = max(map(len, needles.values()))
    findings: list[Finding] = []
    read = hidden = 0
    for area in areas(pid):
        seen = 0
        for data in windows(pid, area, longest - 1):
            seen += len(data)
            for what in within(data, needles) if not area.protected else ():
                findings.append(Finding(what, f"{area.name or 'anonymous'} {' '.join(sorted(area.flags))}"))
        read += seen
        hidden += area.end - area.start if not seen else 0
    return Searched(findings, read, hidden)


def search_open_files(pid: int, needles: Needles) -> list[Finding]:
    """Also those that have no name any more. Key memory has descriptors too; it is not searched."""
    findings = []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = str(link.readlink())
            if not stat.S_ISREG(link.stat().st_mode) or KEY_MEMORY.search(target) or target.endswith((".key", ".new")):
                continue
            findings += [Finding(what, target) for what in within(link.read_bytes(), needles)]
        except OSError:
            continue  # closed meanwhile, or not to be read by anyone
    return findings


def search_files(folder: Path, needles: Needles) -> list[Finding]:
    """All files below the folder but those that are there to hold key: the key stores' blocks, link secrets."""
    findings = []
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # removed meanwhile
            if path.is_file() and path.parent.name != "blocks" and path.suffix != ".secret":
                findings += [Finding(what, str(path)) for what in within(path.read_bytes(), needles)]
    return findings


def within(data: bytes, needles: Needles) -> list[str]:
    return [what for what, needle in needles.items() if needle in data]


def words(name: str, secret: bytes, length: int = 8) -> dict[str, bytes]:
    """A secret in pieces: a copy of a part of it is as bad."""
    return {f"{name} byte {at}": secret[at : at + length] for at in range(0, len(secret) - length + 1, length)}


def swapped_kib(pid: int) -> int:
    found = re.search(r"^VmSwap:\s*(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.M)
    return int(found[1]) if found else 0


def core_limit(pid: int) -> tuple[str, str]:
    """Soft and hard."""
    line = next(row for row in Path(f"/proc/{pid}/limits").read_text().splitlines() if row.startswith("Max core"))
    _, soft, hard, _ = line.replace("Max core file size", "size").split()
    return soft, hard
