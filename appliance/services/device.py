"""The unit qbb-device@NAME: one QKD device, its driver, its alarms, and the delivery of its blocks.

    python -m appliance.services.device NAME --config /etc/qbb/node.toml

It holds raw blocks until the data plane has accepted them, in key memory. It does not decide about the link:
alarms go to the data plane, which acts by the device's on_alarm.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from typing import Any

from appliance.config import DeviceConfig, LinkConfig, NodeConfig
from appliance.devices import block as blocks
from appliance.devices.alarms import Alarm, Judge
from appliance.devices.simulated import Batch
from appliance.native import keymem
from appliance.services import journal, notify, startup
from appliance.services.control import ControlServer
from appliance.services.delivery import Delivery
from appliance.services.fibreend import FibreEnd
from appliance.services.runtime import Loop, Timer

LONGEST_BLOCK_BYTES = 1 << 20
RATE_WINDOW_S = 30.0
STATUS_INTERVAL_S = 2.0
ALARM_WORDS = {
    "qber": "the error rate is above the threshold: somebody taps the fibre, or device or fibre is faulty",
    "no-light": "no light arrives: the fibre is cut, or the source is dead",
    "stalled": "no exchange with the far end: fibre, far device or far node is away",
}


class RateMeter:
    """Bits a second over the last RATE_WINDOW_S."""

    def __init__(self, now_s: float) -> None:
        self._since_s = now_s
        self._made: deque[tuple[float, int]] = deque()

    def add(self, now_s: float, bits: int) -> None:
        self._made.append((now_s, bits))

    def bps(self, now_s: float) -> float:
        while self._made and self._made[0][0] <= now_s - RATE_WINDOW_S:
            self._made.popleft()
        span_s = min(RATE_WINDOW_S, max(now_s - self._since_s, 1.0))
        return sum(bits for _, bits in self._made) / span_s


class Service:
    """Driver, judge and delivery, wired together."""

    def __init__(self, loop: Loop, node: NodeConfig, link: LinkConfig, device: DeviceConfig) -> None:
        now = loop.now()
        self._loop, self._node, self._link, self._device = loop, node, link, device
        self._started_s = now
        self._judge = Judge(now, device.qber_alarm, device.clear_after_blocks, device.stalled_after_s)
        self._stall_timer: Timer | None = None
        self._rate = RateMeter(now)
        self._state = "starting"
        self._distance_km = 0.0
        self._made = self._discarded = 0
        self._full = False  # the last block found no room
        self._fibre = FibreEnd(
            loop, device.fibre, {"end": node.name, "qber_alarm": device.qber_alarm}, self._received, self._fibre_lost
        )
        self._delivery = Delivery(
            loop, node.device_socket, link.name, device.name, device.pending_blocks, self._dataplane_connected
        )
        self._control = ControlServer(
            loop, node.control_socket(f"device-{device.name}"), {"status": lambda arguments: self.status()}
        )

    def start(self) -> None:
        self._fibre.start()
        self._delivery.start()
        self._watch_for_stall()
        self._loop.every(STATUS_INTERVAL_S, self._report)

    def stop(self) -> None:
        self._control.close()
        self._fibre.stop()
        self._delivery.stop()

    def status(self) -> dict[str, Any]:
        now = self._loop.now()
        return {
            "name": self._device.name,
            "link": self._link.name,
            "kind": self._device.kind,
            "fibre": self._device.fibre,
            "state": self._state,
            "distance_km": self._distance_km,
            "qber": round(self._judge.qber, 5),
            "rate_bps": round(self._rate.bps(now), 1),
            "alarms": sorted(self._judge.active),
            "blocks_made": self._made,
            "blocks_discarded": self._discarded,
            "blocks_accepted": self._delivery.counters.accepted,
            "blocks_refused": self._delivery.counters.refused,
            "blocks_pending": self._delivery.pending,
            "dataplane": self._delivery.state,
            "uptime_s": round(now - self._started_s, 1),
            "memory": keymem.kind(),
        }

    # From the fibre

    def _received(self, message: dict[str, Any], secret: bytearray) -> None:
        """Raises KeyError, TypeError and ValueError for a message of the wrong form."""
        now = self._loop.now()
        kind = message["type"]
        if kind == "batch":
            counts = [int(message[name]) for name in ("pulses", "clicks", "sifted_bits", "error_bits")]
            self._state, self._distance_km = "exchanging", float(message["distance_km"])
            self._alarms(self._judge.batch(now, Batch(*counts)))
        elif kind == "block":
            self._block(now, message, secret)
        elif kind == "discarded":
            # While a tap lasts nothing gathers any more: the alarm says it once, not each sample again.
            self._discard(
                f"a block in the making, at an error rate of {float(message['qber']):.1%}",
                quiet=int(message["secret_bits"]) == 0,
            )
        elif kind == "alone":
            self._state = "alone"
        self._watch_for_stall()

    def _block(self, now: float, message: dict[str, Any], secret: bytearray) -> None:
        id, length, qber = int(message["id"]), int(message["length_bytes"]), float(message["qber"])
        if not 0 <= id < 1 << 64 or not 8 <= length <= LONGEST_BLOCK_BYTES or length % 8:
            raise ValueError(f"block {id} of {length} bytes")
        good, changes = self._judge.block(now, qber)
        self._alarms(changes)
        if not good:
            self._discard(f"block {id}, at an error rate of {qber:.1%}")
            return
        pattern = bytes.fromhex(message.get("pattern", ""))
        try:
            block = blocks.expand(id, length, qber, time.time_ns(), secret, pattern=pattern, flip=message.get("flip"))
        except OSError as error:
            self._discard(f"block {id}: {error}")
            return
        self._made += 1
        self._rate.add(now, 8 * length)
        kept = self._delivery.offer(block)
        if not kept:
            self._discard(f"no room for block {id}, the data plane is {self._delivery.state}", quiet=self._full)
        self._full = not kept

    def _discard(self, what: str, quiet: bool = False) -> None:
        """Counts, and writes it to the journal unless it says nothing new."""
        self._discarded += 1
        if not quiet:
            text = f"{self._device.name}: {what}"
            journal.write("block-discarded", text, link=self._link.name, device=self._device.name)

    def _fibre_lost(self, reason: str) -> None:
        if self._state != "no fibre":
            journal.write("fibre-lost", reason, link=self._link.name, device=self._device.name)
        self._state = "no fibre"

    # To the data plane

    def _dataplane_connected(self) -> None:
        for cause in sorted(self._judge.active):
            self._delivery.tell(self._alarm_message(Alarm(cause, True, self._judge.qber)))
        self._report()

    def _alarms(self, changes: list[Alarm]) -> None:
        for change in changes:
            event = f"device-alarm-{change.cause}" if change.on else "device-alarm-cleared"
            words = ALARM_WORDS[change.cause] if change.on else f"{change.cause} is over"
            journal.write(
                event,
                f"{self._device.name}: {words}",
                link=self._link.name,
                device=self._device.name,
                cause=change.cause,
                qber=f"{change.qber:.4f}",
            )
            self._delivery.tell(self._alarm_message(change))

    @staticmethod
    def _alarm_message(alarm: Alarm) -> dict[str, Any]:
        return {"type": "alarm", "on": alarm.on, "cause": alarm.cause, "qber": alarm.qber}

    def _report(self) -> None:
        status = self.status()
        kept = ("state", "qber", "rate_bps", "distance_km", "alarms")
        self._delivery.tell({"type": "status", **{name: status[name] for name in kept}})
        alarms = f", alarm: {', '.join(status['alarms'])}" if status["alarms"] else ""
        notify.status(f"{status['state']}, QBER {status['qber']:.1%}, {status['rate_bps']:.0f} bit/s{alarms}")

    # Stalling

    def _watch_for_stall(self) -> None:
        if self._stall_timer is not None:
            self._stall_timer.cancel()
        self._stall_timer = self._loop.at(self._judge.deadline_s(), self._maybe_stalled)

    def _maybe_stalled(self) -> None:
        self._alarms(self._judge.tick(self._loop.now()))


def main(words: list[str] | None = None) -> int:
    parser = startup.arguments("qbb-device", "Serves one QKD device of this node.")
    parser.add_argument("name", metavar="NAME", help="the device, as in [[link.device]]")
    options = parser.parse_args(words)
    node = startup.configuration(options.config)
    try:
        link, device = node.device(options.name)
    except KeyError:
        journal.write("configuration-refused", f"{options.config}: there is no device {options.name}")
        return startup.BAD_CONFIGURATION
    loop = Loop()
    try:
        startup.harden(node.runtime_directory)
        service = Service(loop, node, link, device)
    except OSError as error:
        journal.write("unit-failed", f"{error.strerror or error}: {error.filename or node.runtime_directory}")
        return 1
    service.start()
    journal.write("unit-started", f"device {device.name} of link {link.name}", link=link.name, device=device.name)
    notify.ready(f"device {device.name} of link {link.name}")
    loop.run()
    notify.stopping()
    service.stop()
    journal.write("unit-stopped", f"device {device.name}", link=link.name, device=device.name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
