"""Kinds of values: how each is written in TOML, what it becomes in Python, and how it is printed again.

A kind's `parse` takes what the TOML reader gives and raises WrongValue; `show` gives TOML text that parses
back to the same value. Quantities: a bare number in the base unit (byte, second, bit/s) or text with a unit.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from ipaddress import AddressValueError, IPv4Address, IPv4Network, IPv6Address, NetmaskValueError
from pathlib import Path
from typing import Any

from appliance.configuration.errors import WrongValue
from appliance.network.address import LINK_PREFIX_BITS, area_name, why_not_node

SIZE_UNITS = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
DURATION_UNITS = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1, "min": 60, "h": 3600, "d": 86400}
RATE_UNITS = {"bit/s": 1, "kbit/s": 10**3, "Mbit/s": 10**6, "Gbit/s": 10**9}
DERIVED_COST = "derived"
LONGEST_PATTERN_BYTES = 256
MOST_COST = 65534  # 65535 says in OSPF: not for transit (RFC 6987)
NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?")
HOST_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")
QUANTITY = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z/]*)", re.ASCII)


@dataclass(frozen=True)
class Kind:
    """`word` names the kind in the manual; `expects` ends the sentence "... is wanted"."""

    word: str
    expects: str
    parse: Callable[[Any], Any]
    show: Callable[[Any], str]


@dataclass(frozen=True)
class SocketAddress:
    """host:port; an IPv6 host stands in brackets."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True)
class PortRange:
    """QKD application ports, both ends included."""

    first: int
    last: int

    def __contains__(self, port: int) -> bool:
        return self.first <= port <= self.last

    def __str__(self) -> str:
        return str(self.first) if self.first == self.last else f"{self.first}-{self.last}"


def quote(text: object) -> str:
    """A TOML basic string. JSON's escapes are TOML's, except DEL and non-ASCII, which stand as they are."""
    return json.dumps(str(text), ensure_ascii=False).replace("\x7f", "\\u007f")


def text_of(value: object) -> str:
    if not isinstance(value, str):
        raise WrongValue(f"{shorten(value)} is not a text")
    if not value or value != value.strip() or not value.isprintable():
        raise WrongValue(f"{shorten(value)} is empty, padded with blanks or not printable")
    return value


def shorten(value: object) -> str:
    """The bad value as people recognise it, never long."""
    try:
        shown = quote(value) if isinstance(value, str) else str(value)
    except (ValueError, RecursionError):
        shown = f"a {type(value).__name__}"
    return shown if len(shown) <= 60 else shown[:57] + "..."


