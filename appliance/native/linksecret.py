"""The link secret's file: made and read in C, so that its bytes are in key memory and in the file, nowhere
else.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

from appliance.native import ffi, lib
from appliance.native.keymem import KeyMemory

KEY_BYTES: int = lib.QBB_LINK_SECRET_KEY_BYTES
BLOCK_BYTES_MIN: int = lib.QBB_LINK_SECRET_BLOCK_MIN
BLOCK_BYTES_MAX: int = lib.QBB_LINK_SECRET_BLOCK_MAX

_WORDS = {
    errno.EACCES: "others may read it, or you may not: a link secret has mode 0600",
    errno.EBADMSG: "it is damaged, or no link secret",
    errno.EEXIST: "there is a file of that name; a link secret is never overwritten",
    errno.EMSGSIZE: "its block is larger than there is room for",
    errno.EINVAL: f"the block has {BLOCK_BYTES_MIN} to {BLOCK_BYTES_MAX} bytes, a multiple of 8",
}


def _check(result: int, path: Path) -> None:
    if result < 0:
        raise OSError(-result, _WORDS.get(-result, os.strerror(-result)), str(path))


def make(path: Path, block_bytes: int) -> None:
    """A new file with mode 0600, durable. Raises OSError (FileExistsError when there is one)."""
    _check(lib.qbb_link_secret_make(os.fsencode(path), block_bytes), path)


def read(path: Path) -> tuple[KeyMemory, KeyMemory, int]:
    """(key of 32 bytes, block, length of the block in bytes), both to be closed by the caller. Raises
    OSError.
    """
    key, block = KeyMemory.map(KEY_BYTES), KeyMemory.map(BLOCK_BYTES_MAX)
    length = ffi.new("size_t *")
    try:
        _check(lib.qbb_link_secret_read(os.fsencode(path), key.at(0), block.at(0), BLOCK_BYTES_MAX, length), path)
    except OSError:
        key.close()
        block.close()
        raise
    return key, block, int(length[0])
