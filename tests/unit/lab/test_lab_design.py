"""From lab files to configurations: paths, settings, and the record of a running lab."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from appliance import config
from appliance.lab import design, file, record
from appliance.lab.paths import first_links
from appliance.lab.plan import configuration

EXAMPLES = Path(__file__).resolve().parents[3] / "packaging" / "examples"


def test_the_square_is_routed_as_in_table_i() -> None:
    """Networks N2, N3 and N4 from QBB1 (paper, Table I)."""
    lab = file.load(EXAMPLES / "square.toml")
    assert first_links(lab, "qbb1") == {"qbb2": "qbb1-qbb2", "qbb3": "qbb1-qbb3", "qbb4": "qbb1-qbb3"}
    # Back, the costs of the other direction count: 1 + 5 by qbb2, 2 + 8 by qbb3.
    assert first_links(lab, "qbb4")["qbb1"] == "qbb2-qbb4"


def test_nothing_goes_through_a_qan() -> None:
    text = '[lab]\nname = "t"\n' + "".join(f'[[node]]\nname = "{name}"\n' for name in "abc")
    text += '[[node]]\nname = "q"\nrole = "qan"\n'
    for pair, cost in (("aq", 1), ("qc", 1), ("ab", 50), ("bc", 50)):
        text += f'[[link]]\nends = ["{pair[0]}", "{pair[1]}"]\ncost = {cost}\n'
    lab = file.parse(text)
    assert first_links(lab, "a") == {"q": "a-q", "b": "a-b", "c": "a-b"}
    assert {node: first_links(lab, "q")[node] for node in "ac"} == {"a": "a-q", "c": "q-c"}  # it uses its own links


@pytest.mark.parametrize("name", [path.stem for path in EXAMPLES.glob("*.toml")])
def test_every_node_gets_a_configuration_that_parses(name: str) -> None:
    lab = file.load(EXAMPLES / f"{name}.toml")
    plan = design.plan(lab, "mark-")
    here = Path("/somewhere")
    nodes = {site.name: config.parse(configuration(plan, site, here, here, here, here)) for site in plan.sites}
    assert {node.name for node in lab.nodes} == set(nodes)
    for link in lab.links:
        first, second = (nodes[end].link(link.name) for end in link.ends)
        assert (first.listen, first.remote) == (second.remote, second.listen)
        assert (first.cost, second.cost) == link.cost
        assert first.network == second.network and first.area == second.area
    listens = [str(link.listen) for node in nodes.values() for link in node.links]
    assert len(set(listens)) == len(listens)
    if lab.routing == "static":
        assert all(len(node.routes) == len(lab.nodes) - 1 for node in nodes.values())
    else:
        assert len({node.routing.namespace for node in nodes.values()}) == len(lab.nodes)


def test_more_links_than_an_octet_counts() -> None:
    lab = file.parse('[lab]\nname = "t"\n[topology]\nkind = "grid"\nnodes = 240\n')
    plan = design.plan(lab)
    assert len(plan.links) > 256
    hosts = {plan.host(link, end) for link in plan.links for end in link.ends}
    assert len(hosts) == 2 * len(plan.links)
    assert str(plan.host(plan.links[256], plan.links[256].ends[0])) == "10.78.0.1"


def test_a_process_is_known_by_its_start_too() -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        started = record.start_time(process.pid)
        assert started is not None
        record.stop(process.pid, started + 1, signal.SIGKILL)  # another process had that id
        assert process.poll() is None
        record.stop(process.pid, started, signal.SIGKILL)
        assert process.wait(10) == -signal.SIGKILL
    assert record.start_time(process.pid) is None
    record.stop(process.pid, started, signal.SIGKILL)  # gone: nothing happens
    assert record.start_time(os.getpid()) is not None