def _quantity(value: object, units: Mapping[str, float], base: str) -> int | float:
    """A quantity in the base unit: int where it is whole."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        number: int | float = value
    else:
        match = QUANTITY.fullmatch(text_of(value))
        if match is None:
            raise WrongValue(f"{shorten(value)} is not a number with a unit")
        if match[2] not in units:
            raise WrongValue(f"{shorten(value)} has no unit of {', '.join(units)}")
        exact = Decimal(match[1]) * Decimal(str(units[match[2]]))
        number = int(exact) if exact == exact.to_integral_value() else float(exact)
    if isinstance(number, float) and not math.isfinite(number):
        raise WrongValue(f"{shorten(value)} is not finite")
    return number


def _within(number: int | float, low: int | float, high: int | float, show: Callable[[Any], str]) -> None:
    if not low <= number <= high:
        raise WrongValue(f"{shorten(number)} is out of range", f"{show(low)} to {show(high)} is allowed")


def _show_scaled(units: Mapping[str, int]) -> Callable[[int], str]:
    def show(number: int) -> str:
        unit = (
            max((u for u in units if number % units[u] == 0), key=lambda u: units[u]) if number else next(iter(units))
        )
        return quote(f"{number // units[unit]} {unit}")

    return show


def _whole(word: str, example: str, units: dict[str, int], low: int, high: int) -> Kind:
    show = _show_scaled(units)

    def parse(value: object) -> int:
        number = _quantity(value, units, next(iter(units)))
        if isinstance(number, float):
            raise WrongValue(f"{shorten(value)} is not whole")
        _within(number, low, high, show)
        return number

    return Kind(word, f"a {word} such as {quote(example)} is wanted", parse, show)


def size(low: int, high: int) -> Kind:
    """Bytes, as int."""
    return _whole("size", "64 KiB", SIZE_UNITS, low, high)


def rate(low: int, high: int) -> Kind:
    """Bits a second, as int."""
    return _whole("rate", "10 kbit/s", RATE_UNITS, low, high)


def duration(low: float, high: float) -> Kind:
    """Seconds, as float."""

    def show(seconds: float) -> str:
        return quote(f"{Decimal(repr(float(seconds))):f} s")

    def parse(value: object) -> float:
        try:
            number = float(_quantity(value, DURATION_UNITS, "s"))
        except OverflowError:
            number = math.inf
        _within(number, low, high, lambda bound: show(bound).strip('"'))
        return number

    return Kind("duration", 'a duration such as "2 s" is wanted', parse, show)


def integer(low: int, high: int) -> Kind:
    def parse(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise WrongValue(f"{shorten(value)} is not a whole number")
        _within(value, low, high, str)
        return value

    return Kind("number", f"a whole number from {low} to {high} is wanted", parse, str)


def fraction(low: float, high: float) -> Kind:
    def parse(value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise WrongValue(f"{shorten(value)} is not a number")
        _within(value, low, high, str)
        return float(value)

    return Kind("fraction", f"a number from {low} to {high} is wanted", parse, lambda value: repr(float(value)))


def choice(*allowed: str) -> Kind:
    listed = " or ".join(quote(word) for word in allowed)

    def parse(value: object) -> str:
        if value not in allowed or not isinstance(value, str):
            raise WrongValue(f"{shorten(value)} is not known")
        return value

    return Kind("choice", f"{listed} is wanted", parse, quote)


def _parse_name(value: object) -> str:
    if not NAME.fullmatch(text_of(value)):
        raise WrongValue(f"{shorten(value)} cannot be a name")
    return str(value)


def _parse_namespace(value: object) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", text_of(value), re.ASCII):
        raise WrongValue(f"{shorten(value)} cannot be the name of a network namespace that FRR takes")
    return str(value)


def _parse_account(value: object) -> str:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.-]{0,30}\$?", text_of(value), re.ASCII):
        raise WrongValue(f"{shorten(value)} cannot be a user or group name")
    return str(value)


def _parse_node_address(value: object) -> IPv4Address:
    try:
        address = IPv4Address(text_of(value))
    except AddressValueError:
        raise WrongValue(f"{shorten(value)} is not an IPv4 address") from None
    if (trouble := why_not_node(address)) is not None:
        raise WrongValue(f"{address} cannot be a node's address: {trouble}")
    return address


def _parse_prefix(value: object) -> IPv4Network:
    try:
        return IPv4Network(text_of(value))
    except (AddressValueError, NetmaskValueError):
        raise WrongValue(f"{shorten(value)} is not an IPv4 prefix") from None
    except ValueError:
        raise WrongValue(f"{shorten(value)} has host bits set") from None


def _parse_link_network(value: object) -> IPv4Network:
    network = _parse_prefix(value)
    if network.prefixlen != LINK_PREFIX_BITS:
        raise WrongValue(f"{network} is not a /{LINK_PREFIX_BITS}")
    for address in network.hosts():
        if (trouble := why_not_node(address)) is not None:
            raise WrongValue(f"{network} cannot be a link's network: {trouble}")
    return network


def _parse_area(value: object) -> IPv4Address:
    try:
        address = IPv4Address(text_of(value))
    except AddressValueError:
        raise WrongValue(f"{shorten(value)} is not an area") from None
    if address != area_name(address):
        raise WrongValue(f"{address} does not end in .0.0", f"the area of {address} is {area_name(address)}")
    return address


def _parse_cost(value: object) -> int | str:
    if value == DERIVED_COST:
        return DERIVED_COST
    if isinstance(value, bool) or not isinstance(value, int):
        raise WrongValue(f"{shorten(value)} is not a cost")
    _within(value, 1, MOST_COST, str)
    return value


def parse_socket_address(value: object) -> SocketAddress:
    match = re.fullmatch(r"(?:\[([^\]]+)\]|([^:\[\]]+)):([0-9]{1,5})", text_of(value), re.ASCII)
    if match is None:
        raise WrongValue(f"{shorten(value)} is not host:port")
    host, port = match[1] or match[2], int(match[3])
    if not (_is_ipv6(host) if match[1] else HOST_NAME.fullmatch(host)):
        raise WrongValue(f"{shorten(value)} has no usable host")
    if not 1 <= port <= 65535:
        raise WrongValue(f"port {port} is out of range", "1 to 65535 is allowed")
    return SocketAddress(host, port)


def _is_ipv6(host: str) -> bool:
    try:
        IPv6Address(host)
    except AddressValueError:
        return False
    return True


def _parse_channel_address(value: object) -> SocketAddress:
    """Nothing binds a channel's socket to a network card, as a link-local address would need (RFC 4007)."""
    address = parse_socket_address(value)
    if ":" in address.host and ("%" in address.host or IPv6Address(address.host).is_link_local):
        raise WrongValue(
            f"{shorten(value)} is good on one network card only",
            'a global address such as "[2001:db8::1]:7301", or a unique local one (fd00::/8), is wanted',
        )
    return address


