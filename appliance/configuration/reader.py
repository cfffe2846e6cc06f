"""TOML text to NodeConfig, by the schema. Collects every problem before it gives up."""

from __future__ import annotations

import difflib
import os
import stat
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from appliance.configuration import schema
from appliance.configuration.errors import ConfigurationErrors, Problem, WrongValue
from appliance.configuration.lines import Place, line_of, locate
from appliance.configuration.model import (
    BACKBONE,
    ClientRule,
    DeviceConfig,
    ForwardingConfig,
    InterfaceConfig,
    KeysConfig,
    LinkConfig,
    NodeConfig,
    RouteConfig,
    RoutingConfig,
    SiteConfig,
)
from appliance.configuration.table import REQUIRED, Derived, Setting, Table
from appliance.configuration.values import shorten
from appliance.network.address import node_network

BUILDERS: dict[str, type[Any]] = {
    "device": DeviceConfig,
    "link": LinkConfig,
    "forwarding": ForwardingConfig,
    "route": RouteConfig,
    "routing": RoutingConfig,
    "client": ClientRule,
    "keys": KeysConfig,
    "interface": InterfaceConfig,
    "site": SiteConfig,
}
MISSING = object()
CREDSTORE = Path("/etc/credstore")  # see systemd.exec(5), ImportCredential=


class Reader:
    """Reads one document; `problems` fills up on the way. `builders` by name of table; the others become dict."""

    def __init__(self, text: str, source: str, builders: Mapping[str, type[Any]] = BUILDERS) -> None:
        self.source = source
        self.builders = builders
        self.lines = locate(text)
        self.problems: list[Problem] = []
        self.tables_at: dict[str, int] = {}  # line of each table by its label

    def complain(self, place: Place, label: str, wrong: str, right: str) -> None:
        self.problems.append(Problem(label, wrong, right, self.source, line_of(self.lines, place)))

    def placed(self, label: str, wrong: str, right: str) -> Problem:
        """A problem of a table that has been read, or of a setting in it."""
        line = self.tables_at.get(label) or self.tables_at.get(label.rpartition(".")[0], 0)
        return Problem(label, wrong, right, self.source, line)

    def tables(self, parent: Mapping[str, Any], table: Table, place: Place, label: str) -> Any:
        """The parsed table (None when anything in it is wrong), or the good ones where many are allowed."""
        value = parent.get(table.name, [] if table.many else {})
        place = (*place, table.name)
        label = f"{label}.{table.name}" if label else table.name
        if not table.many:
            return self.table(value, table, place, label)
        if not isinstance(value, list):
            self.complain(place, label, "is not a list of tables", f"[[{table.name}]] is wanted")
            return ()
        if table.needed and not value:
            self.complain(place, label, "there is none", f"at least one [[{table.name}]] is wanted")
        read = [
            self.table(item, table, (*place, position), self._named(label, item, position))
            for position, item in enumerate(value)
        ]
        return tuple(item for item in read if item is not None)

    @staticmethod
    def _named(label: str, item: object, position: int) -> str:
        name = item.get("name") if isinstance(item, dict) else None
        return f"{label} {shorten(name)}" if isinstance(name, str) else f"{label} number {position + 1}"

    def table(self, raw: object, table: Table, place: Place, label: str) -> Any:
        if not isinstance(raw, dict):
            self.complain(place, label, f"{shorten(raw)} is not a table", f"[{table.name}] is wanted")
            return None
        before = len(self.problems)
        self.tables_at[label] = line_of(self.lines, place)
        self.unknown(raw, [s.name for s in table.settings] + [t.name for t in table.tables], place, label)
        read: dict[str, Any] = {}
        for setting in table.settings:
            value = self._setting(raw, setting, place, label)
            if value is not MISSING:
                read[setting.name] = value
        for inner in table.tables:
            read[inner.field] = self.tables(raw, inner, place, label)
        if len(self.problems) > before:
            return None
        for setting in table.settings:
            if isinstance(read[setting.name], Derived):
                read[setting.name] = read[setting.name].compute(read)
        for rule in table.rules:
            for name, wrong, right in rule(read):
                self.complain((*place, name), f"{label}.{name}" if name else label, wrong, right)
        return self.builders.get(table.name, dict)(**read)

    def _setting(self, raw: Mapping[str, Any], setting: Setting, place: Place, label: str) -> Any:
        where = f"{label}.{setting.name}"
        if setting.name not in raw:
            if setting.default is REQUIRED:
                self.complain(place, where, "is missing", setting.kind.expects)
                return MISSING
            return setting.default
        try:
            return setting.kind.parse(raw[setting.name])
        except WrongValue as error:
            self.complain((*place, setting.name), where, error.wrong, error.right or setting.kind.expects)
            return MISSING

    def unknown(self, raw: Mapping[str, Any], known: list[str], place: Place, label: str) -> None:
        for key in raw:
            if key not in known:
                close = difflib.get_close_matches(key, known, 1)
                right = f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}"
                where = f"{label}.{key}" if label else key
                self.complain((*place, key), where[:120], "is not known", right)


