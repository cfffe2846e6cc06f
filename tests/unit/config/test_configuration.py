"""The configuration: what it gives, what it refuses and in which words, and that it prints what it parses."""

from __future__ import annotations

import dataclasses
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from appliance import config
from appliance.configuration.schema import TABLES, chunk_for_rate
from appliance.configuration.table import Table

WHOLE = """\
[node]
name = "alice"
address = "1.1.0.1"

[[link]]
name = "paris"
peer = "1.1.0.5"
listen = "192.0.2.1:7301"
remote = "[2001:db8::2]:7301"
channel = "tcp"
secret = "/etc/qbb/paris.secret"
key_rate_bps = "1 Mbit/s"
keepalive_s = "500 ms"
network = "1.1.128.4/30"
area = "1.1.0.0"
cost = "derived"

[[link.device]]
name = "paris-1"
fibre = "unix:/run/fibre/paris.sock"
qber_alarm = 0.08
on_alarm = "ignore"

[[link]]
name = "rome"
peer = "1.1.0.9"
listen = "192.0.2.1:7302"
remote = "rome.example.net:7301"

[[route]]
prefix = "1.1.0.0/16"
link = "rome"

[routing]
role = "border"
hold_s = 5
namespace = "qbb-routing"

[keys]
socket_mode = "0600"

[[keys.client]]
name = "charon"
user = "charon"
ports = [500, "7000-7100"]
applications = ["esp"]

[forwarding]
overload = "drop"
default_link = "rome"

[site]
machine = "4c4c4544-0042-3510-8052-c7c04f4e4d32"
ssh_keys = ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGpMI8YkZ1 anna"]
time_servers = ["ntp.example.org", "192.0.2.123"]
let_in = ["esp", "udp/500"]
update = "https://updates.example.org/qbb/"

[[site.interface]]
name = "uplink"
mac = "52-54-00-AB-CD-EF"
addresses = ["192.0.2.1/24", "2001:db8::1/64"]
gateway = "192.0.2.254"
dns = ["192.0.2.53"]

[[site.interface]]
name = "lan"
device = "enp2s0"
dhcp = true
"""


def problems(text: str) -> list[str]:
    with pytest.raises(config.ConfigurationErrors) as caught:
        config.parse(text, "node.toml")
    return [str(problem) for problem in caught.value.problems]


def test_values_arrive_with_their_types_and_units() -> None:
    node = config.parse(WHOLE)
    paris, rome = node.links
    assert node.address == IPv4Address("1.1.0.1")
    assert paris.listen == config.SocketAddress("192.0.2.1", 7301)
    assert paris.remote == config.SocketAddress("2001:db8::2", 7301)
    assert paris.secret == Path("/etc/qbb/paris.secret")
    assert paris.key_rate_bps == 1_000_000
    assert paris.keepalive_s == 0.5
    assert rome.channel == "udp"
    assert node.device("paris-1")[1].qber_alarm == 0.08
    rule = node.keys.clients[0]
    assert 7050 in rule.ports[1]
    assert 7101 not in rule.ports[1]
    assert (rule.user, rule.uid, rule.applications) == ("charon", None, ("esp",))
    assert node.keys.socket_mode == 0o600
    assert node.pfkey_socket == Path("/run/qbb/pfkey.sock")
    assert (node.forwarding.overload, node.forwarding.default_link) == ("drop", "rome")
    assert (rome.load_window, rome.load_critical, rome.queue_mark_packets) == (20.0, 0.9, 768)
    assert node.control_socket("device-paris-1") == Path("/run/qbb/device-paris-1.control")


