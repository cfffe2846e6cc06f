"""Key memory: locked pages out of core dumps, swap and children; wiped before they are given back."""

from __future__ import annotations

from typing import Any, Self

from appliance.native import check, ffi, lib


class KeyMemory:
    """A mapping of key memory. Python holds where it is, never what is in it."""

    def __init__(self, pointer: Any, length_bytes: int, fd: int | None = None) -> None:
        self.pointer = pointer
        self.length_bytes = length_bytes
        self.fd = fd  # of a shared mapping: to be passed on by SCM_RIGHTS and closed by its owner
        self._open = True

    @classmethod
    def map(cls, length_bytes: int) -> Self:
        """Zeroed private pages. Raises OSError when they cannot be had locked."""
        return cls(_mapped(lib.qbb_keymem_map(length_bytes), length_bytes), length_bytes)

    @classmethod
    def share(cls, length_bytes: int) -> Self:
        """Zeroed pages that another process may map through ``fd``."""
        fd = ffi.new("int *", -1)
        pointer = _mapped(lib.qbb_keymem_map_shared(length_bytes, fd), length_bytes)
        return cls(pointer, length_bytes, fd[0])

    @classmethod
    def attach(cls, fd: int, length_bytes: int) -> Self:
        """The pages behind another process's descriptor; EINVAL when they could shrink or are too few."""
        return cls(_mapped(lib.qbb_keymem_map_fd(fd, length_bytes), length_bytes), length_bytes)

    def at(self, offset_bytes: int) -> Any:
        """Pointer to the byte at ``offset_bytes``; IndexError outside the mapping."""
        if not self._open or not 0 <= offset_bytes <= self.length_bytes:
            raise IndexError(f"byte {offset_bytes} of {self.length_bytes} bytes of key memory")
        return ffi.cast("uint8_t *", self.pointer) + offset_bytes

    def wipe(self) -> None:
        if self._open:
            lib.qbb_wipe(self.pointer, self.length_bytes)

    def close(self) -> None:
        """Wipe and unmap; again is nothing."""
        if self._open:
            self._open = False
            lib.qbb_keymem_unmap(self.pointer, self.length_bytes, 0)

    def forget(self) -> None:
        """Unmap without the wipe: another process may be about to read these pages. They go with the last who has
        them."""
        if self._open:
            self._open = False
            lib.qbb_keymem_forget(self.pointer, self.length_bytes)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _mapped(pointer: Any, length_bytes: int) -> Any:
    if pointer == ffi.NULL:
        raise OSError(
            ffi.errno,
            f"cannot map {length_bytes} bytes of key memory: is the limit of locked memory too low?",
        )
    return pointer


def kind() -> str:
    """ "memfd_secret" or "mlock"."""
    name: bytes = ffi.string(lib.qbb_keymem_kind())
    return name.decode()


def harden_process() -> None:
    """No core dumps, no ptrace, no new privileges for this process from now on."""
    check(lib.qbb_process_harden(), "hardening the process")
