"""A link in order: it charges, keys come out equal at both ends, and what cannot be had is refused with its reason."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from pathlib import Path
from uuid import UUID

import pytest

from appliance.client import KeyServiceGone
from appliance.demo.traffic import Traffic
from appliance.lab import ClientPlan, DevicePlan, Network, Node, SitePlan, pair, until

from .conftest import Make
from .talk import CLIENT_PORT, SERVER_PORT, Talk, refusal, refused_with

C_CLIENT = Path(__file__).parents[2] / "appliance/client/c"


UNMINDED = DevicePlan("fibre-1", settings={"on_alarm": "ignore"})  # its link stays up when the fibre is gone


def qbb(node: Node, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "appliance.cli.main", "--config", str(node.config), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def same_log(network: Network) -> bool:
    logs = [(node.disk / "dataplane/line/log").read_bytes() for node in network.nodes.values()]
    return logs[0] == logs[1]


def test_starts_and_charges(make: Make) -> None:
    network = make(pair(UNMINDED))
    paris, vienna = network.node("paris"), network.node("vienna")
    before = paris.link()["stored_bytes"]
    until(lambda: paris.link()["stored_bytes"] > before, "more key is stored")
    network.fibres["fibre-1"].kill()
    until(lambda: same_log(network), "equal logs when no key comes any more")
    until(lambda: paris.link()["common_bytes"] == vienna.link()["common_bytes"], "equal stores")
    for node in network.nodes.values():
        told = qbb(node, "status")
        assert told.returncode == 0, told.stdout + told.stderr
        assert "up" in told.stdout
        (link,) = json.loads(qbb(node, "--json", "links").stdout)
        assert link["state"] == "up" and link["usable"]


def test_keys_are_equal_through_both_clients(network: Network, tmp_path: Path) -> None:
    """Python asks and C fetches, and the other way round."""
    example = tmp_path / "example"
    sources = [str(C_CLIENT / name) for name in ("example.c", "qbb_client.c")]
    subprocess.run(["cc", "-std=gnu11", "-o", str(example), *sources], check=True)
    paris, vienna = network.node("paris"), network.node("vienna")

    fetching = [str(example), str(vienna.pfkey), str(SERVER_PORT), vienna.public_address(), "fetch"]
    with subprocess.Popen(fetching, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as far:
        assert far.stdin is not None and far.stdout is not None
        assert far.stdout.readline() == "ready\n"
        with paris.client() as client:
            client.register(CLIENT_PORT, paris.public_address())
            connection = client.connect(vienna.address, SERVER_PORT, local_port=CLIENT_PORT, prefetch=4)
            for _ in range(10):
                with connection.key() as key:
                    far.stdin.write(f"{key.id.hex}\n")
                    far.stdin.flush()
                    assert far.stdout.readline().split() == [key.id.hex, key.secret.hex()]
        far.stdin.close()

    with vienna.client() as server:
        server.register(SERVER_PORT, vienna.public_address())
        asking = [str(example), str(paris.pfkey), str(CLIENT_PORT), paris.public_address(), "connect"]
        asking += [vienna.address, str(SERVER_PORT), "10"]
        with subprocess.Popen(asking, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as near:
            assert near.stdout is not None and near.stdin is not None
            lines = [near.stdout.readline().split() for _ in range(10)]
            for key_id, secret in lines:
                with server.fetch(UUID(key_id)) as key:
                    assert key.secret.hex() == secret
            near.stdin.close()


def test_tls_sessions_stand_on_the_keys_alone(network: Network) -> None:
    traffic = Traffic(network.node("paris"), network.node("vienna"), network.run.directory)
    traffic.start()
    outcome = traffic.run(12, parallel=4, prefetch=4)
    assert not outcome.failures and not outcome.refusals
    assert len({session.key_id for session in outcome.sessions}) == 12
    assert traffic.differing(outcome) == []


def test_tcp_channel(make: Make) -> None:
    network = make(pair(settings={"channel": "tcp"}))
    with Talk(network) as talk:
        talk.keys(10)
    vienna = network.node("vienna")
    vienna.units["dataplane"].kill()
    until(lambda: not network.node("paris").usable(), "paris notices")
    vienna.start("dataplane")
    network.wait_ready()
    with Talk(network) as talk:
        talk.keys(10)


def test_keys_of_other_lengths(talk: Talk) -> None:
    for length in (16, 36, 64, 1024):
        assert len(talk.key(length)) == length
    error = refusal(lambda: talk.connection.key(1025))
    assert error.errno == errno.EMSGSIZE and "16..1024" in str(error)


def test_unknown_application_and_node(talk: Talk) -> None:
    error = refusal(lambda: talk.client.connect("1.1.1.2", 6001, local_port=CLIENT_PORT))
    assert error.errno == errno.ECONNREFUSED, error
    error = refusal(lambda: talk.client.connect("1.1.9.9", SERVER_PORT, local_port=CLIENT_PORT))
    assert error.errno == errno.ENETUNREACH and "no route leads to node 1.1.9.9" in str(error)
    error = refusal(lambda: talk.client.connect("1.1.1.2", SERVER_PORT, local_port=5999))
    assert "5999" in str(error), error
    talk.keys(3)


def test_no_rule_for_the_client(make: Make) -> None:
    paris = SitePlan("paris", "1.1.1.1", clients=(ClientPlan({"name": "other", "uid": 12345}),))
    network = make(pair(paris=paris))
    node = network.node("paris")
    with pytest.raises(KeyServiceGone), node.client() as client:
        client.register(CLIENT_PORT, node.public_address())
    until(lambda: "no [[keys.client]] rule is for uid 0" in node.units["keys"].said(), "the reason in the journal")
    told = qbb(node, "key", "--to", "1.1.1.2", "--port", str(SERVER_PORT))
    assert told.returncode == 1 and "[[keys.client]]" in told.stdout + told.stderr


def test_key_longer_than_the_store(make: Make) -> None:
    """No fibre: there is the link secret alone. Marks below the longest key let the store fall so low."""
    marks = {"chunk_bytes": "4 KiB", "store_mark_bytes": 64, "low_mark_bytes": 128, "high_mark_bytes": "1 KiB"}
    network = make(pair(UNMINDED, settings=marks), ready=False)
    network.fibres["fibre-1"].kill()
    network.wait_ready()
    with Talk(network) as talk:
        error = refused_with(lambda: talk.key(1024), "the key needs 1024", 60)
        assert error.errno == errno.ENOSPC


def test_exhausted_store(make: Make) -> None:
    """What the fibre brought is spent; the link goes down for applications until there is key again."""
    settings = {"chunk_bytes": "4 KiB", "high_mark_bytes": "16 KiB", "low_mark_bytes": "8 KiB"}
    network = make(pair(UNMINDED, settings=settings))
    network.fibres["fibre-1"].kill()
    with Talk(network, prefetch=0) as talk:
        error = refused_with(lambda: [talk.key(1024) for _ in range(10)], "carries no keys: key", 40)
        assert error.errno == errno.ENETUNREACH
        network.fibres["fibre-1"].start()
        network.wait_ready()
        talk.keys(3)


FLOOD = """
import os, random, socket, struct, sys
own, far, port, count = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP)
raw.bind((own, 0))
draw = random.Random(1)
for number in range(count):
    length = draw.choice((0, 1, 19, 20, 35, 36, 52, 100, 1400))
    body = bytearray(draw.randbytes(length))
    if number % 2 and length >= 20:  # a header that looks right
        struct.pack_into(">HHIBBHII", body, 0, length, draw.randrange(length), number, draw.choice((3, 0x43, 0xC3)),
                         draw.randrange(6), draw.randrange(3), number, number)
    raw.sendto(struct.pack(">HHHH", port, port, 8 + length, 0) + body, (far, 0))
