"""How the simulated fibre and the devices at its ends talk: a stream of messages over a unix or TCP socket.

Message: u16 length of the JSON part, u16 length of the secret part, JSON object, secret bytes (a block's
seed; kept apart so that it never becomes text).

    device -> fibre   {"type": "hello", "end": NODE, "qber_alarm": x}
    fibre -> device   {"type": "batch", "pulses", "clicks", "sifted_bits", "error_bits", "distance_km"}
                      {"type": "block", "id", "length_bytes", "qber"} + seed; also "flip": bit, "pattern": hex
                      (tests) {"type": "discarded", "qber", "secret_bits"} {"type": "alone"}       the other
                      end is not there {"type": "refused", "reason"}
    anyone -> fibre   {"command": NAME, ...}  answered by {"ok": true, "answer"} or {"ok": false, "error"}

Commands: status; tap fraction= (0 ends it); cut; mend; distance km=; speed factor=; mismatch end= blocks=;
pattern hex= (empty ends it).
"""

from __future__ import annotations

import json
import socket
import struct
from typing import Any

from appliance.configuration.values import parse_socket_address

HEADER = struct.Struct("!HH")
LONGEST_JSON = 8192
KEEPALIVE = {socket.TCP_KEEPIDLE: 10, socket.TCP_KEEPINTVL: 5, socket.TCP_KEEPCNT: 3}  # s, s, times
LONGEST_SECRET = 64


class WireError(Exception):
    """The peer does not speak this protocol."""


def encode(message: dict[str, Any], secret: bytes | bytearray = b"") -> bytearray:
    text = json.dumps(message).encode()
    return bytearray(HEADER.pack(len(text), len(secret))) + text + secret


class Splitter:
    """Bytes in, messages out. What is taken out is wiped from the buffer."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes | bytearray | memoryview) -> list[tuple[dict[str, Any], bytearray]]:
        """Complete messages with their secrets, which the caller wipes. Raises WireError."""
        self._buffer += data
        messages = []
        while (message := self._next()) is not None:
            messages.append(message)
        return messages

    def _next(self) -> tuple[dict[str, Any], bytearray] | None:
        if len(self._buffer) < HEADER.size:
            return None
        text_bytes, secret_bytes = HEADER.unpack_from(self._buffer)
        if text_bytes > LONGEST_JSON or secret_bytes > LONGEST_SECRET:
            raise WireError(f"a message of {text_bytes} + {secret_bytes} bytes")
        end = HEADER.size + text_bytes + secret_bytes
        if len(self._buffer) < end:
            return None
        text = bytes(self._buffer[HEADER.size : HEADER.size + text_bytes])
        secret = self._buffer[HEADER.size + text_bytes : end]
        wipe(self._buffer, HEADER.size + text_bytes, end)
        del self._buffer[:end]
        try:
            message = json.loads(text)
        except (ValueError, RecursionError):
            raise WireError("a message is not JSON") from None
        if not isinstance(message, dict):
            raise WireError("a message is not a JSON object")
        return message, secret


def wipe(buffer: bytearray, start: int = 0, end: int | None = None) -> None:
    end = len(buffer) if end is None else end
    buffer[start:end] = bytes(end - start)


def connect(address: str, timeout_s: float = 5.0) -> socket.socket:
    """A connected stream socket. `address` is "unix:/path" or "tcp:host:port". Raises OSError."""
    scheme, _, rest = address.partition(":")
    if scheme == "unix":
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(timeout_s)
        try:
            connection.connect(rest)
        except OSError:
            connection.close()
            raise
        return connection
    target = parse_socket_address(rest)
    connection = socket.create_connection((target.host, target.port), timeout_s)
    # Whoever only listens would never learn that the other side is gone without a word.
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in KEEPALIVE.items():
        connection.setsockopt(socket.IPPROTO_TCP, option, value)
    return connection


def ask(address: str, command: str, **arguments: Any) -> Any:
    """The fibre's answer to a command. Raises OSError, WireError; ValueError when the fibre refused."""
    with connect(address) as connection:
        connection.sendall(encode({"command": command, **arguments}))
        splitter = Splitter()
        while data := connection.recv(65536):
            for message, _ in splitter.feed(data):
                if message.get("ok") is not True:
                    raise ValueError(str(message.get("error")))
                return message.get("answer")
    raise WireError("the fibre ended the connection without an answer")
