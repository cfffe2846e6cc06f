"""A node of the simulated network: its ends of links, and the pure C relay (csrc/core/relay.h) that joins them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from ipaddress import IPv4Address
from typing import Any

from appliance.forwarding.table import Destination, rows
from appliance.native import _native_probe  # type: ignore[attr-defined]
from appliance.native.forward import Fate, NetworkDrop, OverloadPolicy
from appliance.native.link import Delivery, Direction, LinkParams, Verdict
from appliance.q3p.link import LinkMachine

from .end import CHANNEL_CONTROL, CHANNEL_NETWORK, SimulatedEnd
from .oracle import KeyMisuse
from .packets import key_packet_clear, key_packet_id
from .probe import ProbeEngine

_ffi: Any = _native_probe.ffi
_lib: Any = _native_probe.lib


class RelayEngine(ProbeEngine):
    """An engine that hands deliveries over as C has them: still padded, with the pad beside."""

    def __init__(self, params: LinkParams) -> None:
        super().__init__(params)
        self._datagram = _ffi.new("uint8_t[]", _lib.QBB_PACKET_MAX)

    @property
    def pointer(self) -> Any:
        return self._link

    @property
    def delivery(self) -> Any:
        return self._delivery

    def receive_held(self, now_ns: int, packet: bytes) -> Verdict:
        """On DELIVER, ``delivery`` holds the packet until the next call."""
        _ffi.memmove(self._datagram, packet, len(packet))
        return Verdict(_lib.qbb_link_receive(self._link, now_ns, self._datagram, len(packet), self._delivery))

    def opened(self) -> Delivery:
        d = self._delivery
        payload = bytes(_ffi.buffer(d.payload, d.length))
        clear, padded = payload[: d.clear], payload[d.clear :]
        _lib.qbb_pad(self._opened, padded, d.pad, len(padded))
        opened = clear + self._opened_view[: len(padded)]
        self.wipe()
        return Delivery(d.channel, d.priority, d.command, d.clear, opened)

    def wipe(self) -> None:
        _lib.qbb_wipe(self._delivery.pad, self._delivery.length - self._delivery.clear)

    def spent_words(self) -> int:
        """Of this epoch's stream."""
        _lib.qbb_link_read_stats(self._link, self._stats)
        return int(self._stats.out_loaded - self._stats.out_words)


class RelayEnd(SimulatedEnd):
    """An end whose session key packets go to the node's relay. Every word that it spends must have sealed something."""

    engine: RelayEngine

    def join(self, node: Node, index: int) -> None:
        self.node, self.index = node, index
        self.sealed_words = self.thrown_words = 0
        self.due_ns = 0
        self.session: object = None  # in which the engine's epoch began, the same at both ends
        self.sealed_in: object = None  # what arrives now

    def _packet(self, machine: LinkMachine, packet: bytes) -> None:
        verdict = self.engine.receive_held(self.now_ns, packet)
        if verdict in (Verdict.DELIVER, Verdict.ABSORBED):
            self._note("open", packet)
        elif verdict is Verdict.DROP_TAG and self.sealed_in == self.session:
            raise KeyMisuse(f"{self.name}: a packet that nobody damaged failed its tag")
        if verdict is Verdict.HELLO:
            machine.receive_hello(self.now_ns, packet)
        if verdict is not Verdict.DELIVER:
            return
        self.effect()
        if self.engine.delivery.channel == CHANNEL_CONTROL:
            self._control(machine, self.engine.opened())
        elif self.engine.delivery.channel == CHANNEL_NETWORK:
            self.node.take(self)

    def set_usable(self, usable: bool) -> None:
        super().set_usable(usable)
        self.node.relay.links[self.index].usable = usable

    def begin(self, *slot: Any) -> None:
        super().begin(*slot)
        assert self.machine is not None
        self.session = self.machine.session
        self.sealed_words = self.thrown_words = 0

    def close_below(self, out: bool, word: int) -> None:
        before = self.engine.spent_words()
        super().close_below(out, word)
        self.thrown_words += self.engine.spent_words() - before if out else 0

    def _note(self, doing: str, packet: bytes) -> None:
        before = self.oracle.uses
        super()._note(doing, packet)
        self.sealed_words += self.oracle.uses - before if doing == "seal" else 0

    def pump(self) -> None:
        super().pump()
        if self.engine.running() and self.engine.spent_words() != self.sealed_words + self.thrown_words:
            raise KeyMisuse(
                f"{self.name} spent {self.engine.spent_words()} words, but sealed with {self.sealed_words} "
                f"and gave {self.thrown_words} back"
            )

    def check_memory(self) -> None:
        progress = self.engine.progress()
        if self.engine.unwiped_words(Direction.OUT, [(progress.out_spent, progress.out_loaded)]):
            raise KeyMisuse(f"{self.name} keeps spent words")


