"""Host names: looked up in a thread, since the C library waits for many seconds for name servers that are silent.

The loop goes on meanwhile. No question lasts for ever: the C library gives up by itself.
"""

from __future__ import annotations

import errno
import os
import socket
import threading
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address

from appliance.services.runtime import Loop

Found = dict[str, tuple[str, ...]]
Lookup = Callable[[str, socket.AddressFamily], tuple[str, ...]]
KINDS = {socket.AF_INET: "IPv4", socket.AF_INET6: "IPv6"}
UNKNOWN = (socket.EAI_NONAME, socket.EAI_NODATA, socket.EAI_ADDRFAMILY)


class NotResolved(Exception):
    """Which name, and why, for people."""


class Question:
    """For the addresses of some names. ``heard`` is called by the loop, once, unless the question is forgotten."""

    def __init__(
        self,
        loop: Loop,
        names: Sequence[str],
        family: socket.AddressFamily,
        lookup: Lookup,
        heard: Callable[[Found | NotResolved], None],
    ) -> None:
        self._loop, self._heard = loop, heard
        self._answer: Found | NotResolved = NotResolved(f"name {names[0]} is not resolved: no thread can be started")
        self._reading, writing = os.pipe2(os.O_CLOEXEC)
        loop.watch(self._reading, self._answered)
        # A daemon: who stops does not wait for name servers.
        thread = threading.Thread(target=self._ask, args=(names, family, lookup, writing), daemon=True)
        try:
            thread.start()
        except RuntimeError:
            os.close(writing)

    def _ask(self, names: Sequence[str], family: socket.AddressFamily, lookup: Lookup, writing: int) -> None:
        """In the thread. That its end of the pipe closes wakes the loop, and it has no other descriptor to mistake."""
        try:
            self._answer = resolve(names, family, lookup)
        finally:
            os.close(writing)

    def _answered(self, events: int) -> None:
        self.forget()
        self._heard(self._answer)

    def forget(self) -> None:
        """The thread ends by itself, unheard. Only while there is no answer."""
        self._loop.forget(self._reading)
        os.close(self._reading)


def resolve(names: Sequence[str], family: socket.AddressFamily, lookup: Lookup) -> Found | NotResolved:
    found: Found = {}
    for name in names:
        try:
            found[name] = lookup(name, family)
        except OSError as error:
            return NotResolved(f"name {name} is not resolved: {error.strerror or error}")
    return found


def lookup(name: str, family: socket.AddressFamily) -> tuple[str, ...]:
    """Its addresses of that family, the one to take first. Raises OSError."""
    try:
        return _addresses(name, family)
    except socket.gaierror as error:
        others = _others(name) if error.errno in UNKNOWN else ()
        if not others:
            raise
    raise OSError(errno.EADDRNOTAVAIL, f"it has no {KINDS[family]} address, as listen is one, but {', '.join(others)}")


def _others(name: str) -> tuple[str, ...]:
    try:
        return _addresses(name, socket.AF_UNSPEC)
    except socket.gaierror:
        return ()


def _addresses(name: str, family: socket.AddressFamily) -> tuple[str, ...]:
    """As bytes, since Python refuses some texts as names by an exception of its own, before the C library may."""
    found = socket.getaddrinfo(name.encode(), None, family, socket.SOCK_DGRAM)
    return tuple(dict.fromkeys(str(address[0]) for *_, address in found))


def numeric(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def plain(address: str) -> IPv4Address | IPv6Address:
    """To be compared: however it is written, and IPv4 as itself where a socket of IPv6 shows it."""
    parsed = ip_address(address)
    return (parsed.ipv4_mapped if isinstance(parsed, IPv6Address) else None) or parsed
