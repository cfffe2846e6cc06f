"""The simulated fibre: a process that is neither node's, plays the exchange of photons once and tells both
ends.

    python -m appliance.devices.fibre --socket unix:/run/qbb-fibre/a-b.sock --distance-km 25
    python -m appliance.devices.fibre --socket unix:/run/qbb-fibre/a-b.sock --ask tap fraction=0.5

The two ends are the first two node names that say hello; a second hello of the same name replaces the first.
Photons are exchanged while both are there. `--speed` multiplies the pulse rate for demonstrations. The
protocol and the commands are in fibrewire.py.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import secrets
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from types import FrameType
from typing import Any

from appliance.configuration.values import parse_socket_address
from appliance.devices import decoystate
from appliance.devices.decoystate import GYS
from appliance.devices.fibrewire import Splitter, WireError, ask, encode, wipe
from appliance.devices.simulated import Batch, Discarded, Event, Exchange, Fibre, NewBlock

LONGEST_BACKLOG_BYTES = 4 << 20


class Refusal(Exception):
    """A command or hello that cannot be served."""


class Peer:
    """One connection: an end of the fibre, or someone with commands."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.splitter = Splitter()
        self.output = bytearray()
        self.end = ""
        self.qber_alarm = 0.11
        self.mismatches = 0  # blocks still to come out different at this end

    def flush(self) -> None:
        """Raises OSError; what was sent is wiped from the buffer."""
        with contextlib.suppress(BlockingIOError):
            while self.output:
                sent = self.connection.send(self.output)
                wipe(self.output, 0, sent)
                del self.output[:sent]


