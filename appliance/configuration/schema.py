"""The schema of node.toml: a row per setting. The parser, `qbb check`, the printed configuration and the
manual page qbb-node.toml(5) are all made from these rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from ipaddress import IPv4Address
from itertools import pairwise
from pathlib import Path
from typing import Any

from appliance.configuration import values as v
from appliance.configuration.siteschema import SITE
from appliance.configuration.table import REQUIRED, Derived, Rule, Setting, Table

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
CHUNK_LOW, CHUNK_HIGH = 4 * KIB, MIB
CHUNK_SECONDS = 4
STORE_LOW, STORE_HIGH = 64 * MIB, GIB
DAY_S = 86_400
TRAFFIC_PRIORITY_MAX = 5  # 6 and 7 are those of routing and control


def chunk_for_rate(key_rate_bps: int) -> int:
    """Chunk size in bytes: the power of two below four seconds of key, 4 KiB to 1 MiB."""
    four_seconds_bytes = key_rate_bps * CHUNK_SECONDS // 8
    return max(CHUNK_LOW, min(CHUNK_HIGH, 1 << max(four_seconds_bytes.bit_length() - 1, 0)))


def least_store(table: Mapping[str, Any]) -> int:
    """With less, a link that has its fill might never reach its high mark, and get no more key to do so.

    The mark is of one direction, which counts on half of the common key. Beside that may lie: six chunks (two opened
    in each direction, one spared for the next epochs, and one that is not taken since it would exceed the fill), each
    of the size of the largest block if that is larger; and a quarter of all in blocks that the peer does not have."""
    high_mark_bytes: int = table["high_mark_bytes"]
    largest: int = max(table["chunk_bytes"], table["buffer_bytes"] // 4)
    return 3 * high_mark_bytes + 8 * largest  # at least 4/3 of twice the mark and six such chunks


def store_for_rate(table: Mapping[str, Any]) -> int:
    """Most bytes of key that a link keeps: for a day without its devices; idle links do not fill the disk."""
    day_bytes: int = table["key_rate_bps"] * DAY_S // 8
    high_mark_bytes: int = table["high_mark_bytes"]
    return max(STORE_LOW, min(STORE_HIGH, day_bytes), 4 * high_mark_bytes, least_store(table))


def _power_of_two(setting: str) -> Rule:
    def rule(table: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
        value = table[setting]
        if value & (value - 1):
            below = 1 << (value.bit_length() - 1)
            yield setting, f"{value} is not a power of two", f"{below} or {2 * below} would do"

    return rule


def _increasing(*settings: str) -> Rule:
    def rule(table: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
        for lower, upper in pairwise(settings):
            if table[lower] >= table[upper]:
                yield lower, f"is not below {upper}", f"{' < '.join(settings)} is wanted"

    return rule


def _room_to_charge(table: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    least = least_store(table)
    if table["store_max_bytes"] < least:
        what = "3 * high_mark_bytes + 8 * chunk_bytes (or 2 * buffer_bytes, if that is more)"
        yield "store_max_bytes", "is too little for the link to reach high_mark_bytes", f"{least} or more: {what}"


def _identified(table: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    if all(table[key] is None for key in ("uid", "gid", "user", "group")):
        yield "", "names nobody", "uid, gid, user or group is wanted"


def _ends_differ(table: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    if table["listen"] == table["remote"]:
        yield "remote", "is the same as listen", "the neighbour's own host:port is wanted"


DEVICE = Table(
    "device", "devices", True,
    "A QKD device that feeds the link. It is served by the unit qbb-device@NAME.",
    (
        Setting("name", v.name, REQUIRED,
                "Name of the device, equal at both ends of the fibre and unique in the node."),
        Setting("kind", v.choice("simulated"), "simulated", "Kind of driver."),
        Setting("fibre", v.fibre, REQUIRED,
                "Where the simulated fibre (python -m appliance.devices.fibre) listens."),
        Setting("qber_alarm", v.fraction(0.001, 0.5), 0.11,
                "Blocks with a quantum bit error rate above this are discarded and raise an alarm. "
                "Must be equal at both ends."),
        Setting("clear_after_blocks", v.integer(1, 1000), 3,
                "The alarm clears after so many good blocks in a row."),
        Setting("stalled_after_s", v.duration(0.1, 86400), 30.0,
                "Without a block for so long the device is reported as stalled.", "s"),
        Setting("pending_blocks", v.integer(1, 4096), 64,
                "Blocks kept for the data plane while it does not accept them; further ones are dropped."),
        Setting("on_alarm", v.choice("down", "ignore"),
                "down", "Whether an alarm of this device takes the link down."),
    ),
)  # fmt: skip

LINK = Table(
    "link", "links", True,
    "A Q3P link to a neighbour. At least one is wanted.",
    (
        Setting("name", v.name, REQUIRED, "Name of the link at this node."),
        Setting("peer", v.node_address, REQUIRED, "Node address of the neighbour."),
        Setting("listen", v.channel_address, REQUIRED,
                "Local host:port of the classical channel. A name is one of IPv4 here."),
        Setting("remote", v.channel_address, REQUIRED,
                "The neighbour's host:port. A name is resolved in the family of listen, and again as long as nothing "
                "is heard of the neighbour."),
        Setting("channel", v.choice("udp", "tcp"), "udp", "Kind of classical channel; equal at both ends."),
        Setting("secret", v.path, None,
                "File with the link's secret, made by qbb link secret and carried to both ends by hand, "
                "mode 0600. A systemd credential qbb.link.NAME goes before it: see qbb-units(7).",
                secret=True),
        Setting("hash", v.choice("polyval"),
                "polyval", "Hash of the authentication tags; equal at both ends."),
        Setting("network", v.link_network, None,
                "The link's /30 in the QKD network, equal at both ends; the node with the lower address has the lower "
                "one. Without it no routing runs over the link."),
        Setting("area", v.area, None, "Routing area of the link, equal at both ends; when left out, routing.area."),
        Setting("cost", v.cost, 10,
                'Cost of the link to routing, in this direction; "derived": from the key rate and the stored key.'),
        Setting("key_rate_bps", v.rate(1, 10**10), 10_000,
                "Key rate that the link's devices are expected to make together.", "bit/s"),
        Setting("chunk_bytes", v.size(CHUNK_LOW, CHUNK_HIGH),
                Derived("four seconds of key_rate_bps, as a power of two",
                        lambda table: chunk_for_rate(table["key_rate_bps"])),
                "Key is handled in chunks of this size, a power of two. Equal at both ends.", "bytes"),
        Setting("buffer_bytes", v.size(8 * KIB, GIB),
                Derived("eight chunks, at least 64 KiB", lambda t: max(8 * t["chunk_bytes"], 64 * KIB)),
                "Locked memory for each direction's open key, a power of two.", "bytes"),
        Setting("window_bytes", v.size(4 * KIB, GIB),
                Derived("half of buffer_bytes", lambda t: t["buffer_bytes"] // 2),
                "Key that may be in flight, unacknowledged. Equal at both ends.", "bytes"),
        Setting("high_mark_bytes", v.size(KIB, 1 << 40),
                Derived("four chunks", lambda t: 4 * t["chunk_bytes"]),
                "Stored key at which an exhausted link takes traffic again.", "bytes"),
        Setting("low_mark_bytes", v.size(64, 1 << 40),
                Derived("one chunk", lambda t: t["chunk_bytes"]),
                "Below this, per direction, only control packets spend key and the link is down for traffic.",
                "bytes"),
        Setting("store_mark_bytes", v.size(64, 1 << 40),
                Derived("a quarter of a chunk", lambda t: t["chunk_bytes"] // 4),
                "Below this, per direction, only the confirmation of new key spends key.", "bytes"),
        Setting("store_max_bytes", v.size(KIB, 1 << 44),
                Derived("a day of key_rate_bps, from 64 MiB to 1 GiB; at least four times high_mark_bytes, and what "
                        "is wanted", store_for_rate),
                "Key that is kept: when there is so much, no more is taken from the devices until some is spent. "
                "Wanted is 3 * high_mark_bytes + 8 * chunk_bytes (or 2 * buffer_bytes, if that is more): with less the "
                "link might never reach high_mark_bytes.",
                "bytes"),
        Setting("keepalive_s", v.duration(0.05, 3600), 2.0, "Interval of keep-alives on an idle link.", "s"),
        Setting("dead_after_s", v.duration(0.1, 86400),
                Derived("five keep-alives", lambda t: 5 * t["keepalive_s"]),
                "A neighbour that was not heard for so long is dead.", "s"),
        Setting("queue_packets", v.integer(16, 1 << 16), 1024, "Waiting packets, all priorities together."),
        Setting("flight_packets", v.integer(4, 1 << 14), 256,
                "Sealed packets awaiting acknowledgement, a power of two."),
        Setting("ack_delay_s", v.duration(0, 1), 0.05,
                "A lone acknowledgement waits so long for a packet to ride on.", "s"),
        Setting("rto_s", v.duration(0.005, 60), 0.25, "First retransmission time-out.", "s"),
        Setting("rto_max_s", v.duration(0.005, 600), 4.0, "Longest retransmission time-out.", "s"),
        Setting("give_up_tries", v.integer(1, 100), 8, "Transmissions after which a packet is given up."),
        Setting("load_window", v.fraction(1, 10_000), 20.0,
                "The load filter's constant w, in tenths of a second: how long the load is remembered."),
        Setting("load_critical", v.fraction(0.001, 1000), 0.9,
                "Load from which on other links are preferred (L_cr). At 1 key is used up as fast as it comes."),
        Setting("load_store_s", v.duration(1, 86400), 20.0,
                "For the load, stored key above low_mark_bytes counts as key rate, spread over so long.", "s"),
        Setting("queue_mark_packets", v.integer(1, 1 << 16),
                Derived("three quarters of queue_packets", lambda t: max(3 * t["queue_packets"] // 4, 1)),
                "Waiting packets from which on other links are preferred, and session key packets are dropped "
                "when there is none."),
    ),
    (DEVICE,),
    (
        _power_of_two("chunk_bytes"), _power_of_two("buffer_bytes"), _power_of_two("flight_packets"),
        _increasing("store_mark_bytes", "low_mark_bytes", "high_mark_bytes"), _room_to_charge,
        _increasing("chunk_bytes", "buffer_bytes"), _increasing("window_bytes", "buffer_bytes"),
        _increasing("keepalive_s", "dead_after_s"),
        _increasing("ack_delay_s", "rto_s", "rto_max_s"),
        _increasing("queue_mark_packets", "queue_packets"), _ends_differ,
    ),
    needed=True,
)  # fmt: skip

FORWARDING = Table(
    "forwarding", "forwarding", False,
    "How session-key packets are forwarded when links are loaded, and what their senders are told.",
    (
        Setting("overload", v.choice("default-link", "drop"), "default-link",
                "What becomes of a packet when the load of all links that it may take is critical: sent nevertheless, "
                "by default_link if that leads there, else by the cheapest link; or dropped."),
        Setting("default_link", v.name, None, "The link preferred when all are overloaded."),
        Setting("reports_per_s", v.fraction(0.001, 10_000), 10.0,
                "ICMP errors about dropped packets, at most so many a second; each costs key.", "1/s"),
        Setting("reports_at_once", v.integer(1, 1000), 10, "ICMP errors that may be sent at once."),
    ),
)  # fmt: skip

ROUTE = Table(
    "route", "routes", True,
    "A static route of session-key packets. Neighbours need none.",
    (
        Setting("prefix", v.prefix, REQUIRED, "Destination."),
        Setting("link", v.name, REQUIRED, "Link to send by."),
    ),
)  # fmt: skip

CLIENT = Table(
    "client", "clients", True,
    "Who may use pfkey.sock, and for which applications. The first rule that matches the peer's credentials "
    "holds; without a matching rule a client is refused.",
    (
        Setting("name", v.name, REQUIRED, "Name of the rule, as it stands in audit records."),
        Setting("uid", v.integer(0, 2**32 - 2), None, "User id of the client."),
        Setting("gid", v.integer(0, 2**32 - 2), None, "Group id of the client."),
        Setting("user", v.account, None, "User name of the client."),
        Setting("group", v.account, None, "Group name of the client."),
        Setting("ports", v.ports, (v.PortRange(1, 65535),),
                "Application ports that it may register and ask keys for."),
        Setting("applications",
                v.several(v.choice("esp", "tls"), 'a list of "esp", "tls" is wanted'),
                ("esp", "tls"), "Kinds of security association that it may ask keys for."),
        Setting("names", v.names, ("*",),
                "Names in the network that it may register, with the wildcards of shells (* ? [a-z]). A name is not "
                "reserved: whoever may register it can be connected to by it."),
        Setting("priority", v.integer(0, TRAFFIC_PRIORITY_MAX), 0,
                "Highest priority that it may ask for. In the queues of links, keys of a higher one go first."),
        Setting("keys_per_s", v.fraction(0.001, 1e6), 100.0, "Average rate of keys.", "1/s"),
        Setting("burst_keys", v.integer(1, 1 << 20), 256, "Keys that may be asked for at once."),
        Setting("stock_keys", v.integer(0, 1 << 16), 256, "Undelivered keys that may be kept for it."),
        Setting("connections", v.integer(1, 1 << 14), 64, "Connections that it may have open."),
    ),
    rules=(_identified,),
)  # fmt: skip

KEYS = Table(
    "keys", "keys", False,
    "The keys service.",
    (
        Setting("socket", v.path, None,
                "Socket for key clients; when left out, pfkey.sock in the runtime directory."),
        Setting("socket_mode", v.mode, 0o660, "Mode of the socket."),
        Setting("first_spi", v.integer(256, 2**32 - 1), 0xC0000000,
                "First SPI of the range that this node hands out."),
        Setting("last_spi", v.integer(256, 2**32 - 1), 0xCFFFFFFF, "Last SPI of that range."),
        Setting("shelf_keys", v.integer(16, 1 << 20), 4096,
                "Session keys held in locked memory, all clients together."),
        Setting("key_lifetime_s", v.duration(1, 30 * 86400), 3600.0,
                "A key that nobody fetched is wiped after this.", "s"),
        Setting("hardware_source", v.path, None,
                "A hardware or quantum random number generator, such as /dev/hwrng, whose bytes are XORed with the "
                "kernel's (getrandom). Its health is tested at the start and all along (SP 800-90B): when it fails, no "
                "key is drawn any more. When left out, session keys are the kernel's alone."),
        Setting("hardware_entropy_bits", v.integer(1, 8), 1,
                "Entropy that the hardware source claims for each of its bytes: the tests are set by it.", "bit"),
    ),
    (CLIENT,),
    (_increasing("first_spi", "last_spi"),),
)  # fmt: skip

NODE = Table(
    "node", "", False,
    "The node itself.",
    (
        Setting("name", v.name, REQUIRED, "Name of the node."),
        Setting("address", v.node_address, REQUIRED, "Node address in the QKD network."),
        Setting("state_directory", v.path, Path("/var/lib/qbb"),
                "Key stores and logs. Keep it out of backups and snapshots: key that comes back is key used "
                "twice."),
        Setting("runtime_directory", v.path, Path("/run/qbb"), "Sockets."),
    ),
)  # fmt: skip

ROUTING = Table(
    "routing", "routing", False,
    "The unit qbb-routing: OSPF over the links that have a network.",
    (
        Setting("role", v.choice("qbb", "border", "qan"), "qbb",
                'What the node is: "border" has links in several areas, "qan" (quantum access node) is never gone '
                "through."),
        Setting("area", v.area, IPv4Address("0.0.0.0"),
                'The area of the node\'s own /30 network: x.y.0.0, or the backbone "0.0.0.0", through which all areas '
                "are joined."),
        Setting("hello_interval_s", v.integer(1, 65535), 10,
                "Interval of OSPF's hellos, equal at both ends of a link. Each costs 16 bytes of key.", "s"),
        Setting("dead_interval_s", v.integer(2, 65535),
                Derived("four hello intervals", lambda t: min(4 * t["hello_interval_s"], 65535)),
                "Without a hello for so long a neighbour is dead. A link that Q3P takes down is dead at once.", "s"),
        Setting("hold_s", v.duration(0, 3600), 2.0,
                "For so long after a change of the network only best paths are used: the nodes learn of it one after "
                "the other.", "s"),
        Setting("damping_half_life_s", v.duration(0, 3600), 15.0,
                "A link that went down three times in such a time is told to OSPF as down until it kept up for one or "
                "two more; its neighbour is reached by it nevertheless. 0: links that flap are not damped.", "s"),
        Setting("namespace", v.namespace, None,
                "Network namespace that qbb-routing and qbb-frr enter, made when it is not there; when left out, they "
                "stay where they are started. Nothing but loopback and the links' TUNs may be in it: FRR's API is open "
                "to all who get there."),
        Setting("frr", v.path, Path("/usr/lib/frr"), "Where FRR's zebra and ospfd are."),
    ),
    rules=(_increasing("hello_interval_s", "dead_interval_s"),),
)  # fmt: skip

TABLES = (NODE, LINK, FORWARDING, ROUTE, ROUTING, KEYS, SITE)
