"""A QKD network on one machine: real units in network namespaces, joined by veth pairs and simulated fibres.

    run.py         one run: its id, directory and lock; what dead runs left behind is removed
    namespaces.py  network namespaces and the wires between them
    process.py     programs inside a namespace, with their logs
    plan.py        what a network shall be: sites, links, devices, and the node.toml of each
    node.py        one node: its units, what they say, its key clients
    network.py     the whole: nodes, wires, fibres
    waiting.py     waiting with a deadline

and for `qbb lab`, which keeps a network that a file describes:

    file.py        lab files; schema.py their settings, model.py the result, checks.py what tables must agree in,
                   generators.py networks made by a rule
    design.py      from the file to the plan; paths.py shortest paths, where no routing unit finds them
    keeper.py      the process that makes and keeps the lab, and does what is asked for
    warm.py        units as forks of the keeper
    starting.py    starting the keeper, and waiting until all links are up
    record.py      what is written down in /run/qbb-lab/NAME; the removal of what a crash left

    with Run() as run:
        network = Network(run, pair())
        network.start()
        network.wait_ready()
        network.node("paris").client()

Needs root. A run cleans up at the end of its `with` block: after an exception, SIGINT and SIGTERM too. One that is
killed leaves namespaces and a directory; its processes die with it, and the next run removes the rest.
"""

from appliance.lab.network import Network
from appliance.lab.node import Node
from appliance.lab.plan import ClientPlan, DevicePlan, LinkPlan, NetworkPlan, SitePlan, pair
from appliance.lab.process import Process
from appliance.lab.run import Run
from appliance.lab.waiting import WaitedInVain, until

__all__ = [
    "ClientPlan",
    "DevicePlan",
    "LinkPlan",
    "Network",
    "NetworkPlan",
    "Node",
    "Process",
    "Run",
    "SitePlan",
    "WaitedInVain",
    "pair",
    "until",
]
