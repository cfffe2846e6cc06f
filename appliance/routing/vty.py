"""Commands to a running ospfd over its vty socket: what vtysh would say, without starting it.

A command ends with a NUL byte. Its answer is text, then three NUL bytes and a status byte.
"""

from __future__ import annotations

from collections.abc import Sequence

from appliance.network.errors import LocalProtocolError, RemoteProtocolError

END = b"\0\0\0"
LONGEST_ANSWER_BYTES = 1 << 24
SUCCESS, WARNING = 0, 1  # CMD_SUCCESS, CMD_WARNING of FRR's lib/command.h


def request(command: str) -> bytes:
    """Raises LocalProtocolError for what is not one line."""
    if not command.isprintable() or not command.isascii():
        raise LocalProtocolError(f"{command[:40]!r} is not one line of a command")
    return command.encode() + b"\0"


def answer(received: bytes) -> tuple[str, int] | None:
    """(text, status) when the answer is whole, None when more is to come. Raises RemoteProtocolError: vty-long."""
    if len(received) > LONGEST_ANSWER_BYTES:
        raise RemoteProtocolError("vty-long", f"{len(received)} bytes")
    if len(received) <= len(END) or received[-1 - len(END) : -1] != END:
        return None
    return received[: -1 - len(END)].decode("utf-8", "replace"), received[-1]


def set_costs(costs: Sequence[tuple[str, int]]) -> list[str]:
    """The commands that give interfaces their costs: (interface, cost)."""
    commands = ["enable", "configure terminal"]
    for interface, cost in costs:
        commands += [f"interface {interface}", f"ip ospf cost {cost}"]
    return [*commands, "end"]


def set_external(on: bool) -> list[str]:
    """Makes the node an AS boundary router, or not, by redistributing the static routes that it does not have."""
    return ["enable", "configure terminal", "router ospf", f"{'' if on else 'no '}redistribute static", "end"]
