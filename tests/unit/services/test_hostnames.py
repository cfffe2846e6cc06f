"""What the C library answers to the lookup of a name. (Questions and their thread: test_linkchannel.py.)"""

from __future__ import annotations

import socket
from typing import Any

import pytest

from appliance.services import hostnames


def answers(monkeypatch: pytest.MonkeyPatch, by_family: dict[socket.AddressFamily, Any]) -> None:
    def getaddrinfo(name: bytes, port: None, family: socket.AddressFamily, kind: socket.SocketKind) -> Any:
        found = by_family[family]
        if isinstance(found, OSError):
            raise found
        return [(family, kind, 17, "", (address, 0)) for address in found]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


def test_a_lookup_gives_each_address_once_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    answers(monkeypatch, {socket.AF_INET: ["192.0.2.2", "192.0.2.1", "192.0.2.2"]})
    assert hostnames.lookup("vienna.example", socket.AF_INET) == ("192.0.2.2", "192.0.2.1")


@pytest.mark.parametrize("number", [socket.EAI_NONAME, socket.EAI_NODATA, socket.EAI_ADDRFAMILY])
def test_a_name_of_the_other_family_alone_is_told_as_that(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    unknown = socket.gaierror(number, "No address associated with hostname")
    answers(monkeypatch, {socket.AF_INET6: unknown, socket.AF_UNSPEC: ["192.0.2.2"]})
    told = hostnames.resolve(["vienna.example"], socket.AF_INET6, hostnames.lookup)
    assert isinstance(told, hostnames.NotResolved)
    assert str(told).endswith("is not resolved: it has no IPv6 address, as listen is one, but 192.0.2.2")


def test_a_name_that_nobody_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    unknown = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    answers(monkeypatch, {socket.AF_INET: unknown, socket.AF_UNSPEC: unknown})
    with pytest.raises(socket.gaierror, match="not known"):
        hostnames.lookup("vienna.example", socket.AF_INET)


def test_name_servers_that_are_silent_are_not_asked_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    silent = socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
    answers(monkeypatch, {socket.AF_INET: silent})  # another family would be a KeyError
    with pytest.raises(socket.gaierror, match="Temporary"):
        hostnames.lookup("vienna.example", socket.AF_INET)


@pytest.mark.parametrize("name", ["a..b", "x" * 70])
def test_what_no_name_may_be_like_is_an_error_like_any_other(name: str) -> None:
    with pytest.raises(OSError):
        hostnames.lookup(name, socket.AF_INET)
