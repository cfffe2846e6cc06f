"""Each process is killed while keys flow. Started again it recovers by itself; no key is ever wrong."""

from __future__ import annotations

import contextlib
import sys

import pytest

from appliance.client import KeyServiceError, Told
from appliance.lab import Network, Node, Process, until

from . import uevent
from .talk import Flow, Talk, refused_with

UNITS = [
    ("paris", "dataplane"),
    ("vienna", "dataplane"),
    ("paris", "keys"),
    ("vienna", "keys"),
    ("vienna", "device-fibre-1"),
    ("", "fibre-1"),
]


def process_of(network: Network, site: str, unit: str) -> Process:
    return network.node(site).units[unit] if site else network.fibres[unit]


def blocks(network: Network) -> int:
    """Made by the fibre since it started; 0 when it does not answer yet."""
    with contextlib.suppress(OSError):
        return int(network.ask_fibre("fibre-1", "status")["blocks"])
    return 0


def charges(network: Network) -> bool:
    """Key arrives at both ends."""
    return all(node.link()["key_rate_bps"] > 0 for node in network.nodes.values())


@pytest.mark.parametrize(("site", "unit"), UNITS, ids=["-".join(filter(None, names)) for names in UNITS])
def test_killed_unit_recovers(network: Network, flow: Flow, site: str, unit: str) -> None:
    process = process_of(network, site, unit)
    for _ in range(2):
        flow.wait()
        process.kill()
        process.start()
        network.wait_ready()
        flow.wait()
    made = until(lambda: blocks(network), "the fibre makes blocks")
    until(lambda: blocks(network) > made, "new blocks")
    until(lambda: charges(network), "key arrives")
    network.wait_ready()


def test_both_data_planes_killed_at_once(network: Network, flow: Flow) -> None:
    """Both logs are read again; what was open is void at both ends, and neither disagrees."""
    flow.wait()
    records = {name: node.link()["log_records"] for name, node in network.nodes.items()}
    for node in network.nodes.values():
        node.units["dataplane"].kill()
    for node in network.nodes.values():
        node.start("dataplane")
    network.wait_ready()
    flow.wait()
    for name, node in network.nodes.items():
        assert node.link()["log_records"] > records[name]


@pytest.mark.parametrize("site", ["paris", "vienna"])
def test_lost_session_keys_reset_the_connection(network: Network, site: str) -> None:
    """The keys service that is killed had keys that its far end has still: as soon as the far end asks for one more it
    hears that the connection is gone, and they go there too."""
    other = network.node("vienna" if site == "paris" else "paris")
    with Talk(network, prefetch=16) as talk:
        talk.keys(4)
        told = talk.server.event()
        assert isinstance(told, Told) and told.what == "connected"
        asking = talk.server.accepted(told) if site == "paris" else talk.connection
        network.node(site).units["keys"].kill()
        network.node(site).start("keys")
        network.wait_ready()
        refused_with(lambda: asking.key(48).wipe(), "ended: reset")
        until(lambda: other.ask("keys", "status")["shelf_used"] == 0, "the far end's keys are wiped")
        with pytest.raises(KeyServiceError):
            asking.key()
    with Talk(network, port=5001) as again:
        again.keys(4)


def test_keys_outlive_the_data_plane(network: Network) -> None:
    """The stock of confirmed keys is the keys service's: it is given out while the data plane is dead."""
    with Talk(network, prefetch=16) as talk:
        talk.keys(1)
        until(lambda: network.node("paris").ask("keys", "sessions")["sessions"][0]["stock"] >= 12, "a stock")
        for node in network.nodes.values():
            node.units["dataplane"].kill()
        talk.keys(8)
        for node in network.nodes.values():
            node.start("dataplane")
        network.wait_ready()
        talk.keys(20)


def restore(node: Node, *units: str) -> None:
    """The kernel says that the virtual machine came back from a snapshot; these units say so and end."""
    node.process("restore", [sys.executable, "-c", uevent.sender()]).start()
    for unit in units:
        process = node.units[unit]
        until(lambda process=process: not process.running, f"{unit} ends")  # type: ignore[misc]
        assert process.status == 1, "the service manager starts it again"
        assert "machine-restored" in process.said()


def test_a_restored_machine_starts_afresh(network: Network) -> None:
    """Both units that hold key end at once, and what was open is void."""
    paris = network.node("paris")
    with Talk(network, prefetch=8) as talk:
        talk.keys(4)
    epoch, records = paris.link()["epoch"], paris.link()["log_records"]
    restore(paris, "dataplane", "keys")
    paris.start("dataplane", "keys")
    network.wait_ready()
    link = paris.link()
    assert link["epoch"] > epoch
    assert link["log_records"] > records
    with Talk(network, port=5001) as talk:
        talk.keys(4)


def test_keys_are_given_up_without_a_data_plane_that_tells_of_it(network: Network) -> None:
    """The machine is restored while its data plane does not run: no key of the old stock is given out."""
    paris = network.node("paris")
    with Talk(network, prefetch=16) as talk:
        talk.keys(1)
        until(lambda: paris.ask("keys", "sessions")["sessions"][0]["stock"] >= 12, "a stock")
        paris.units["dataplane"].kill()
        restore(paris, "keys")
        with pytest.raises(OSError):
            talk.connection.key()
    paris.start("dataplane", "keys")
    network.wait_ready()
    with Talk(network, port=5001) as talk:
        talk.keys(4)
