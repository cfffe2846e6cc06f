"""One end of a Q3P link for programs in one process: the simulator, tests (csrc/core/link.h; the node runs it in C).

Unlike the node's services this hands key bytes in and opened payloads out as Python bytes: it belongs to programs that
play the whole network, never to a node. A call costs a microsecond or two: buffers are allocated once, and mappings are
kept for the next Engine of the same size.

    engine = Engine(LinkParams(link_id=1, master=True), native=_native_probe)
    engine.begin(1, out_half, in_half)
    engine.submit(Channel.ROUTING, Command.DATA, 3, True, payload, len(payload))
    packet = engine.poll(now_ns)
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from types import ModuleType
from typing import Any, ClassVar, NamedTuple, Self

from appliance.native import _native

HEADER_BYTES = 20
PREAMBLE_BYTES = 8
_PAYLOAD_AT = HEADER_BYTES + PREAMBLE_BYTES


class Direction(IntEnum):
    OUT = 0
    IN = 1


class Channel(IntEnum):
    CONTROL = 0
    NETWORK = 1
    ROUTING = 2
    DEVICE = 16  # the first of the devices' channels


class Command(IntEnum):
    HELLO = 0
    DATA = 1
    ACK = 2
    SKIP = 3
    CONTROL = 4


class Verdict(IntEnum):
    """enum qbb_verdict: what became of a packet."""

    DELIVER = 0
    ABSORBED = 1
    HELLO = 2
    DROP_SHORT = 3
    DROP_LENGTH = 4
    DROP_VERSION = 5
    DROP_FLAGS = 6
    DROP_COMMAND = 7
    DROP_NO_EPOCH = 8
    DROP_WINDOW = 9
    DROP_DUPLICATE = 10
    DROP_TAG = 11
    DROP_CLEAR = 12
    DROP_QUEUE_FULL = 13
    DROP_QUEUE_EPOCH = 14


class Cause(IntEnum):
    """enum qbb_cause: why key words were spent."""

    PAD = 0
    TAG_DATA = 1
    TAG_CONTROL = 2
    TAG_ACK = 3
    TAG_ROUTING = 4
    STORE = 5
    LOST = 6


_VERDICTS = tuple(Verdict)
_NEVER = 2**64 - 1


class Refused(Exception):
    """The link did not take a packet from its own side; ``verdict`` says why."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(f"the link refused the packet: {verdict.name}")
        self.verdict = verdict


@dataclass(frozen=True, slots=True)
class LinkParams:
    """qbb_link_params, and the size of each key buffer. Words are 8 bytes."""

    link_id: int
    master: bool
    queue_slots: int = 128
    flight_slots: int = 128
    window_words: int = 4096
    reserve_words: int = 0
    ack_delay_ns: int = 50_000_000
    rto_ns: int = 250_000_000
    rto_max_ns: int = 4_000_000_000
    give_up_tries: int = 10
    buffer_words: int = 8192  # a power of two, at least window_words


class Delivery(NamedTuple):
    """A verified packet. payload is opened: of its bytes, those behind ``clear`` travelled padded."""

    channel: int
    priority: int
    command: int
    clear: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class LinkStats:
    """qbb_link_stats: counters since the engine was made (or reset); words count from the start of the epoch."""

    verdicts: dict[Verdict, int]
    spent_words: dict[Cause, int]
    sent_packets: int
    sent_bytes: int
    received_packets: int
    received_bytes: int
    resent_packets: int
    skipped_packets: int
    delivered_key_bytes: int
    queued: int
    queued_control_words: int
    in_flight: int
    out_words: int
    in_words: int
    out_loaded: int
    in_loaded: int
    out_settled: int
    last_verified_ns: int


_STATS_FIELDS = tuple(name for name in LinkStats.__dataclass_fields__ if name not in ("verdicts", "spent_words"))


def stats_from(stats: Any) -> LinkStats:
    """From a qbb_link_stats."""
    return LinkStats(
        verdicts={verdict: stats.verdicts[verdict] for verdict in Verdict},
        spent_words={cause: stats.spent_words[cause] for cause in Cause},
        **{name: getattr(stats, name) for name in _STATS_FIELDS},
    )


