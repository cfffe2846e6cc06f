"""The classical channel fails: it is cut, or what is sent gets lost without a word, in one direction or both."""

from __future__ import annotations

import pytest

from appliance.lab import Network, pair, until

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
