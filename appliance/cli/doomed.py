"""What zeroize will destroy. Found by the node file, and without one that loads by what a node has by default."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from appliance import config
from appliance.cli.asking import Failed
from appliance.configuration.reader import raw_tables, text_of, toml
from appliance.configuration.values import NAME

# Where systemd looks for credentials: systemd.exec(5), ImportCredential=.
CREDSTORES = tuple(Path(folder, name) for folder in ("/etc", "/run") for name in ("credstore", "credstore.encrypted"))
MACHINES_OWN = Path("/etc/qbb/node.toml")  # the units know no other: what is in the credstores is this node's
STATE, RUNTIME = Path("/var/lib/qbb"), Path("/run/qbb")
CREDENTIAL = "qbb.link."
NO_LINK = "-"  # of a secret whose name no link can have


@dataclass(frozen=True)
class Secret:
    """A file with a secret of a link, also one that is there no more."""

    link: str
    path: Path


@dataclass(frozen=True)
class Doomed:
    """What will be destroyed: the directory of each link that has one, the link secrets that are there."""

    node: str  # its name; the machine's where that is not known
    state: Path
    runtime: Path
    stores: tuple[Path, ...]
    secrets: tuple[Secret, ...]
    trouble: str = ""  # why the node file could not be used

    @property
    def stored_bytes(self) -> int:
        return sum(file.stat().st_size for store in self.stores for file in store.glob("blocks/*"))

    @property
    def key_stores(self) -> Path:
        return key_stores(self.state)


def key_stores(state: Path) -> Path:
    return state / "dataplane"


def doomed(path: Path) -> Doomed:
    """Raises Failed where nobody can know what is meant."""
    try:
        node = config.load(path)
    except config.ConfigurationErrors as errors:
        listed = "\n".join(str(problem) for problem in errors.problems)
        if not _is_machines_own(path):
            raise Failed(listed, f"qbb --config {path} check shows all problems") from None
        return _without_node_file(path, listed)
    named = [Secret(link.name, link.secret) for link in node.links if link.secret is not None]
    stored = _all_stored() if _is_machines_own(path) else _stored([link.name for link in node.links])
    return _found(node.name, node.state_directory, node.runtime_directory, named + stored)


def _without_node_file(path: Path, trouble: str) -> Doomed:
    """Whoever zeroizes in need has no time to mend it. What can be read of it is heeded."""
    try:
        document = toml(text_of(path), str(path))
    except config.ConfigurationErrors:
        document = {}
    raw = document.get("node")
    node = raw if isinstance(raw, dict) else {}
    name = node.get("name")
    secrets = [
        Secret(_link_name(link.get("name")), secret)
        for link in raw_tables(document, "link")
        if (secret := _path(link, "secret")) is not None
    ]
    return _found(
        name if isinstance(name, str) and name else socket.gethostname(),
        _path(node, "state_directory") or STATE,
        _path(node, "runtime_directory") or RUNTIME,
        secrets + _all_stored(),
        trouble,
    )


def _path(table: dict[str, Any], name: str) -> Path | None:
    value = table.get(name)
    return Path(value) if isinstance(value, str) and value.startswith("/") and "\0" not in value else None


def _is_machines_own(path: Path) -> bool:
    """By name too: it may be gone."""
    return path == MACHINES_OWN or (path.exists() and MACHINES_OWN.exists() and path.samefile(MACHINES_OWN))


def _stored(links: list[str]) -> list[Secret]:
    return [Secret(link, store / f"{CREDENTIAL}{link}") for link in links for store in CREDSTORES]


def _all_stored() -> list[Secret]:
    """Also of links that were removed or renamed, and what a crash left half taken in (`.new`)."""
    found = [path for store in CREDSTORES for path in store.glob(f"{CREDENTIAL}*")]
    return [Secret(_link_name(path.name.removeprefix(CREDENTIAL).removesuffix(".new")), path) for path in found]


def _link_name(name: object) -> str:
    return name if isinstance(name, str) and NAME.fullmatch(name) else NO_LINK


def _found(name: str, state: Path, runtime: Path, secrets: list[Secret], trouble: str = "") -> Doomed:
    """Stores of links that the configuration no longer has are destroyed too."""
    root = key_stores(state)
    stores = tuple(sorted(path for path in root.iterdir() if path.is_dir())) if root.is_dir() else ()
    there = {secret.path: secret for secret in secrets if secret.path.exists()}
    return Doomed(name, state, runtime, stores, tuple(there[path] for path in sorted(there)), trouble)
