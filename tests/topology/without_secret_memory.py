"""Runs a program for which memfd_secret fails, as on a kernel without it: python without_secret_memory.py COMMAND..."""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import sys

PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
MEMFD_SECRET = 447  # on every architecture
LOAD_NUMBER, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06  # classic BPF
ALLOW, FAIL = 0x7FFF0000, 0x00050000

PROGRAM = (
    (LOAD_NUMBER, 0, 0, 0),
    (JUMP_IF_EQUAL, 0, 1, MEMFD_SECRET),
    (RETURN, 0, 0, FAIL | errno.ENOSYS),
    (RETURN, 0, 0, ALLOW),
)


class Filter(ctypes.Structure):
    """struct sock_fprog"""

    _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_char_p))


def main() -> None:
    code = b"".join(struct.pack("=HBBI", *step) for step in PROGRAM)
    libc = ctypes.CDLL(None, use_errno=True)
    wanted = Filter(len(PROGRAM), code)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(
        PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(wanted), 0, 0
    ):
        raise OSError(ctypes.get_errno(), "no seccomp filter")
    os.execvp(sys.argv[1], sys.argv[1:])


if __name__ == "__main__":
    main()
