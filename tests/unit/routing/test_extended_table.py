"""The extended routing table: the paper's example exactly, random networks against another library, and no loop."""

from __future__ import annotations

import random

import pytest
from routing_world import BORDER, POINT_TO_POINT, STUB, Net, address, network, one_area, router_lsa, summary_lsa
from routing_world import three_areas as build_three_areas

from appliance.routing import lsa, table
from appliance.routing.lsdb import Database
from appliance.routing.table import Path, Table, Target

AREA_1 = address("1.1.0.0")
QBB = {n: address(f"1.1.{n}.1") for n in (1, 2, 3, 4)}
NETWORKS = {n: f"1.1.{n}.0/30" for n in QBB}
LINK_COSTS = {(1, 2): 6, (2, 1): 5, (1, 3): 7, (3, 1): 8, (2, 4): 4, (4, 2): 1, (3, 4): 2, (4, 3): 2}
OTHER_AREAS = {"1.2.0.0/16": 3, "1.3.0.0/16": 10, "1.4.0.0/16": 8, "1.5.0.0/16": 2}


def interface(a: int, b: int) -> int:
    return address("1.1.128.0") + 16 * a + b


def area_1(changed: dict[tuple[int, int], int] | None = None) -> Database:
    """Table III: the database of Area 1 in Figure 18."""
    database, costs = Database(), LINK_COSTS | (changed or {})
    for n, router in QBB.items():
        links = [(POINT_TO_POINT, QBB[b], interface(a, b), cost) for (a, b), cost in costs.items() if a == n]
        links.append((STUB, network(NETWORKS[n])[0], 0xFFFFFFFC, 0))
        database.put(AREA_1, lsa.parse(router_lsa(router, links, BORDER if n == 4 else 0)))
    for prefix, metric in OTHER_AREAS.items():
        database.put(AREA_1, lsa.parse(summary_lsa(QBB[4], *network(prefix), metric)))
    return database


def of_node(n: int, database: Database | None = None) -> Table:
    links = {interface(a, b): f"QBB{b}" for a, b in LINK_COSTS if a == n}
    return table.compute(database or area_1(), QBB[n], links)


def networks_of(found: Table) -> dict[str, table.Route]:
    return {str(target): route for target, route in found.routes.items() if not target.router}


def routers_of(found: Table) -> dict[int, table.Route]:
    names = {router: n for n, router in QBB.items()}
    return {names[target.prefix]: route for target, route in found.routes.items() if target.router}


def test_table_1_of_the_paper() -> None:
    """QBB1's routing table. The paper prints 16 for NA4: a misprint, for QBB4 is at 9 and advertises NA4 at 8."""
    found = of_node(1)
    shown = {
        prefix: (route.path, route.cost, None if route.local else route.entries[0].link)
        for prefix, route in networks_of(found).items()
    }
    assert shown == {
        "1.1.1.0/30": (Path.INTRA, 0, None),
        "1.1.2.0/30": (Path.INTRA, 6, "QBB2"),
        "1.1.3.0/30": (Path.INTRA, 7, "QBB3"),
        "1.1.4.0/30": (Path.INTRA, 9, "QBB3"),
        "1.2.0.0/16": (Path.INTER, 12, "QBB3"),
        "1.3.0.0/16": (Path.INTER, 19, "QBB3"),
        "1.4.0.0/16": (Path.INTER, 17, "QBB3"),
        "1.5.0.0/16": (Path.INTER, 11, "QBB3"),
    }
    assert {n: (route.cost, route.entries[0].link) for n, route in routers_of(found).items() if n != 1} == {
        2: (6, "QBB2"),
        3: (7, "QBB3"),
        4: (9, "QBB3"),
    }


