"""Which link secrets this node has made into key, each under which link's name: STATE/dataplane/secrets.loaded.

A line holds a secret's public id, the link, and `loading` until all of its blocks are on the disk. Two rules follow:

- A secret is for one link. What another link's name has loaded is refused, be that another link of the node file or
  this one before it was renamed: its blocks may have been spent there.
- What was loaded whole is never loaded again, whatever became of the link's directory. The line is durable before the
  first block is written, and `loading` is taken off it before a word of them is used: after a crash in between,
  loading goes on where it was.

Each link's own log says more of its own blocks, but goes with the link's directory, and nobody looks into it under
another name. What a store had that was discarded stands in `burnt` in the link's directory as well: versions from
before this record know that file alone, and may have written to it since, so it counts at each question. Ids are no
secrets; `qbb zeroize` leaves these files.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from appliance.native import blockfile
from appliance.q3p.linklog import LinkLog, LogCopy
from appliance.q3p.records import BlockName, RecordError
from appliance.q3p.settings import BOOTSTRAP_DEVICE

FILE_NAME = "secrets.loaded"  # no link can have a name with a dot
BURNT = "burnt"
ID_DIGITS = 8
LOADING = "loading"
Lines = dict[tuple[int, str], bool]  # by secret and link: loaded whole?


class LoadedSecrets:
    """The record, read anew at each question: all links of the node share it. Methods raise OSError."""

    def __init__(self, directory: Path) -> None:
        self._folder, self.path = directory, directory / FILE_NAME
        if not self.path.exists():
            self._write(dict(_of_stores(directory)))  # of a node that kept no such record yet

    def others(self, secret: int, link: str) -> list[str]:
        """Other links that have loaded this secret."""
        return [name for number, name in self._read() if number == secret and name != link]

    def is_known(self, secret: int, link: str) -> bool:
        """Did this link load it, wholly or in part?"""
        return (secret, link) in self._read()

    def is_loaded(self, secret: int, link: str) -> bool:
        return self._read().get((secret, link), False)

    def begin(self, secret: int, link: str) -> None:
        """Durable when it returns: blocks may be written, and not yet used."""
        self._write(self._read() | {(secret, link): False})

    def burn(self, secret: int, link: str) -> None:
        """The store that had it is given up. What another link has loaded stays that link's."""
        if not self.others(secret, link):
            _burn(self._folder / link, secret)
            self.finish(secret, link)

    def finish(self, secret: int, link: str) -> None:
        """Durable when it returns: this secret is never loaded again."""
        self._write(self._read() | {(secret, link): True})

    def _read(self) -> Lines:
        lines = dict(map(self._line, self.path.read_text().splitlines()))
        return lines | {(secret, store.name): True for store in _stores(self._folder) for secret in _burnt(store)}

    def _line(self, line: str) -> tuple[tuple[int, str], bool]:
        match line.split():
            case [number, link]:
                loaded = True
            case [number, link, word] if word == LOADING:
                loaded = False
            case _:
                raise self._damaged()
        try:
            return (int(number, 16), link), loaded
        except ValueError:
            raise self._damaged() from None

    def _damaged(self) -> OSError:
        words = (
            "the record of link secrets that were loaded is damaged: move it away, and it is made anew from the links' "
            "directories; a link whose directory was removed, or whose store was discarded, wants a new secret first"
        )
        return OSError(errno.EBADMSG, words, str(self.path))

    def _write(self, lines: Lines) -> None:
        """The old record stands until the new one is durable."""
        text = "".join(
            f"{secret:0{ID_DIGITS}x} {link}{'' if loaded else f' {LOADING}'}\n"
            for (secret, link), loaded in sorted(lines.items())
        )
        folder = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            _write_new(folder, text.encode())
            os.rename(f"{FILE_NAME}.new", FILE_NAME, src_dir_fd=folder, dst_dir_fd=folder)
            os.fsync(folder)
        finally:
            os.close(folder)


def _write_new(folder: int, data: bytes) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
    fresh = os.open(f"{FILE_NAME}.new", flags, 0o600, dir_fd=folder)
    try:
        _give_to_owner(fresh, folder)
        blockfile.append_durable(fresh, data, FILE_NAME)
    finally:
        os.close(fresh)


def _give_to_owner(fd: int, folder: int) -> None:
    """Of the folder: root zeroizes a node, whose data plane may be wanted again."""
    if os.geteuid() == 0:
        owner = os.fstat(folder)
        os.fchown(fd, owner.st_uid, owner.st_gid)


# --- what the links' directories tell --------------------------------------------------------------------------------


def _stores(directory: Path) -> list[Path]:
    return sorted(path for path in directory.iterdir() if path.is_dir())


def _of_stores(directory: Path) -> Iterator[tuple[tuple[int, str], bool]]:
    """Of a node that has no record: `burnt` names secrets that are never loaded again, log and blocks those whose
    loading a crash may have cut short."""
    for store in _stores(directory):
        for secret in _secrets(_blocks(store)):
            yield (secret, store.name), False
        for secret in _burnt(store):
            yield (secret, store.name), True


def _blocks(store: Path) -> set[BlockName]:
    """Held or named by the log. One that makes no sense tells nothing: it will be quarantined."""
    found: set[BlockName] = set()
    for path in store.glob("blocks/*.key"):
        with contextlib.suppress(ValueError):
            found.add(BlockName.parse(path.stem))
    with contextlib.suppress(FileNotFoundError, RecordError):
        found |= LinkLog(LogCopy((store / "log").read_bytes())).state.stored
    return found


def _burnt(store: Path) -> Iterator[int]:
    with contextlib.suppress(FileNotFoundError):
        for word in (store / BURNT).read_text(errors="replace").split():
            with contextlib.suppress(ValueError):
                if len(word) == ID_DIGITS:  # else a crash cut it short
                    yield int(word, 16)


def _burn(store: Path, secret: int) -> None:
    """Durable when it returns. Without the directory there is none to be loaded into."""
    if not store.is_dir() or secret in _burnt(store):
        return
    folder = os.open(store, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(BURNT, flags, 0o600, dir_fd=folder)
        try:
            _give_to_owner(fd, folder)
            cut_short = "\n" if os.fstat(fd).st_size else ""  # the line before may be
            blockfile.append_durable(fd, f"{cut_short}{secret:0{ID_DIGITS}x}\n".encode(), str(store / BURNT))
        finally:
            os.close(fd)
        os.fsync(folder)
    finally:
        os.close(folder)


def _secrets(blocks: set[BlockName]) -> set[int]:
    return {secret_of(name) for name in blocks if name.device == BOOTSTRAP_DEVICE}


def secret_of(name: BlockName) -> int:
    """The secret that a block of the link secret is from."""
    return name.block_id >> 8