class Engine:
    """Owns its memory. close() (or losing the last reference) wipes it and keeps the mappings for the next Engine."""

    def __init__(self, params: LinkParams, native: ModuleType | None = None) -> None:
        """Raises ValueError for parameters that csrc/core/link.c refuses, OSError when there is no key memory."""
        module: Any = native or _native
        self._ffi: Any = module.ffi
        self._lib: Any = module.lib
        self._out: Any = self._ffi.new("uint8_t[]", self._lib.QBB_PACKET_MAX)
        self._out_view: Any = self._ffi.buffer(self._out)
        self._opened: Any = self._ffi.new("uint8_t[]", self._lib.QBB_PACKET_MAX)
        self._opened_view: Any = self._ffi.buffer(self._opened)
        self._delivery: Any = self._ffi.new("qbb_delivery *")
        self._pad: Any = self._delivery.pad
        self._half_bytes: int = self._lib.QBB_SLOT_HALF_BYTES
        self._memory: _Memory | None = None
        self._make(params)

    def _make(self, params: LinkParams) -> None:
        memory = _Memory.take(self._ffi, self._lib, params)
        self._memory = memory
        self.params = params
        self._give_back: Callable[[], object] = weakref.finalize(self, memory.give_back)
        link = memory.link(params)
        if link == self._ffi.NULL:
            self.close()
            raise ValueError(f"parameters of a link: {params}")
        self._link = link

    def reset(self, params: LinkParams | None = None) -> None:
        """As new: no epoch, counters at zero. Cheap when the sizes stay the same."""
        self.close()
        self._make(params or self.params)

    def close(self) -> None:
        self._give_back()
        self._link = self._ffi.NULL
        self._memory = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Epochs and key.

    def begin(self, epoch: int, out_half: bytes, in_half: bytes) -> None:
        """Start an epoch with the two halves of its slot (128 bytes each); everything of the old one is gone."""
        if len(out_half) != self._half_bytes or len(in_half) != self._half_bytes:
            raise ValueError(f"slot halves of {len(out_half)} and {len(in_half)} bytes: {self._half_bytes} each")
        self._lib.qbb_link_begin(self._link, epoch, out_half, in_half)

    def end(self) -> None:
        self._lib.qbb_link_end(self._link)

    def running(self) -> bool:
        return bool(self._lib.qbb_link_running(self._link))

    def load(self, direction: Direction, key: bytes) -> bool:
        """Append whole words to a direction's stream; False when its buffer has no room for all of them."""
        words, rest = divmod(len(key), 8)
        if rest:
            raise ValueError(f"{len(key)} bytes of key: not whole words of 8 bytes")
        place = self._lib.qbb_link_reserve(self._link, direction, words)
        if place == self._ffi.NULL:
            return False
        self._ffi.memmove(place, key, len(key))
        self._lib.qbb_link_commit(self._link, direction, words)
        return True

    def close_below(self, direction: Direction, word: int) -> None:
        self._lib.qbb_link_close_below(self._link, direction, word)

    def allow(self, priority: int) -> None:
        """Only packets of at least this priority may leave; 8: none."""
        self._lib.qbb_link_allow(self._link, priority)

    # Packets.

    def submit(
        self,
        channel: int,
        command: int,
        priority: int,
        reliable: bool,
        payload: bytes,
        clear: int,
        pad_a: bytes | None = None,
    ) -> None:
        """Queue a packet whose first ``clear`` bytes go unpadded; the rest is XORed with pad_a, if there is one.
        Raises Refused."""
        if pad_a is None:
            pad_a = self._ffi.NULL
        elif len(pad_a) != len(payload) - clear:
            raise ValueError(f"pad_a of {len(pad_a)} bytes for {len(payload) - clear} padded bytes")
        reason = self._lib.qbb_link_submit(
            self._link, channel, command, priority, reliable, payload, len(payload), clear, pad_a
        )
        if reason:
            raise Refused(_VERDICTS[-reason])

    def receive(self, now_ns: int, packet: bytes) -> tuple[Verdict, Delivery | None]:
        """Deal with one datagram. A Delivery comes with DELIVER alone."""
        delivery = self._delivery
        verdict = self._lib.qbb_link_receive(self._link, now_ns, packet, len(packet), delivery)
        if verdict:
            return _VERDICTS[verdict], None
        clear, end = delivery.clear, _PAYLOAD_AT + delivery.length
        payload = packet[_PAYLOAD_AT : _PAYLOAD_AT + clear]
        padded = packet[_PAYLOAD_AT + clear : end]
        if padded:
            length = len(padded)
            self._lib.qbb_pad(self._opened, padded, self._pad, length)
            payload += self._opened_view[:length]
            self._lib.qbb_wipe(self._pad, length)
            self._lib.qbb_wipe(self._opened, length)
        return Verdict.DELIVER, Delivery(delivery.channel, delivery.priority, delivery.command, clear, payload)

    def poll(self, now_ns: int) -> bytes | None:
        """The next datagram to send now."""
        length = self._lib.qbb_link_poll(self._link, now_ns, self._out)
        return self._out_view[:length] if length else None

    def deadline(self) -> int | None:
        """When poll may have something without new input, in ns; 0: now; None: never."""
        deadline: int = self._lib.qbb_link_deadline(self._link)
        return None if deadline == _NEVER else deadline

    def stats(self) -> LinkStats:
        stats = self._ffi.new("qbb_link_stats *")
        self._lib.qbb_link_read_stats(self._link, stats)
        return stats_from(stats)


