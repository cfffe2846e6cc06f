"""The table of commands: the parser of the command line and the manual page qbb(1) are made from it."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from appliance.cli import alarms, check, key, link, network, views, zeroize
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


def _lab(name: str) -> Run:
    """A command of lab.py."""
    return _later("lab", name)


def _later(module: str, name: str) -> Run:
    """A command of a module that is loaded when it is wanted: the others need not wait for what it brings along."""

    def run(screen: Screen, options: Namespace) -> int:
        return int(getattr(import_module(f"appliance.cli.{module}"), name)(screen, options))

    return run


LINK_NAME = Argument(("name",), "the link's name", {"metavar": "LINK"})
LAB = Argument(("lab",), "the lab's file, or its name while it runs", {"metavar": "FILE"})
LAB_LINK = Argument(("link",), "the link's name", {"metavar": "LINK"})
LAB_NODE = Argument(("node",), "the node's name", {"metavar": "NODE"})
LAB_UNITS = Argument(("units",), "dataplane, keys, device-NAME ...; all when none is given",
                     {"metavar": "UNIT", "nargs": "*"})  # fmt: skip

COMMANDS = (
    Command(("status",), "the node, its links and devices at a glance", _asking(views.status),
            more="Exit status 1 when a unit does not answer."),
    Command(("alarms",), "what is wrong at the node, and since when", _asking(alarms.alarms),
            more="As the unit qbb-monitor sees it. Exit status 1 when an alarm stands."),
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
    Command(("registrations",), "applications registered in the whole network", _asking(network.registrations),
            more="By their names, or by node and port, applications at all nodes connect to them. Those of nodes that "
                 "cannot be reached now are shown as unreachable. Applications without a name at the ephemeral ports, "
                 "49152 to 65535, only ask and are not announced."),
    Command(("sessions",), "open connections for session keys", _asking(views.sessions)),
    Command(("device",), "the devices, or one in full", _asking(views.device),
            (Argument(("name",), "a device's name", {"metavar": "DEVICE", "nargs": "?"}),)),
    Command(("key",), "ask for one session key", _asking(key.key),
            (
                Argument(("--name",), "the far application by its name: the nearest one that registered it", {}),
                Argument(("--to",), "or by its node's address ...", {"type": IPv4Address, "metavar": "NODE"}),
                Argument(("--port",), "... and its port there", {"type": int}),
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
                 "devices have made key. Make one for each link, carry it to the other site by a way that you trust, "
                 "and keep it out of backups and snapshots. Nothing of it is printed."),
    Command(("link", "discard"), "discard the store of a quarantined link", _asking(link.discard),
            (LINK_NAME, Argument(("--yes",), "do not ask", {"action": "store_true"})),
            more="A store is quarantined when the two ends' logs contradict each other, as after a restored disk, or "
                 "one is damaged. Discard it at both ends, once the cause is known."),
    Command(("zeroize",), "destroy all stored key and the link secrets, when the node is taken out of service",
            zeroize.zeroize,
            (Argument(("--yes",), "do not ask", {"action": "store_true"}),),
            more="The units must be down: systemctl stop qbb.target. Files are overwritten, then removed; the audit "
                 "log is kept. All qbb.link.* in the machine's credstores go, also those of links that the node "
                 "file no longer has. One that is wrong or gone is no hindrance: what can be read of it counts, and "
                 "/var/lib/qbb; where it has no node's name, the machine's is asked for. Which secrets were ever "
                 "loaded as key stays written, so that no copy of one is loaded again. The peers quarantine the link "
                 "afterwards: take it out of their configuration, or discard it there and begin anew with a fresh link "
                 "secret. Exit status 1 when something could not be destroyed."),
    Command(("check",), "check the configuration and secret files", check.check,
            (
                Argument(("file",), "instead of --config",
                         {"type": Path, "nargs": "?", "metavar": "FILE"}),
                Argument(("--print",), "print the whole configuration, defaults included", {"action": "store_true"}),
                Argument(("--no-files",), "do not look at the secret files", {"action": "store_true"}),
            ),
            more="Reports every problem with its place and what would be right. Exit status 1 when there is one."),
    Command(("top",), "stores, rates, load, sessions and alarms, live", _later("top", "top"),
            (
                Argument(("--lab",), "all nodes of a running lab, by its file or name", {"metavar": "FILE"}),
                Argument(("--once",), "print it once", {"action": "store_true"}),
            ),
            more="STORED is in bytes, KEY/s (what the devices make) and SPENT/s are in bit/s. A bar is empty at 1 KiB "
                 "of stored key; each cell is four times as much. q ends it, arrows scroll, l shows links or nodes."),
    Command(("console",), "the status screen of an appliance's console", _later("console", "console"),
            more="On the appliance's image it stands on each console, in the place of a login prompt. Keys: n types in "
                 "a node file, s a link's secret, u answers a question for the recovery key of /var, l logs in where "
                 "the owner of the machine allows it, r puts the recovery key away. What is there already is replaced "
                 "with the recovery key alone. On other machines it only shows; q ends it."),
    Command(("lab", "up"), "start a network in namespaces of this machine", _lab("up"),
            (
                Argument(("file",), "the lab's file", {"type": Path, "metavar": "FILE"}),
                Argument(("--timeout",), "seconds until all links must be up, 120 by default",
                         {"type": float, "default": 120.0}),
            ),
            more="The file says which nodes and links; examples are in packaging/examples. The programs are those of a "
                 "real node, each node in a network namespace of its own; the fibres are simulated. Returns when all "
                 "links are up. Interrupted, it removes what it made. Needs root."),
    Command(("lab", "down"), "stop a lab and remove all of it", _lab("down"), (LAB,),
            more="Also what is left of a lab that crashed."),
    Command(("lab", "status"), "a lab's nodes, units and links", _lab("status"), (LAB,),
            more="Exit status 1 when a unit does not run or a link is not up."),
    Command(("lab", "cut"), "cut a link", _lab("cut"),
            (LAB, LAB_LINK,
             Argument(("--wire",), "the classical channel alone", {"action": "store_true"}),
             Argument(("--fibre",), "the quantum channel alone", {"action": "store_true"}))),
    Command(("lab", "mend"), "undo cut and tap", _lab("mend"), (LAB, LAB_LINK)),
    Command(("lab", "tap"), "eavesdrop on a link's fibres", _lab("tap"),
            (LAB, LAB_LINK, Argument(("fraction",), "of the pulses, intercepted and sent again; 0 to 1",
                                     {"type": float, "metavar": "FRACTION"}))),
    Command(("lab", "rate"), "set the key rate of a link's devices", _lab("set_rate"),
            (LAB, LAB_LINK, Argument(("rate",), 'such as "20 kbit/s"', {"metavar": "RATE"}))),
    Command(("lab", "kill"), "kill units of a node, as a crash does", _lab("kill"), (LAB, LAB_NODE, LAB_UNITS)),
    Command(("lab", "restart"), "start units of a node again", _lab("restart"), (LAB, LAB_NODE, LAB_UNITS)),
    Command(("lab", "exec"), "run a command at a node of a lab", _lab("execute"),
            (LAB, LAB_NODE, Argument(("words",), "the command and its words",
                                     {"metavar": "COMMAND", "nargs": "..."})),
            more="In the node's network namespace, with $QBB_CONFIG naming its configuration, so that qbb asks that "
                 "node. The exit status is the command's."),
)  # fmt: skip