class Node:
    """``deliver`` takes opened session key packets for this node; ``seen`` hears of every packet that passes."""

    def __init__(
        self,
        number: int,
        address: IPv4Address,
        deliver: Callable[[int, bytes], None],
        seen: Callable[[int, bytes], None],
    ) -> None:
        self.number, self.address, self._deliver, self._seen = number, address, deliver, seen
        self.ends: list[RelayEnd] = []
        self.relay: Any = _ffi.new("qbb_relay *")
        self.drops: Counter[NetworkDrop] = Counter()
        self.refused = self.alternates = self.passed = 0
        self.touched: set[int] = set()  # links that may have something to send
        self.load = (1.0, float("inf"), 0.0)  # w, L_cr, supply
        self.overload = OverloadPolicy.DEFAULT_LINK
        self._best: dict[int, set[int]] = {}
        self._table: Any = _ffi.NULL
        self._memory: Any = None
        self.alive = False

    def add(self, end: RelayEnd) -> None:
        end.join(self, len(self.ends))
        self.ends.append(end)

    def boot(self, now_ns: int) -> None:
        """A new process: nothing of the old one is left but the disks. May raise Crash."""
        _lib.qbb_relay_init(self.relay, int(self.address))
        self.alive = True
        for end in self.ends:
            end.boot(now_ns)
        for end in self.ends:
            index = _lib.qbb_relay_add(self.relay, end.engine.pointer)
            link = self.relay.links[index]
            link.usable = end.usable
            _lib.qbb_load_init(_ffi.addressof(link, "load"), *self.load[:2])
            link.load.supply_words_s = self.load[2]
        self.relay.forwarding.overload = self.overload
        _lib.qbb_relay_set_table(self.relay, self._table, now_ns, 0)

    def die(self) -> None:
        self.alive = False
        self.touched.clear()
        for end in self.ends:
            end.machine, end.usable = None, False

    def waiting(self) -> int:
        return sum(_lib.qbb_link_waiting(end.engine.pointer) for end in self.ends)

    def set_table(self, table: list[Destination], now_ns: int, hold_ns: int) -> None:
        ways = rows(table)
        memory = _ffi.new("uint64_t[]", _lib.qbb_table_bytes(len(ways)) // 8 + 1)
        built = _lib.qbb_table_build(
            memory, _ffi.new("qbb_way[]", [way.fields() for way in ways]), len(ways), len(self.ends)
        )
        assert built != _ffi.NULL
        _lib.qbb_relay_set_table(self.relay, built, now_ns, hold_ns)
        self._table, self._memory = built, memory
        self._best = {}
        for way in ways:
            if way.best:
                self._best.setdefault(way.prefix, set()).add(way.link)

    def take(self, end: RelayEnd) -> None:
        """A packet that ``end`` verified and still holds."""
        delivery = end.engine.delivery
        clear = bytes(_ffi.buffer(delivery.payload, delivery.clear))
        self._seen(self.number, key_packet_id(clear))
        _lib.qbb_relay_tick(self.relay, end.now_ns)
        found = _lib.qbb_relay_pass(self.relay, end.index, _ffi.cast("uint8_t *", delivery.payload), delivery)
        if found.fate == Fate.LOCAL:
            self._deliver(self.number, end.engine.opened().payload)
            return
        end.engine.wipe()
        self.passed += 1
        self._sent(found, clear)

    def originate(self, now_ns: int, packet: bytes, share: bytes) -> bool:
        """A packet of this node; ``share``: random, as long as its key. False when it was dropped."""
        clear = key_packet_clear(packet)
        self._seen(self.number, key_packet_id(packet))
        masked = bytes(a ^ b for a, b in zip(packet[clear:], share, strict=True))
        _lib.qbb_relay_tick(self.relay, now_ns)
        mutable = _ffi.new("uint8_t[]", packet[:clear] + masked)
        found = _lib.qbb_relay_originate(self.relay, mutable, len(packet), clear, share)
        return self._sent(found, packet[:clear])

    def _sent(self, found: Any, clear: bytes) -> bool:
        if found.fate != Fate.SEND:
            self.drops[NetworkDrop(found.reason)] += 1
            return False
        self.touched.add(found.link)
        self.refused += found.reason != 0
        self.alternates += found.link not in self._best[int.from_bytes(clear[16:20], "big")]
        return found.reason == 0
