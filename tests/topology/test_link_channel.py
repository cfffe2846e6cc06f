"""The classical channel fails: it is cut, or what is sent gets lost without a word, in one direction or both."""

from __future__ import annotations

import subprocess

import pytest

from appliance.lab import Network, SitePlan, pair, until

from .conftest import Make
from .talk import Flow, Talk, refused_with


def test_cut_and_mended(network: Network) -> None:
    with Talk(network) as talk:
        talk.keys(3)
        network.cut("line")
        until(lambda: not any(node.usable() for node in network.nodes.values()), "both ends notice")
        assert "silent" in network.node("paris").link()["cause"]
        refused_with(lambda: talk.key(), "link line carries no keys: the peer is silent")
        network.mend("line")
        network.wait_ready()
        talk.keys(3)


@pytest.mark.parametrize("senders", [("paris",), ("vienna",), ("paris", "vienna")], ids="+".join)
def test_silent_loss(network: Network, flow: Flow, senders: tuple[str, ...]) -> None:
    flow.wait()
    for sender in senders:
        network.lose("line", sender)
    deaf = {"paris", "vienna"} if len(senders) == 2 else {"paris", "vienna"} - set(senders)
    for name in deaf:
        until(lambda name=name: not network.node(name).usable(), f"{name} notices")  # type: ignore[misc]
    for sender in senders:
        network.lose("line", sender, lost=False)
    network.wait_ready()
    flow.wait()


def test_a_short_loss_costs_no_session(make: Make) -> None:
    """Packets are sent again: no new session, no key given up."""
    network = make(pair(settings={"dead_after_s": 60.0}))  # so long the loss may last, on a busy machine
    paris = network.node("paris")

    def sessions() -> int:
        return paris.units["dataplane"].said().count("session-up")

    with Talk(network) as talk:
        talk.keys(3)
        begun = sessions()
        network.lose("line", "paris")
        before = paris.link()["resent_packets"]
        until(lambda: paris.link()["resent_packets"] > before, "packets are sent again")
        network.lose("line", "paris", lost=False)
        network.wait_ready()
        talk.keys(3)
        assert sessions() == begun


# Names ---------------------------------------------------------------------------------------------------------------

NAME, ELSEWHERE = "neighbour.example", "10.77.0.3"
NODES = {"paris": "1.1.1.1", "vienna": "1.1.1.2"}


def hosts(network: Network, name: str, neighbour: str) -> None:
    """What /etc/hosts says, to this node alone: its programs have a mount namespace of their own."""
    file = network.node(name).directory / "hosts"
    fresh = not file.exists()
    file.write_text(f"127.0.0.1 localhost\n{neighbour} {NAME}\n")
    if fresh:
        mounts = f"--mount=/proc/{network.node(name).units['dataplane'].pid}/ns/mnt"
        subprocess.run(["nsenter", mounts, "mount", "--bind", str(file), "/etc/hosts"], check=True)


@pytest.mark.parametrize(("kind", "mover"), [("udp", "vienna"), ("tcp", "vienna"), ("tcp", "paris")])
def test_a_neighbour_with_a_name_that_moves(make: Make, kind: str, mover: str) -> None:
    """Nobody knows the name at first; later the neighbour has another address. Where there is TCP vienna listens."""
    sites = {name: SitePlan(name, address, disk_bytes=64 << 20) for name, address in NODES.items()}
    network = make(pair(**sites, settings={"channel": kind, "remote": f"{NAME}:7301"}), ready=False)
    stays = "paris" if mover == "vienna" else "vienna"
    staying, moving = network.node(stays), network.node(mover)
    until(lambda: f"name {NAME} is not resolved" in staying.link()["cause"], f"{stays} tells it")
    hosts(network, stays, moving.public_address())
    hosts(network, mover, staying.public_address())
    network.wait_ready()
    moving.stop("dataplane")
    subprocess.run(["ip", "-n", moving.namespace, "addr", "add", f"{ELSEWHERE}/24", "dev", "line"], check=True)
    moving.config.write_text(moving.config.read_text().replace(moving.public_address(), ELSEWHERE))
    moving.start("dataplane")
    until(lambda: not staying.usable(), f"{stays} notices")
    hosts(network, stays, ELSEWHERE)
    network.wait_ready()