def test_extended_table_of_the_paper() -> None:
    """One table for each outgoing interface, merged by cost (2.5.2, 2.5.3)."""
    routes = routers_of(of_node(1))
    assert [(entry.link, entry.cost) for entry in routes[4].entries] == [("QBB3", 9), ("QBB2", 10)]
    assert [(entry.link, entry.cost) for entry in routes[2].entries] == [("QBB2", 6), ("QBB3", 10)]
    assert [(entry.link, entry.cost) for entry in routes[3].entries] == [("QBB3", 7), ("QBB2", 12)]
    assert all(entry.loop_free for n in (2, 3, 4) for entry in routes[n].entries)
    far = networks_of(of_node(1))["1.4.0.0/16"]
    assert [(entry.link, entry.cost, entry.loop_free) for entry in far.entries] == [
        ("QBB3", 17, True),
        ("QBB2", 18, True),
    ]


def test_a_neighbour_that_is_farther_is_no_alternative() -> None:
    """From QBB4 to QBB2 (cost 1) by QBB3 is possible at 2 + 8 + 6 = 16, but QBB3 itself would send it back."""
    route = routers_of(of_node(4))[2]
    assert [(entry.link, entry.cost, entry.loop_free) for entry in route.entries] == [
        ("QBB2", 1, True),
        ("QBB3", 16, False),
    ]


def test_hold_time_leaves_best_entries() -> None:
    rows = of_node(1).rows(hold=True)
    assert all(len(row.choices) == 1 for row in rows)
    assert {len(row.choices) for row in of_node(1).rows(hold=False)} == {2}
    assert [row.bits for row in rows] == sorted((row.bits for row in rows), reverse=True)
    assert network(NETWORKS[1])[0] not in [row.prefix for row in rows], (
        "its own network is not the data plane's to send"
    )


def test_a_node_without_transit_is_only_an_end() -> None:
    """QBB3 as a QAN: reached at 7, never gone through, though it goes out itself."""
    database = area_1(dict.fromkeys([(3, 1), (3, 4)], 0xFFFF))
    routes = routers_of(of_node(1, database))
    assert [(entry.link, entry.cost) for entry in routes[4].entries] == [("QBB2", 10)]
    assert [(entry.link, entry.cost) for entry in routes[3].entries] == [("QBB3", 7), ("QBB2", 12)]
    assert routers_of(of_node(3, database))[2].entries, "it has paths of its own"


def test_a_link_that_one_end_denies_is_none() -> None:
    """RFC 2328 16.1 (2) (b)"""
    database = area_1()
    links = [(POINT_TO_POINT, QBB[1], interface(3, 1), 8)]  # QBB3 no longer tells of QBB4
    database.put(AREA_1, lsa.parse(router_lsa(QBB[3], links)))
    routes = routers_of(of_node(1, database))
    assert [(entry.link, entry.cost) for entry in routes[4].entries] == [("QBB2", 10)]


def test_unknown_and_unreachable_destinations_have_no_route() -> None:
    database = area_1()
    links = [(POINT_TO_POINT, QBB[1], interface(4, 1), 1), (STUB, address("1.1.9.0"), 0xFFFFFFFC, 0)]
    database.put(AREA_1, lsa.parse(router_lsa(address("1.1.9.1"), links)))
    assert Target(False, address("1.1.9.0"), 30) not in of_node(1, database).routes
    assert not of_node(1, database).reaches(address("1.1.9.1"))


@pytest.mark.parametrize("seed", range(40))
def test_random_networks_against_another_library(seed: int) -> None:
    """Every destination's cost by every interface, with asymmetric costs: igraph on the graph without the root."""
    r = random.Random(seed)
    net = one_area(r, r.randint(4, 30))
    net.qan = set(r.sample(range(len(net.home)), r.choice([0, 0, 2])))
    root = r.randrange(len(net.home))
    found = table.compute(net.databases()[root], net.id_of(root), net.links(root))
    rest = Net({k: c for k, c in net.costs.items() if k[0] != root}, net.home, net.qan | {root})
    around, full = rest.distances(0), net.distances(0)
    checked = 0
    for target in net.home:
        wanted = {}
        for (a, b, _), cost in net.costs.items():
            # a QAN's link costs 65535 as advertised, its own included; as next hop it is the end of the path
            out = 0xFFFF if a in net.qan else cost
            reach = around[b][target] if b not in net.qan or b == target else float("inf")
            if a == root and target != root and reach < float("inf"):
                wanted[f"to{b}"] = out + reach
        route = found.routes.get(Target(False, net.prefix(target), 30))
        given = {entry.link: entry.cost for entry in route.entries} if route is not None and target != root else {}
        assert given == wanted
        if given:
            assert list(given.values()) == sorted(given.values())
            checked += 1
            if root not in net.qan and route is not None:
                assert route.cost == full[root][target]
    assert checked or root in net.qan or len(net.home) - len(net.qan) < 3


