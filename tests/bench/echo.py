"""The bare servers that stand as references: each in a process of its own, doing nothing but answer."""

from __future__ import annotations

import contextlib
import multiprocessing
import select
import socket
from collections.abc import Callable, Iterator

MESSAGE_BYTES = 8192
NAME = "SEQPACKET echo server, Python, epoll loop"


def serve_seqpacket(listener: socket.socket, answer: bytes) -> None:
    """Any number of clients, as the keys service has them; every message gets `answer`."""
    poll = select.epoll()
    poll.register(listener.fileno(), select.EPOLLIN)
    clients: dict[int, socket.socket] = {}
    while True:
        for fileno, _ in poll.poll():
            client = clients.get(fileno)
            if client is None:
                client, _ = listener.accept()
                clients[client.fileno()] = client
                poll.register(client.fileno(), select.EPOLLIN)
            elif client.recv(MESSAGE_BYTES, socket.MSG_DONTWAIT):
                client.send(answer, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
            else:
                del clients[fileno]
                client.close()


def serve_udp(here: socket.socket) -> None:
    while True:
        data, address = here.recvfrom(MESSAGE_BYTES)
        here.sendto(data, address)


@contextlib.contextmanager
def running(server: Callable[..., None], *arguments: object) -> Iterator[None]:
    """Until the block ends."""
    process = multiprocessing.get_context("fork").Process(target=server, args=arguments, daemon=True)
    process.start()
    try:
        yield
    finally:
        process.kill()
        process.join()


@contextlib.contextmanager
def seqpacket(answer: bytes, path: str) -> Iterator[socket.socket]:
    """A client's socket at a running echo server."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(path)
        listener.listen(1)
        with (
            running(serve_seqpacket, listener, answer),
            socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client,
        ):
            client.connect(path)
            yield client