def test_the_machine_of_the_image_is_described() -> None:
    site = config.parse(WHOLE).site
    uplink, lan = site.interfaces
    assert uplink.mac == "52:54:00:ab:cd:ef"
    assert [str(address) for address in uplink.addresses] == ["192.0.2.1/24", "2001:db8::1/64"]
    assert (lan.device, lan.dhcp, lan.addresses) == ("enp2s0", True, ())
    assert site.let_in == (config.Service("esp"), config.Service("udp", 500))
    assert config.parse(WHOLE[: WHOLE.index("[site]")]).site == config.SiteConfig()


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('device = "enp2s0"', "", "either device or mac is wanted"),
        ("dhcp = true", 'dhcp = true\naddresses = ["192.0.2.2/24"]', "either is wanted"),
        ('gateway = "192.0.2.254"', 'gateway = "192.0.3.254"', "192.0.3.254 is in none of the networks"),
        ('"192.0.2.1/24"', '"192.0.2.1"', "not an address with the length of its network's prefix"),
        ('"ssh-ed25519 AAAA', '"ssh-ed25519', "is not a public SSH key"),
        ('"udp/500"', '"udp/70000"', "is not a service"),
        ('"https://', '"ftp://', "is not an address of updates"),
        ('"192.0.2.1/24"', '"192.0.2.0/24"', "192.0.2.0 is the address of the network 192.0.2.0/24 itself"),
        (
            '"192.0.2.1/24"',
            '"192.0.2.255/24"',
            "255 is the broadcast address of the network 192.0.2.0/24; an address of "
            'one machine in it, such as "192.0.2.1/24", is wanted',
        ),
        ('"2001:db8::1/64"', '"2001:db8::/64"', 'such as "2001:db8::1/64", is wanted'),
        ('"2001:db8::1/64"', '"fe80::1%eth0/64"', "not an address with the length of its network's prefix"),
        (
            'gateway = "192.0.2.254"',
            'gateway = "192.0.2.1"',
            "gateway: 192.0.2.1 is this interface's own address; the router's address is wanted",
        ),
        ('gateway = "192.0.2.254"', 'gateway = "192.0.2.255"', "192.0.2.255 is the broadcast address"),
        ('gateway = "192.0.2.254"', 'gateway = "fe80::1%eth0"', "is not an address"),
        ('name = "lan"', 'name = "uplink"', "name uplink is taken already"),
        ('"52-54-00-AB-CD-EF"', '"52-54"', "is not a hardware address"),
    ],
)
def test_what_is_wrong_with_the_machine_is_named(old: str, new: str, words: str) -> None:
    assert old in WHOLE
    assert words in problems(WHOLE.replace(old, new))[0]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"https://', '"http://'),
        (
            '"192.0.2.1/24"',
            '"192.0.2.1/24", "198.51.100.0/31", "198.51.100.7/32", "2001:db8:1::/127", "2001:db8:2::/128"',
        ),
        ('"2001:db8::1/64"', '"2001:db8::ffff:ffff:ffff:ffff/64"'),  # the last one of a network is one like others
    ],
)
def test_what_a_machine_may_have(old: str, new: str) -> None:
    assert old in WHOLE
    config.parse(WHOLE.replace(old, new))


def test_defaults_follow_the_rate() -> None:
    paris, rome = config.parse(WHOLE).links
    assert paris.chunk_bytes == 256 << 10
    assert paris.buffer_bytes == 2 << 20
    assert paris.dead_after_s == 2.5
    assert rome.chunk_bytes == 4096
    assert [chunk_for_rate(rate) for rate in (1, 10**4, 10**6, 10**10)] == [4096, 4096, 256 << 10, 1 << 20]


def test_the_printed_configuration_parses_back_to_itself() -> None:
    node = config.parse(WHOLE)
    printed = config.show(node)
    assert config.parse(printed) == node
    assert config.show(config.parse(printed)) == printed


def every_setting(tables: tuple[Table, ...]) -> list[str]:
    own = [setting.name for table in tables for setting in table.settings]
    return own + [name for table in tables for name in every_setting(table.tables)]


def test_every_setting_is_in_the_printed_configuration_unless_it_may_be_absent() -> None:
    printed = config.show(config.parse(WHOLE))
    absent = {"uid", "gid", "group", "socket", "hardware_source"}
    assert [name for name in every_setting(TABLES) if f"\n{name} = " not in printed and name not in absent] == []