def duplicates(owned: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str, str]]:
    """Of (label of the owner, what it claims) the claims made before."""
    seen: dict[str, str] = {}
    for label, claim in owned:
        if claim in seen:
            yield label, f"{claim} is taken already", f"it is that of {seen[claim]}"
        seen.setdefault(claim, label)


def _across(read: Mapping[str, Any], document: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """What only several tables together can show, of those that could be read: (label, wrong, right)."""
    links = [(f'link "{link.name}"', link) for link in read["link"]]
    rules = read["keys"].clients if read["keys"] is not None else ()
    yield from duplicates((label, f"name {link.name}") for label, link in links)
    yield from duplicates((label, f"peer {link.peer}") for label, link in links)
    yield from duplicates((label, f"listen {link.channel} {link.listen}") for label, link in links)
    yield from duplicates(
        (f'{label}.device "{device.name}"', f"name {device.name}") for label, link in links for device in link.devices
    )
    yield from duplicates((f'keys.client "{rule.name}"', f"name {rule.name}") for rule in rules)
    for label, link in links:
        if read["node"] is not None and link.peer == read["node"]["address"]:
            yield f"{label}.peer", f"{link.peer} is this node", "the neighbour's node address is wanted"
    if len(links) == len(raw_tables(document, "link")):
        yield from _routed(read)
    if read["site"] is not None:
        yield from _interfaces(read["site"].interfaces)
    names = [link.get("name") for link in raw_tables(document, "link")]
    listed = ", ".join(str(name) for name in names)
    default = read["forwarding"].default_link if read["forwarding"] is not None else None
    if default is not None and default not in names:
        yield "forwarding.default_link", f"there is no link {shorten(default)}", f"links are {listed}"
    for position, route in enumerate(raw_tables(document, "route"), 1):
        if isinstance(route.get("link"), str) and route["link"] not in names:
            yield f"route number {position}", f"there is no link {shorten(route['link'])}", f"links are {listed}"


def _interfaces(interfaces: tuple[InterfaceConfig, ...]) -> Iterator[tuple[str, str, str]]:
    labelled = [(f'site.interface "{own.name}"', own) for own in interfaces]
    yield from duplicates((label, f"name {own.name}") for label, own in labelled)
    yield from duplicates((label, f"interface {own.device or own.mac}") for label, own in labelled)
    yield from duplicates((label, f"address {address.ip}") for label, own in labelled for address in own.addresses)


def _routed(read: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Networks of links, and whether areas and role go together."""
    if read["node"] is None or read["routing"] is None:
        return
    role, own = read["routing"].role, read["routing"].area
    taken = [(node_network(read["node"]["address"]), "the node's own network")]
    areas = {own}
    for link in read["link"]:
        if link.network is None:
            continue
        areas.add(link.area if link.area is not None else own)
        for network, whose in taken:
            if link.network.overlaps(network):
                yield f'link "{link.name}".network', f"{link.network} is taken already", f"it is that of {whose}"
        taken.append((link.network, f'link "{link.name}"'))
    listed = ", ".join(str(area) for area in sorted(areas))
    if len(areas) > 1 and role != "border":
        yield "routing.role", f'"{role}" with areas {listed}', 'a node in several areas is a "border" node'
    if role == "border" and (len(areas) < 2 or BACKBONE not in areas):
        yield "routing.role", f'"border" with areas {listed}', f"an area besides the backbone {BACKBONE} is wanted"


def raw_tables(document: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """As written, also those that could not be read."""
    found = document.get(name)
    return [item if isinstance(item, dict) else {} for item in found] if isinstance(found, list) else []


def parse(text: str, source: str = "") -> NodeConfig:
    """Raises ConfigurationErrors with all problems found."""
    document = toml(text, source)
    reader = Reader(text, source)
    reader.unknown(document, [table.name for table in schema.TABLES], (), "")
    read = {table.name: reader.tables(document, table, (), "") for table in schema.TABLES}
    reader.problems += [reader.placed(*problem) for problem in _across(read, document)]
    if reader.problems:
        raise ConfigurationErrors(reader.problems)
    return NodeConfig(
        **read["node"],
        links=read["link"],
        forwarding=read["forwarding"],
        routes=read["route"],
        routing=read["routing"],
        keys=read["keys"],
        site=read["site"],
        source=source,
    )


def toml(text: str, source: str) -> dict[str, Any]:
    """Raises ConfigurationErrors."""
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigurationErrors([_syntax_problem(error, source)]) from None


def _syntax_problem(error: Exception, source: str) -> Problem:
    if isinstance(error, tomllib.TOMLDecodeError):
        return Problem("", f"not TOML: {error}", "see https://toml.io", source)
    return Problem("", "not TOML: a number is too long or a value is nested too deep", "", source)


def load(path: str | Path) -> NodeConfig:
    """Reads the file. Raises ConfigurationErrors, also when it cannot be read."""
    return parse(text_of(path), str(path))


def text_of(path: str | Path) -> str:
    """What the file says. Raises ConfigurationErrors."""
    try:
        return Path(path).read_bytes().decode()
    except UnicodeDecodeError as error:
        raise ConfigurationErrors([Problem("", f"byte {error.start} is not UTF-8", "", str(path))]) from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        right = "write it: man qbb-node.toml says what stands in it" if isinstance(error, FileNotFoundError) else ""
        raise ConfigurationErrors([Problem("", f"cannot be read: {reason}", right, str(path))]) from None


def credential(link: LinkConfig) -> str:
    """Name of the systemd credential that holds the link's secret."""
    return f"qbb.link.{link.name}"


def secret_path(link: LinkConfig, environment: Mapping[str, str] = os.environ) -> Path | None:
    """The link's secret: the unit's credential, else the configured file, else, for root outside of a unit, what
    systemd makes the credential of; None when there is none of them."""
    directory = environment.get("CREDENTIALS_DIRECTORY")
    if directory and (given := Path(directory) / credential(link)).exists():
        return given
    stored = CREDSTORE / credential(link)
    return link.secret or (stored if os.access(stored, os.F_OK) else None)


def check_secrets(config: NodeConfig) -> list[Problem]:
    """Problems of the configured secret files (credentials are systemd's affair)."""
    named = [(f'link "{link.name}".secret', str(link.secret)) for link in config.links if link.secret is not None]
    problems = [
        Problem(label, wrong, f"{right}: each link wants one of its own, made by qbb link secret", config.source)
        for label, wrong, right in duplicates(named)
    ]
    for link in config.links:
        if link.secret is None:
            continue
        wrong, right = _secret_fault(link.secret)
        if wrong:
            problems.append(Problem(f'link "{link.name}".secret', f"{link.secret} {wrong}", right, config.source))
    return problems


def _secret_fault(path: Path) -> tuple[str, str]:
    try:
        status = path.stat()
    except FileNotFoundError:
        return "does not exist", f"make it by qbb link secret --out {path} and carry it to the other end"
    except OSError as error:
        return f"cannot be looked at: {error.strerror}", "run qbb check as root or as the unit's user"
    if not stat.S_ISREG(status.st_mode):
        return "is not a regular file", "the file made by qbb link secret is wanted"
    if status.st_mode & 0o077:
        return f"has mode {stat.S_IMODE(status.st_mode):04o}", f"chmod 0600 {path}"
    return "", ""
