"""Device blocks on disk and durable appends: the key store's files. Errors are OSError with the name."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from appliance.native import check, ffi, lib


def write(directory_fd: int, name: str, pointer: Any, length_bytes: int) -> None:
    """Durable under ``name`` when it returns. FileExistsError when there is one of that name."""
    check(lib.qbb_block_write(directory_fd, name.encode(), pointer, length_bytes), f"block {name}")


def accept(directory_fd: int, name: str, source_fd: int, length_bytes: int) -> None:
    """As write, with bytes from another process's memory file. EBADMSG where that was wiped, in whole or in part;
    FileExistsError only for the same bytes, ENOTUNIQ for others of that name."""
    check(lib.qbb_block_accept(directory_fd, name.encode(), source_fd, length_bytes), f"block {name}")


def read_at(directory_fd: int, name: str, offset_bytes: int, pointer: Any, length_bytes: int) -> None:
    """``length_bytes`` at ``offset_bytes`` into key memory; EIO when the file ends before."""
    check(lib.qbb_block_read_at(directory_fd, name.encode(), offset_bytes, pointer, length_bytes), f"block {name}")


def read(directory_fd: int, name: str, pointer: Any, length_bytes: int) -> None:
    """Exactly ``length_bytes`` into key memory; EIO when the file is shorter or longer."""
    check(lib.qbb_block_read(directory_fd, name.encode(), pointer, length_bytes), f"block {name}")


def destroy(directory_fd: int, name: str) -> None:
    """Overwritten, removed, and durably so. A missing file is success."""
    check(lib.qbb_block_destroy(directory_fd, name.encode()), f"block {name}")


def destroy_file(path: Path) -> None:
    """As destroy, by path. FileNotFoundError and NotADirectoryError where there is no such folder."""
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        destroy(folder, path.name)
    finally:
        os.close(folder)


def append_durable(fd: int, record: bytes, place: str) -> None:
    """Append and sync. After an error the file's end is unknown: the caller stops, and never tries again."""
    check(lib.qbb_append_durable(fd, ffi.from_buffer(record), len(record)), place)