def test_all_problems_are_told_with_line_place_and_remedy() -> None:
    text = (
        WHOLE.replace('listen = "192.0.2.1:7301"', 'listen = "192.0.2.1"')
        .replace('channel = "tcp"', 'chanel = "tcp"')
        .replace("qber_alarm = 0.08", "qber_alarm = 0.8")
        .replace('user = "charon"', "")
        .replace('address = "1.1.0.1"', 'address = "127.0.0.1"')
    )
    assert problems(text) == [
        "node.toml:3: node.address: 127.0.0.1 cannot be a node's address: 127.0.0.0/8 is loop-back; "
        'a node\'s address such as "1.1.1.2" is wanted',
        'node.toml:8: link "paris".listen: "192.0.2.1" is not host:port; host:port such as "192.0.2.1:7301" is wanted',
        'node.toml:10: link "paris".chanel: is not known; did you mean channel?',
        'node.toml:21: link "paris".device "paris-1".qber_alarm: 0.8 is out of range; 0.001 to 0.5 is allowed',
        'node.toml:42: keys.client "charon": names nobody; uid, gid, user or group is wanted',
    ]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('name = "alice"\n', "", "node.name: is missing; lower-case letters"),
        ("[node]", "[nod]", "nod: is not known; did you mean node?"),
        ('"1 Mbit/s"', '"1 MB"', 'has no unit of bit/s, kbit/s, Mbit/s, Gbit/s; a rate such as "10 kbit/s" is wanted'),
        ('"1 Mbit/s"', '"fast"', "is not a number with a unit"),
        ('"1 Mbit/s"', "true", "is not a text"),
        ('"500 ms"', '"20 h"', "out of range"),
        ('"500 ms"', "nan", "not finite"),
        ('"500 ms"', "0.5\nchunk_bytes = 5000", "5000 is not a power of two; 4096 or 8192 would do"),
        ('"500 ms"', "0.5\nchunk_bytes = 4194304", '"4 KiB" to "1 MiB" is allowed'),
        ('"500 ms"', "0.5\ndead_after_s = 0.4", "keepalive_s: is not below dead_after_s"),
        ('"500 ms"', '0.5\nlow_mark_bytes = "8 MiB"', "low_mark_bytes: is not below high_mark_bytes"),
        (
            '"500 ms"',
            '0.5\nchunk_bytes = "4 KiB"\nstore_max_bytes = "175 KiB"',
            "store_max_bytes: is too little for the link to reach high_mark_bytes; 180224 or more: 3 * high_mark_bytes",
        ),
        ('peer = "1.1.0.9"', 'peer = "1.1.0.5"', 'peer 1.1.0.5 is taken already; it is that of link "paris"'),
        ('peer = "1.1.0.9"', 'peer = "1.1.0.1"', "1.1.0.1 is this node"),
        ('name = "rome"', 'name = "paris"', "name paris is taken already"),
        (
            'default_link = "rome"',
            'default_link = "oslo"',
            'default_link: there is no link "oslo"; links are paris, rome',
        ),
        ('"500 ms"', "0.5\nqueue_mark_packets = 1024", "queue_mark_packets: is not below queue_packets"),
        ('name = "rome"', 'name = "Rome!"', "cannot be a name"),
        ("192.0.2.1:7302", "192.0.2.1:99999", "port 99999 is out of range; 1 to 65535 is allowed"),
        ("rome.example.net:7301", "192.0.2.1:7302", "is the same as listen"),
        ("[2001:db8::2]", "[fe80::1%eth0]", 'remote: "[fe80::1%eth0]:7301" is good on one network card only; a global'),
        ("[2001:db8::2]", "[fe80::1]", "is good on one network card only"),
        ("[2001:db8::2]", "[2001:db8::2%eth0]", "is good on one network card only"),
        ("[2001:db8::2]", "[1.2.3.4]", "has no usable host"),
        ('link = "rome"', 'link = "oslo"', 'there is no link "oslo"; links are paris, rome'),
        ("1.1.0.0/16", "1.1.0.1/16", "has host bits set"),
        ('channel = "tcp"', 'channel = "sctp"', '"udp" or "tcp" is wanted'),
        ('channel = "tcp"', 'channel = ["tcp"]', "is not known"),
        ("/etc/qbb/paris.secret", "paris.secret", "is not an absolute path"),
        ("unix:/run/fibre/paris.sock", "/run/fibre", '"unix:/path" or "tcp:host:port" is wanted'),
        ('[500, "7000-7100"]', '["7100-7000"]', "is not an increasing range"),
        ('[500, "7000-7100"]', "500", "is not a list"),
        ('["esp"]', '["ssh"]', '"ssh" is not known'),
        ('"0600"', "600", "is not a file mode"),
        ("[[route]]", "[route]", "[[route]] is wanted"),
        ("[keys]", "[[keys]]", "is not a table"),
        ('name = "alice"', 'name = "alice', "not TOML"),
    ],
)
def test_what_is_wrong_is_named(old: str, new: str, words: str) -> None:
    assert old in WHOLE
    told = problems(WHOLE.replace(old, new, 1))
    assert any(words in line for line in told), told