class _Memory:
    """What one Engine needs: key memory for its secrets, two mirrored key buffers, plain memory."""

    _pool: ClassVar[dict[tuple[int, ...], list[_Memory]]] = {}

    def __init__(self, ffi: Any, lib: Any, params: LinkParams) -> None:
        wanted = ffi.new("qbb_link_params *", params_fields(params))
        secret_bytes, plain_bytes = lib.qbb_link_secret_bytes(wanted), lib.qbb_link_plain_bytes(wanted)
        if secret_bytes == 0 or params.buffer_words < 512 or params.buffer_words & (params.buffer_words - 1):
            raise ValueError(f"parameters of a link: {params}")
        self._ffi, self._lib = ffi, lib
        self._layout = _layout(lib, params)
        self._link = ffi.NULL
        self._plain = ffi.new("uint8_t[]", plain_bytes + 64)
        self._aligned = self._plain + -int(ffi.cast("uintptr_t", self._plain)) % 64
        self._secret = self._mapped(lib.qbb_keymem_map(secret_bytes))
        self._buffers = [self._mapped(lib.qbb_keymem_map_mirrored(8 * params.buffer_words)) for _ in Direction]

    def _mapped(self, pointer: Any) -> Any:
        if pointer == self._ffi.NULL:
            raise OSError(self._ffi.errno, "no key memory: is the limit of locked memory too low?")
        return self._ffi.cast("uint8_t *", pointer)

    @classmethod
    def take(cls, ffi: Any, lib: Any, params: LinkParams) -> _Memory:
        pool = cls._pool.get(_layout(lib, params))
        return pool.pop() if pool else cls(ffi, lib, params)

    def link(self, params: LinkParams) -> Any:
        wanted = self._ffi.new("qbb_link_params *", params_fields(params))
        self._link = self._lib.qbb_link_init(
            wanted, self._secret, self._aligned, self._buffers[0], self._buffers[1], params.buffer_words
        )
        return self._link

    def give_back(self) -> None:
        if self._link != self._ffi.NULL:
            self._lib.qbb_link_end(self._link)  # wipes all key
        _Memory._pool.setdefault(self._layout, []).append(self)


def _layout(lib: Any, params: LinkParams) -> tuple[int, ...]:
    return id(lib), params.queue_slots, params.flight_slots, params.window_words, params.buffer_words


def params_fields(params: LinkParams) -> dict[str, int]:
    names = params.__dataclass_fields__.keys() - {"buffer_words"}
    return {name: getattr(params, name) for name in names}