"""


def test_garbage_is_counted_and_does_no_harm(network: Network, talk: Talk) -> None:
    """With the peer's own address and port: the socket takes it for the peer's."""
    paris, vienna = network.node("paris"), network.node("vienna")
    talk.keys(3)
    before = paris.link()
    words = [vienna.public_address(), paris.public_address(), "7301", "20000"]
    flood = vienna.process("flood", [sys.executable, "-c", FLOOD, *words])
    flood.start()
    while flood.running:
        talk.keys(3)
    assert flood.status == 0, flood.said()

    def drops(link: dict[str, dict[str, int]]) -> int:
        return sum(n for reason, n in link["counters"].items() if reason.startswith("drop"))

    until(lambda: drops(paris.link()) > drops(before) + 1000, lambda: f"garbage is counted: {paris.link()['counters']}")
    assert "session-replaced" not in paris.units["dataplane"].said()
    talk.keys(3)


def test_a_hardware_source_is_named_and_a_bad_one_refused(network: Network) -> None:
    """/dev/urandom stands for a hardware source that is well, /dev/zero for one that is broken."""
    paris = network.node("paris")
    assert paris.ask("keys", "status")["source"] == "getrandom"
    before = paris.config.read_text()

    def restart_with(source: str) -> None:
        paris.stop("keys")
        paris.config.write_text(before.replace("[keys]\n", f'[keys]\nhardware_source = "{source}"\n', 1))
        paris.start("keys")

    restart_with("/dev/urandom")
    network.wait_ready()
    assert paris.ask("keys", "status")["source"] == "getrandom xor /dev/urandom"
    with Talk(network) as talk:
        talk.keys(3)
    restart_with("/dev/zero")
    until(lambda: not paris.units["keys"].running, "the unit ends")
    assert "key source /dev/zero: fails its start-up health test" in paris.units["keys"].said()
    restart_with("/dev/none")
    until(lambda: not paris.units["keys"].running, "the unit ends")
    assert "key source /dev/none: No such file" in paris.units["keys"].said()