@pytest.mark.parametrize(
    "settings",
    ['high_mark_bytes = "1024 GiB"', 'chunk_bytes = "1 MiB"\nhigh_mark_bytes = "2 GiB"', 'buffer_bytes = "1 GiB"', ""],
)
def test_a_store_is_large_enough_for_its_mark_when_nothing_else_is_said(settings: str) -> None:
    text = WHOLE.replace('"500 ms"', f"0.5\n{settings}", 1)
    link = config.parse(text).links[0]
    largest = max(link.chunk_bytes, link.buffer_bytes // 4)
    assert link.store_max_bytes >= 4 * link.high_mark_bytes
    assert 3 * link.store_max_bytes // 4 - 6 * largest >= 2 * link.high_mark_bytes
    with_it = text.replace("0.5\n", f"0.5\nstore_max_bytes = {link.store_max_bytes}\n", 1)
    assert config.parse(with_it).links[0].store_max_bytes == link.store_max_bytes


def test_problems_across_tables_are_told_beside_those_inside() -> None:
    text = WHOLE.replace('peer = "1.1.0.9"', 'peer = "1.1.0.5"').replace("qber_alarm = 0.08", "qber_alarm = 8")
    text = text.replace("1.1.0.0/16", "x").replace('name = "alice"', 'name = "Alice"').replace('"charon"', '"a b"')
    text += '[[link]]\nname = "oslo"\npeer = "1.1.0.5"\nlisten = "192.0.2.1:7302"\nremote = "192.0.2.9:1"\n'
    assert [line.split(": ")[1] for line in problems(text)] == [
        "node.name",
        'link "paris".device "paris-1".qber_alarm',
        "route number 1.prefix",
        'keys.client "a b".name',
        'keys.client "a b".user',
        'link "oslo"',
        'link "oslo"',
    ]


def test_a_node_without_links_is_refused() -> None:
    assert problems('[node]\nname = "a"\naddress = "1.1.0.1"\n') == [
        "node.toml: link: there is none; at least one [[link]] is wanted"
    ]


def test_a_file_that_cannot_be_read_is_a_problem_too(tmp_path: Path) -> None:
    with pytest.raises(config.ConfigurationErrors, match=r"none\.toml: cannot be read: No such file"):
        config.load(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_bytes(b"name = '\xff'")
    with pytest.raises(config.ConfigurationErrors, match="byte 8 is not UTF-8"):
        config.load(tmp_path / "bad.toml")


def with_secret(path: Path) -> config.NodeConfig:
    return config.parse(WHOLE.replace("/etc/qbb/paris.secret", str(path)))


def test_secret_files_must_be_there_private_and_regular(tmp_path: Path) -> None:
    secret = tmp_path / "paris.secret"
    node = with_secret(secret)
    assert "qbb link secret --out" in str(config.check_secrets(node)[0])
    secret.write_bytes(b"")
    secret.chmod(0o640)
    assert "has mode 0640; chmod 0600" in str(config.check_secrets(node)[0])
    secret.chmod(0o600)
    assert config.check_secrets(node) == []
    assert "is not a regular file" in str(config.check_secrets(with_secret(tmp_path))[0])


def test_two_links_that_name_one_secret_file_are_found(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"")
    (tmp_path / "secret").chmod(0o600)
    link = '[[link]]\nname = "{0}"\npeer = "1.1.{1}.1"\nlisten = "192.0.2.1:{1}"\nremote = "192.0.2.2:1"\n'
    text = '[node]\nname = "alice"\naddress = "1.1.1.1"\n'
    text += "".join(f'{link.format(name, port)}secret = "{tmp_path}/secret"\n' for name, port in (("a", 7), ("b", 8)))
    (problem,) = config.check_secrets(config.parse(text))
    assert f'link "b".secret: {tmp_path}/secret is taken already' in str(problem)
    assert 'that of link "a".secret: each link wants one of its own' in str(problem)


def test_a_secret_is_the_units_credential_before_it_is_a_file(tmp_path: Path) -> None:
    paris, rome = config.parse(WHOLE).links
    credentials = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    assert config.secret_path(rome, credentials) is None
    for link in (paris, rome):
        (tmp_path / config.credential(link)).touch()
    assert config.secret_path(paris, {}) == Path("/etc/qbb/paris.secret")
    assert config.secret_path(paris, credentials) == tmp_path / "qbb.link.paris"
    assert config.secret_path(rome, credentials) == tmp_path / "qbb.link.rome"
    assert config.secret_path(rome, {}) is None


def test_the_configuration_cannot_be_changed() -> None:
    node = config.parse(WHOLE)
    with pytest.raises(dataclasses.FrozenInstanceError):
        node.links[0].channel = "udp"  # type: ignore[misc]


def test_routing_has_defaults_and_its_helpers() -> None:
    node = config.parse(WHOLE)
    assert node.routing.dead_interval_s == 40
    assert [link.name for link in node.routed_links] == ["paris"]
    assert node.areas == {IPv4Address("0.0.0.0"), IPv4Address("1.1.0.0")}
    assert node.links[0].cost == "derived" and node.links[1].cost == 10


@pytest.mark.parametrize(
    ("before", "after", "wrong"),
    [
        ('network = "1.1.128.4/30"', 'network = "1.1.128.0/24"', "is not a /30"),
        ('network = "1.1.128.4/30"', 'network = "1.1.128.5/30"', "has host bits set"),
        (
            'network = "1.1.128.4/30"',
            'network = "1.1.0.0/30"',
            "1.1.0.0/30 is taken already; it is that of the node's own",
        ),
        ('area = "1.1.0.0"', 'area = "1.1.3.0"', "does not end in .0.0; the area of 1.1.3.0 is 1.1.0.0"),
        ('area = "1.1.0.0"', 'area = "1"', "is not an area"),
        ('cost = "derived"', "cost = 65535", "1 to 65534 is allowed"),
        ('cost = "derived"', 'cost = "cheap"', '"derived" is wanted'),
        ('role = "border"', 'role = "qan"', 'a node in several areas is a "border" node'),
        ('area = "1.1.0.0"', "", "an area besides the backbone 0.0.0.0 is wanted"),
        ("hold_s = 5", "hello_interval_s = 50\ndead_interval_s = 40", "is not below dead_interval_s"),
    ],
)
def test_routing_that_cannot_be(before: str, after: str, wrong: str) -> None:
    assert wrong in "\n".join(problems(WHOLE.replace(before, after, 1)))