def next_hops(net: Net) -> dict[int, dict[int, list[int]]]:
    """router -> target -> neighbours that may be used: the best and all loop-free alternatives."""
    found: dict[int, dict[int, list[int]]] = {}
    for router, database in net.databases().items():
        rows = table.compute(database, net.id_of(router), net.links(router)).rows(hold=False)
        found[router] = {
            net.router_of(row.prefix + 1): [int(link.removeprefix("to")) for link, _, _ in row.choices] for row in rows
        }
    return found


def walk(r: random.Random, hops: dict[int, dict[int, list[int]]], router: int, target: int) -> int:
    """Hops to the target when each node uses any of its entries."""
    seen = set()
    while router != target:
        assert router not in seen, f"a loop at {router} on the way to {target}"
        seen.add(router)
        router = r.choice(hops[router][target])
    return len(seen)


STATES = 100_000  # random forwarding states, over all cases


@pytest.mark.parametrize("seed", range(20))
def test_no_loop_with_all_nodes_using_alternates(seed: int) -> None:
    r = random.Random(1000 + seed)
    several = seed % 2
    net = build_three_areas(r) if several else one_area(r, r.randint(8, 16))
    hops = next_hops(net)
    assert any(len(choices) > 1 for targets in hops.values() for choices in targets.values())
    longest = 0
    for _ in range(STATES // 20):
        router, target = r.sample(list(net.home), 2)
        longest = max(longest, walk(r, hops, router, target))
    assert longest > 2


def test_every_alternate_is_needed_to_be_nearer() -> None:
    """The same walk over all entries, loop-free or not, does loop: the test above can fail."""
    r = random.Random(7)
    net = one_area(r, 12)
    hops: dict[int, dict[int, list[int]]] = {}
    for router, database in net.databases().items():
        found = table.compute(database, net.id_of(router), net.links(router))
        hops[router] = {
            net.router_of(target.prefix): [int(entry.link.removeprefix("to")) for entry in route.entries]
            for target, route in found.routes.items()
            if target.router
        }
    with pytest.raises(AssertionError, match="a loop"):
        for _ in range(1000):
            walk(r, hops, *r.sample(list(net.home), 2))


@pytest.mark.parametrize("seed", range(10))
def test_areas_against_another_library(seed: int) -> None:
    """Costs over border nodes: within the area, else by the cheapest summary, for a border node the backbone's."""
    net = build_three_areas(random.Random(seed))
    summaries, databases = net.summaries(), net.databases()
    for root, database in databases.items():
        found = table.compute(database, net.id_of(root), net.links(root))
        for target, home in net.home.items():
            if target == root:
                continue
            route = found.routes[Target(False, net.prefix(target), 30)]
            if home in net.areas(root):
                assert (route.path, route.cost) == (Path.INTRA, net.distances(home)[root][target])
                continue
            area = 0 if net.border(root) else net.home[root]
            wanted = min(
                net.distances(area)[root][border] + metric
                for (border, of), metric in summaries[area].items()
                if of == target and border != root
            )
            assert (route.path, route.cost) == (Path.INTER, wanted)


def test_a_border_node_takes_no_other_summary_of_its_own_range() -> None:
    """RFC 2328 16.2 (3): else two border nodes would send each other what neither can reach."""
    database = area_1()
    links = {interface(1, 2): "QBB2", interface(1, 3): "QBB3"}
    own = frozenset({network("1.4.0.0/16")})
    assert Target(False, *network("1.4.0.0/16")) not in table.compute(database, QBB[1], links, own).routes