def _parse_path(value: object) -> Path:
    path = Path(text_of(value))
    if not path.is_absolute() or ".." in path.parts:
        raise WrongValue(f"{shorten(value)} is not an absolute path")
    return path


def _parse_fibre(value: object) -> str:
    scheme, _, rest = text_of(value).partition(":")
    if scheme == "unix":
        return f"unix:{_parse_path(rest)}"
    if scheme == "tcp":
        return f"tcp:{parse_socket_address(rest)}"
    raise WrongValue(f"{shorten(value)} is neither unix: nor tcp:")


def _parse_boolean(value: object) -> bool:
    if not isinstance(value, bool):
        raise WrongValue(f"{shorten(value)} is neither true nor false")
    return value


def _parse_mode(value: object) -> int:
    if not isinstance(value, str) or not re.fullmatch(r"0?[0-7]{3}", value, re.ASCII):
        raise WrongValue(f"{shorten(value)} is not a file mode")
    return int(value, 8)


def _parse_port_range(value: object) -> PortRange:
    match = (
        re.fullmatch(r"([0-9]{1,5})(?:-([0-9]{1,5}))?", str(value), re.ASCII) if not isinstance(value, bool) else None
    )
    if match is None:
        raise WrongValue(f"{shorten(value)} is neither a port nor first-last")
    first, last = int(match[1]), int(match[2] or match[1])
    if not 1 <= first <= last <= 65535:
        raise WrongValue(f"{shorten(value)} is not an increasing range of ports from 1 to 65535")
    return PortRange(first, last)


def _parse_pattern(value: object) -> str:
    if len(text_of(value).encode(errors="replace")) > LONGEST_PATTERN_BYTES:
        raise WrongValue(f"{shorten(value)} is too long for an application's name")
    return str(value)


def several(of: Kind, expects: str) -> Kind:
    """A list of values of one kind; becomes a tuple."""

    def parse(value: object) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise WrongValue(f"{shorten(value)} is not a list")
        return tuple(of.parse(item) for item in value)

    def show(values: tuple[Any, ...]) -> str:
        return f"[{', '.join(of.show(item) for item in values)}]"

    return Kind(f"list of {of.word}{'es' if of.word.endswith('s') else 's'}", expects, parse, show)


name = Kind("name", "lower-case letters, digits and hyphens are wanted, 32 at most", _parse_name, quote)
namespace = Kind("namespace", 'letters, digits, hyphens and underscores are wanted, 64 at most, such as "qbb-routing"',
                 _parse_namespace, quote)  # fmt: skip
account = Kind("account", 'an account\'s name such as "charon" is wanted', _parse_account, quote)
node_address = Kind("address", 'a node\'s address such as "1.1.1.2" is wanted', _parse_node_address, quote)
prefix = Kind("prefix", 'a prefix such as "1.1.2.0/24" is wanted', _parse_prefix, quote)
link_network = Kind("network", 'a /30 such as "1.1.128.4/30" is wanted', _parse_link_network, quote)
area = Kind("area", 'an area\'s name such as "1.1.0.0", or "0.0.0.0", is wanted', _parse_area, quote)
cost = Kind("cost", f'a whole number from 1 to {MOST_COST} or "{DERIVED_COST}" is wanted', _parse_cost,
            lambda value: quote(value) if isinstance(value, str) else str(value))  # fmt: skip
channel_address = Kind("socket", 'host:port such as "192.0.2.1:7301" is wanted', _parse_channel_address, quote)
path = Kind("path", 'an absolute path such as "/var/lib/qbb" is wanted', _parse_path, quote)
fibre = Kind("fibre", '"unix:/path" or "tcp:host:port" is wanted', _parse_fibre, quote)
mode = Kind("mode", 'a file mode such as "0660" is wanted', _parse_mode, lambda value: quote(f"{value:04o}"))
boolean = Kind("boolean", "true or false is wanted", _parse_boolean, lambda value: str(value).lower())
port_range = Kind("port range", "", _parse_port_range, lambda value: quote(value))
pattern = Kind("pattern", "", _parse_pattern, quote)
names = several(pattern, 'a list of names such as ["web", "vpn-*"] is wanted')
ports = several(port_range, 'a list of ports such as [7000, "7100-7199"] is wanted')
