"""A virtual machine's console in this terminal: python -m images.console SOCKET. Ctrl-] ends it."""

from __future__ import annotations

import os
import select
import socket
import sys
import termios
import tty

LEAVE = b"\x1d"


def main(path: str) -> int:
    stdin = sys.stdin.fileno()
    before = termios.tcgetattr(stdin)
    with socket.socket(socket.AF_UNIX) as console:
        console.connect(path)
        try:
            tty.setraw(stdin)
            while True:
                for ready in select.select([stdin, console], [], [])[0]:
                    data = os.read(stdin, 1024) if ready == stdin else console.recv(65536)
                    if not data or (ready == stdin and LEAVE in data):
                        return 0
                    if ready == stdin:
                        console.sendall(data)
                    else:
                        os.write(sys.stdout.fileno(), data)
        finally:
            termios.tcsetattr(stdin, termios.TCSADRAIN, before)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