class Server:
    def __init__(self, listener: socket.socket, exchange: Exchange, speed: float, interval_s: float) -> None:
        self.exchange = exchange
        self.speed = speed
        self.interval_s = interval_s
        self.pattern = b""
        self.blocks = 0
        self.discarded = 0
        self.ends: dict[str, Peer] = {}
        self._listener = listener
        self._selector = selectors.DefaultSelector()
        self._selector.register(listener, selectors.EVENT_READ, None)
        self._commands: dict[str, Callable[[dict[str, Any]], Any]] = {
            "status": lambda arguments: self.status(),
            "tap": self._tap,
            "cut": self._cut,
            "mend": self._mend,
            "distance": self._distance,
            "speed": self._speed,
            "mismatch": self._mismatch,
            "pattern": self._pattern,
        }

    # The loop

    def run(self, stopping: Callable[[], bool]) -> None:
        next_s = time.monotonic() + self.interval_s
        while not stopping():
            for key, events in self._selector.select(max(0.0, next_s - time.monotonic())):
                if key.data is None:
                    self._accept()
                else:
                    self._serve(key.data, events)
            if time.monotonic() >= next_s:
                self.interval()
                # After a pause of the machine the lost time is lost: light does not wait.
                next_s = max(next_s + self.interval_s, time.monotonic())

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            connection, _ = self._listener.accept()
            connection.setblocking(False)
            self._selector.register(connection, selectors.EVENT_READ, Peer(connection))

    def _serve(self, peer: Peer, events: int) -> None:
        try:
            if events & selectors.EVENT_READ:
                data = peer.connection.recv(65536)
                if not data:
                    raise ConnectionResetError
                for message, _ in peer.splitter.feed(data):
                    self._received(peer, message)
            self._flush(peer)
        except BlockingIOError:
            pass
        except (OSError, WireError):
            self._drop(peer)

    def _send(self, peer: Peer, message: dict[str, Any], secret: bytes | bytearray = b"") -> None:
        peer.output += encode(message, secret)
        try:
            if len(peer.output) > LONGEST_BACKLOG_BYTES:
                raise ConnectionAbortedError
            self._flush(peer)
        except OSError:
            self._drop(peer)

    def _flush(self, peer: Peer) -> None:
        peer.flush()
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if peer.output else 0)
        self._selector.modify(peer.connection, wanted, peer)

    def _drop(self, peer: Peer) -> None:
        wipe(peer.output)
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(peer.connection)
        peer.connection.close()
        if self.ends.get(peer.end) is peer:
            del self.ends[peer.end]
            self.exchange.restart()

    # Messages

    def _received(self, peer: Peer, message: dict[str, Any]) -> None:
        if message.get("type") == "hello":
            try:
                self._hello(peer, message)
            except Refusal as refusal:
                self._send(peer, {"type": "refused", "reason": str(refusal)})
            return
        try:
            command = self._commands.get(str(message.get("command")))
            if command is None:
                raise Refusal(f"commands are {', '.join(self._commands)}")
            self._send(peer, {"ok": True, "answer": command(message)})
        except Refusal as refusal:
            self._send(peer, {"ok": False, "error": str(refusal)})

    def _hello(self, peer: Peer, message: dict[str, Any]) -> None:
        end = message.get("end")
        if not isinstance(end, str) or not end:
            raise Refusal("hello without the name of the end")
        if end not in self.ends and len(self.ends) == 2:
            raise Refusal(f"both ends are taken, by {' and '.join(self.ends)}")
        peer.qber_alarm = _number(message, "qber_alarm", 0.0, 0.5)
        if end in self.ends and self.ends[end] is not peer:
            self._drop(self.ends[end])
        peer.end = end
        self.ends[end] = peer
        self.exchange.restart()
        self.exchange.qber_limit = min(other.qber_alarm for other in self.ends.values())

    # The exchange

    def interval(self) -> None:
        """One interval of light."""
        if len(self.ends) < 2:
            for peer in list(self.ends.values()):
                self._send(peer, {"type": "alone"})
            return
        for event in self.exchange.play(round(GYS.pulse_rate_hz * self.interval_s * self.speed)):
            self._tell(event)

    def _tell(self, event: Event) -> None:
        if isinstance(event, Batch):
            message = {
                "type": "batch",
                "pulses": event.pulses,
                "clicks": event.clicks,
                "sifted_bits": event.sifted_bits,
                "error_bits": event.error_bits,
                "distance_km": self.exchange.fibre.distance_km,
            }
        elif isinstance(event, Discarded):
            self.discarded += 1
            message = {"type": "discarded", "qber": event.qber, "secret_bits": event.secret_bits}
        else:
            self._tell_block(event)
            return
        for peer in list(self.ends.values()):
            self._send(peer, message)

    def _tell_block(self, block: NewBlock) -> None:
        self.blocks += 1
        for peer in list(self.ends.values()):
            message: dict[str, Any] = {
                "type": "block",
                "id": block.id,
                "length_bytes": block.length_bytes,
                "qber": block.qber,
            }
            if self.pattern:
                message["pattern"] = self.pattern.hex()
            if peer.mismatches > 0:
                peer.mismatches -= 1
                message["flip"] = block.id % (8 * block.length_bytes)
            self._send(peer, message, block.seed)
        wipe(block.seed)

    # Commands

    def status(self) -> dict[str, Any]:
        fibre = self.exchange.fibre
        expected_bps = 0.0 if fibre.cut else decoystate.key_rate_bps(GYS, fibre.distance_km, fibre.tapped)
        return {
            "ends": sorted(self.ends),
            "distance_km": fibre.distance_km,
            "tapped": fibre.tapped,
            "cut": fibre.cut,
            "speed": self.speed,
            "block_bytes": self.exchange.block_bytes,
            "blocks": self.blocks,
            "discarded": self.discarded,
            "expected_bps": expected_bps * self.speed,
            "pattern": self.pattern.hex(),
        }

    def _tap(self, arguments: dict[str, Any]) -> Any:
        self.exchange.fibre.tapped = _number(arguments, "fraction", 0.0, 1.0)
        return self.status()

    def _cut(self, arguments: dict[str, Any]) -> Any:
        self.exchange.fibre.cut = True
        return self.status()

    def _mend(self, arguments: dict[str, Any]) -> Any:
        self.exchange.fibre.cut = False
        return self.status()

    def _distance(self, arguments: dict[str, Any]) -> Any:
        self.exchange.fibre.distance_km = _number(arguments, "km", 0.0, 1000.0)
        return self.status()

    def _speed(self, arguments: dict[str, Any]) -> Any:
        self.speed = _number(arguments, "factor", 0.001, 1e6)
        return self.status()

    def _mismatch(self, arguments: dict[str, Any]) -> Any:
        end = self.ends.get(str(arguments.get("end")))
        if end is None:
            raise Refusal(f"end is one of {', '.join(self.ends) or 'none: nobody is connected'}")
        end.mismatches = int(_number({"blocks": 1, **arguments}, "blocks", 0, 1e6))
        return self.status()

    def _pattern(self, arguments: dict[str, Any]) -> Any:
        try:
            pattern = bytes.fromhex(str(arguments.get("hex", "")))
        except ValueError:
            raise Refusal("hex is an even number of hexadecimal digits") from None
        if len(pattern) > 1024:
            raise Refusal("a pattern has 1024 bytes at most")
        self.pattern = pattern
        return self.status()


