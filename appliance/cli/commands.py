"""The table of commands: the parser of the command line and the manual page qbb(1) are made from it."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from appliance.cli import check, key, link, network, views
from appliance.cli.asking import Node
from appliance.cli.output import Screen

Run = Callable[[Screen, Namespace], int]


@dataclass(frozen=True)
class Argument:
    """Goes to ArgumentParser.add_argument as it is."""

    flags: tuple[str, ...]
    help: str
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Command:
    words: tuple[str, ...]  # ("link", "secret")
    help: str
    run: Run
    arguments: tuple[Argument, ...] = ()
    more: str = ""  # for the manual


def _asking(run: Callable[[Node, Screen, Namespace], int]) -> Run:
    """A command that needs the configuration, to know where the units are."""
    return lambda screen, options: run(Node.of(options.config), screen, options)


LINK_NAME = Argument(("name",), "the link's name", {"metavar": "LINK"})

COMMANDS = (
    Command(("status",), "the node, its links and devices at a glance", _asking(views.status),
            more="Exit status 1 when a unit does not answer."),
    Command(("links",), "all links", _asking(views.links)),
    Command(("store",), "stored key of all links", _asking(views.store),
            more="PICKUP is raw key from the devices, COMMON is confirmed by both ends, OUT and IN are open for "
                 "spending in each direction."),
    Command(("routes",), "where session-key packets go", _asking(views.routes),
            more="All ways to each destination, by increasing cost. The best one is used; alternates when links before "
                 "them are down, loaded or full. A way that might lead in a circle is never used."),
    Command(("network",), "the network as routing knows it", _asking(network.network),
            (Argument(("--nodes",), "nodes too, not only networks", {"action": "store_true"}),),
            more="All links to each destination. USE is best or, for a link that may be taken as well because it leads "
                 "nearer to the destination, alternate; - for the rest. In the hold time after a change of the network "
                 "only best ones are used."),
    Command(("registrations",), "applications registered in the whole network", _asking(network.registrations)),
    Command(("sessions",), "open connections for session keys", _asking(views.sessions)),
    Command(("device",), "the devices, or one in full", _asking(views.device),
            (Argument(("name",), "a device's name", {"metavar": "DEVICE", "nargs": "?"}),)),
    Command(("key",), "ask for one session key", _asking(key.key),
            (
                Argument(("--to",), "node address of the far application",
                         {"type": IPv4Address, "required": True, "metavar": "NODE"}),
                Argument(("--port",), "port of the far application", {"type": int, "required": True}),
                Argument(("--bits",), "length of the key, 256 by default", {"type": int, "default": 256}),
                Argument(("--timeout",), "seconds to wait, 10 by default", {"type": float, "default": 10.0}),
                Argument(("--show",), "print the key itself, in hexadecimal", {"action": "store_true"}),
            ),
            more="Prints the key's ID and length. The key itself is printed with --show only: it is then on your "
                 "screen, and wherever your terminal keeps it."),
    Command(("link", "show"), "one link in full", _asking(link.show), (LINK_NAME,)),
    Command(("link", "secret"), "make the secret of a new link", link.secret,
            (
                Argument(("--out",), "file to make, mode 0600",
                         {"type": Path, "required": True, "metavar": "FILE"}),
                Argument(("--bytes",), "pad for the start, 8192 by default",
                         {"type": int, "default": 8192, "metavar": "N"}),
            ),
            more="The file starts a link: it authenticates the first hello and pays for the first packets, until the "
                 "devices have made key. Make it once, carry it to the other site by a way that you trust, and keep "
                 "it out of backups and snapshots. Nothing of it is printed."),
    Command(("link", "discard"), "discard the store of a quarantined link", _asking(link.discard),
            (LINK_NAME, Argument(("--yes",), "do not ask", {"action": "store_true"})),
            more="A store is quarantined when the two ends' logs contradict each other, as after a restored disk. "
                 "Discard it at both ends, once the cause is known."),
    Command(("check",), "check the configuration and secret files", check.check,
            (
                Argument(("file",), "instead of --config",
                         {"type": Path, "nargs": "?", "metavar": "FILE"}),
                Argument(("--print",), "print the whole configuration, defaults included", {"action": "store_true"}),
                Argument(("--no-files",), "do not look at the secret files", {"action": "store_true"}),
            ),
            more="Reports every problem with its place and what would be right. Exit status 1 when there is one."),
)  # fmt: skip
