"""The link log: the one truth about key that both ends of a link share.

Records are numbered and digested, and only ever appended; one takes effect only once it is durable. What they mean is
``logstate``'s part.
"""

from __future__ import annotations

import errno
from typing import Protocol

from appliance.q3p import checkpoint
from appliance.q3p.logstate import LogState
from appliance.q3p.records import (
    EMPTY_DIGEST,
    MAX_FRAME_BYTES,
    Record,
    RecordError,
    chain,
    decode,
    encode,
    frame,
    read_frames,
)

KEEP_RECORDS = 4096  # at least so many records stay, so that a peer whose disk went back that far can be replayed


class LogFile(Protocol):
    """Where the log is kept. Raises OSError; after one the content is unknown until read again."""

    def read(self) -> bytes: ...

    def append(self, data: bytes) -> None:
        """Durable when it returns."""

    def truncate(self, length: int) -> None:
        """Durable when it returns."""

    def replace(self, data: bytes) -> None:
        """The whole file anew, atomically; durable when it returns."""


class LogCopy:
    """A log's content, to see what it means. The file stays as it is."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def read(self) -> bytes:
        return self._content

    def append(self, data: bytes) -> None:
        raise OSError(errno.EROFS, "a copy of the key log, to be read")

    def replace(self, data: bytes) -> None:
        self.append(data)

    def truncate(self, length: int) -> None:
        """A torn tail is the link's own affair."""


class LinkLog:
    """The log of one end: records in order with their digests, durable before they count.

    Records below ``base`` are forgotten; the file's checkpoint says what they meant."""

    def __init__(self, file: LogFile, keep_records: int = KEEP_RECORDS) -> None:
        """Reads the file and cuts a torn tail. Raises OSError; RecordError where a whole record breaks the rules, or
        more is damaged than a crash tears: then the file stays as it is."""
        self._file = file
        self._keep_records = keep_records
        self._load()

    def _load(self) -> None:
        data = self._file.read()
        head, end = checkpoint.decode(data)
        self.base, digest, self.state = head or checkpoint.Checkpoint(0, EMPTY_DIGEST, LogState())
        self._records: list[bytes] = []
        self._digests: list[bytes] = [digest]
        self._next_checkpoint: bytes | None = None  # of the state when half of the records were there
        self._next_base = self.base
        for record, digest, end in read_frames(data, end, self.base, digest):  # noqa: B007, B020
            self._take(decode(record), record, digest)
        self.torn_bytes = len(data) - end
        if self.torn_bytes > MAX_FRAME_BYTES:
            # no crash does that: records that were synced are damaged, and cutting them off would forget spent key
            raise RecordError(f"damaged {self.torn_bytes} bytes before its end, after record {self.length}")
        if self.torn_bytes:
            self._file.truncate(end)

    def _take(self, record: Record, data: bytes, digest: bytes) -> None:
        self.state.apply(record)
        self._records.append(data)
        self._digests.append(digest)
        if self._next_checkpoint is None and len(self._records) >= self._keep_records:
            self._next_base = self.length
            self._next_checkpoint = checkpoint.encode(checkpoint.Checkpoint(self.length, digest, self.state))

    @property
    def length(self) -> int:
        return self.base + len(self._records)

    @property
    def digest(self) -> bytes:
        return self._digests[-1]

    def digest_at(self, length: int) -> bytes | None:
        """Digest of the first ``length`` records; None when there are fewer, or they are forgotten."""
        return self._digests[length - self.base] if self.base <= length <= self.length else None

    def record(self, index: int) -> bytes:
        """Record ``index``, from ``base`` on."""
        return self._records[index - self.base]

    def records_from(self, first: int) -> list[bytes]:
        """Some records from index ``first`` on, more than a message carries."""
        return self._records[first - self.base : first - self.base + 128]

    def append(self, data: bytes) -> Record:
        """Check, write durably, then let it take effect. Raises RecordError (nothing changed) or OSError.

        After an OSError the object is of no use: its state may be ahead of the disk or behind it."""
        record = decode(data)
        if encode(record) != data:
            raise RecordError("record is not in its one right form")
        digest = chain(self.digest, self.length, data)
        self._take(record, data, digest)  # raises RecordError before anything is written
        self._file.append(frame(data, digest))
        return record

    def compact(self, acknowledged: int) -> bool:
        """Forget the older half of twice the records to keep, if the peer has acknowledged them. True when done.

        Raises OSError."""
        enough = len(self._records) >= 2 * self._keep_records
        if self._next_checkpoint is None or not enough or self._next_base > acknowledged:
            return False
        kept = self._next_base - self.base
        pairs = zip(self._records[kept:], self._digests[kept + 1 :], strict=True)
        self._file.replace(self._next_checkpoint + b"".join(frame(record, digest) for record, digest in pairs))
        self._load()  # so that what goes on is what a restart would find
        return True