def _number(arguments: dict[str, Any], name: str, low: float, high: float) -> float:
    value = arguments.get(name)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        raise Refusal(f"{name} is a number from {low:g} to {high:g}")
    return float(value)


def listen(address: str) -> socket.socket:
    """Raises OSError."""
    scheme, _, rest = address.partition(":")
    if scheme == "unix":
        Path(rest).unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(rest)
        listener.listen(16)
    else:
        target = parse_socket_address(rest)
        listener = socket.create_server((target.host, target.port))
    listener.setblocking(False)
    return listener


def parser() -> argparse.ArgumentParser:
    arguments = argparse.ArgumentParser(prog="qbb-fibre", description="A simulated fibre between two QKD devices.")
    add = arguments.add_argument
    add("--socket", required=True, help="unix:/path or tcp:host:port where the ends connect")
    add("--distance-km", type=float, default=25.0)
    add("--speed", type=float, default=1.0, help="multiplies the pulse rate")
    add("--interval-s", type=float, default=1.0, help="how often the ends hear of counts")
    add("--block-bytes", type=int, default=4096, help="size of blocks, a multiple of 8")
    add("--seed", type=int, help="repeatable statistics and blocks (tests)")
    add("--ask", nargs="+", metavar="WORD", help="send a command to a running fibre: NAME key=value ...")
    return arguments


def _ask(address: str, words: list[str]) -> int:
    def value(text: str) -> Any:
        with contextlib.suppress(ValueError):
            return float(text)
        return text

    pairs = [word.partition("=") for word in words[1:]]
    arguments = {key: text if key in ("hex", "end") else value(text) for key, _, text in pairs}
    try:
        print(json.dumps(ask(address, words[0], **arguments), indent=2))
    except (OSError, ValueError, WireError) as error:
        print(f"qbb-fibre: {address}: {error}", file=sys.stderr)
        return 1
    return 0


def main(words: list[str] | None = None) -> int:
    options = parser().parse_args(words)
    if options.ask:
        return _ask(options.socket, options.ask)
    if options.block_bytes % 8 or not 64 <= options.block_bytes <= 1 << 20:
        parser().error("--block-bytes is a multiple of 8 from 64 to 1048576")
    if not (math.isfinite(options.speed) and options.speed > 0 and options.interval_s > 0):
        parser().error("--speed and --interval-s are positive")
    random = Random(options.seed)
    token = secrets.token_bytes if options.seed is None else random.randbytes
    # Milliseconds since 1970 in the upper bits: ids go on rising over restarts, at up to 2^20 blocks a
    # millisecond.
    first_id = time.time_ns() // 1_000_000 << 20
    exchange = Exchange(random, token, first_id, options.block_bytes, fibre=Fibre(options.distance_km))
    stop: list[int] = []

    def stopped(number: int, frame: FrameType | None) -> None:
        stop.append(number)

    signal.signal(signal.SIGTERM, stopped)
    signal.signal(signal.SIGINT, stopped)
    try:
        listener = listen(options.socket)
    except (OSError, ValueError) as error:
        print(f"qbb-fibre: cannot listen at {options.socket}: {error}", file=sys.stderr)
        return 1
    print(f"qbb-fibre: {options.distance_km:g} km at {options.socket}", flush=True)
    Server(listener, exchange, options.speed, options.interval_s).run(lambda: bool(stop))
    return 0


if __name__ == "__main__":
    sys.exit(main())
