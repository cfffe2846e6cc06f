"""The links as routing sees them: a TUN each, its carrier by what Q3P says, its cost by key rate and store.

Packets that ospfd sends go through the gate to the data plane, and back.
"""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any

from appliance.config import NodeConfig
from appliance.network.address import LINK_PREFIX_BITS
from appliance.routing import frrconfig, gate, vty
from appliance.routing.cost import DerivedCost
from appliance.routing.damping import Damping
from appliance.routing.lsa import mask_of
from appliance.routing.port import LinkState
from appliance.services import frr, journal, ospfclient
from appliance.services.runtime import Loop
from appliance.services.tun import Tun, passed, wanted

READ_BYTES = 2048
MOST_PACKETS = 64  # read in one go
TRY_AGAIN_S = 2.0  # a cost that ospfd did not take


class RoutedLinks:
    """Raises OSError when an interface cannot be made. `send` takes (link index of the data plane, packet)."""

    def __init__(
        self, loop: Loop, node: NodeConfig, settings: frrconfig.Settings, send: Callable[[int, bytes], None]
    ) -> None:
        self._loop, self._send, self._settings = loop, send, settings
        self._vty = frr.vty_socket(node)
        self.vty_cause = ""
        self.dropped: Counter[str] = Counter()
        self.states: dict[str, LinkState] = {}  # as the data plane last said; what flaps is down
        half_life_s = node.routing.damping_half_life_s
        self._damping = {one.link: Damping(half_life_s) for one in settings.interfaces}
        self._usable_since_s: dict[str, float] = {}
        self._by_index: dict[int, frrconfig.Interface] = {}
        derived = {link.name for link in node.routed_links if not isinstance(link.cost, int)}
        self.costs = {one.link: DerivedCost(one.cost) for one in settings.interfaces if one.link in derived}
        open_already = passed()
        tuns = {name: Tun(name, address, mtu, open_already.get(name)) for name, address, mtu in wanted(settings)}
        self._own = tuns[frrconfig.NODE_INTERFACE]
        self._own.set_carrier(True)
        self._tuns = {one.link: tuns[one.name] for one in settings.interfaces}
        for one in settings.interfaces:
            self._watch(one, self._tuns[one.link])
        loop.watch(self._own.fd, lambda events: self._own_ready())

    def _watch(self, one: frrconfig.Interface, tun: Tun) -> None:
        self._loop.watch(tun.fd, lambda events: self._ready(one, tun))

    # --- packets -----------------------------------------------------------------------------------------------------

    def _ready(self, one: frrconfig.Interface, tun: Tun) -> None:
        for _ in range(MOST_PACKETS):
            packet = tun.read(READ_BYTES)
            if packet is None:
                return
            state = self.states.get(one.link)
            if (wrong := gate.why_not(packet, one.near.packed, one.far.packed)) is not None:
                self.dropped[f"out-{wrong}"] += 1
            elif state is None or not state.usable:
                self.dropped["out-down"] += 1
            else:
                self._send(state.index, packet)

    def _own_ready(self) -> None:
        """Nothing is behind the node's own network but the node."""
        while self._own.read(READ_BYTES) is not None:
            self.dropped["out-own-network"] += 1

    def arrived(self, index: int, packet: bytes) -> None:
        one = self._by_index.get(index)
        if one is None:
            self.dropped["in-link"] += 1
        elif (wrong := gate.why_not(packet, one.far.packed, one.near.packed)) is not None:
            self.dropped[f"in-{wrong}"] += 1
        elif not self._tuns[one.link].write(packet):
            self.dropped["in-tun"] += 1

    # --- what the data plane says of the links -----------------------------------------------------------------------

    def update(self, states: list[LinkState]) -> None:
        """Comes at each change, and every few seconds."""
        now = self._loop.now()
        known = {state.name: self._damped(now, state) for state in states}
        for link in self._damping.keys() - known.keys():
            self._damping[link].update(now, False)
        changed = []
        for one in self._settings.interfaces:
            state = known.get(one.link)
            before = self.states.get(one.link)
            usable = state is not None and state.usable
            if usable != (before is not None and before.usable):
                self._tuns[one.link].set_carrier(usable)
                event = "routed-link-up" if usable else "routed-link-down"
                journal.write(
                    event, f"OSPF {'runs over' if usable else 'gets nothing over'} link {one.link}", link=one.link
                )
            derived = self.costs.get(one.link)
            if state is None or derived is None or not usable:
                continue
            if derived.update(now, state.rate_bps, state.stored_bytes):
                changed.append((one.name, derived.advertised))
                journal.write("link-cost", f"link {one.link} costs {derived.advertised} now", link=one.link)
        self.states = known
        self._usable_since_s = {name: self._usable_since_s.get(name, now) for name in self.usable()}
        self._by_index = {known[one.link].index: one for one in self._settings.interfaces if one.link in known}
        if changed:
            self._tell(changed)

    def _damped(self, now: float, state: LinkState) -> LinkState:
        damping = self._damping.get(state.name)
        if damping is None:
            return state
        held = damping.held
        usable = damping.update(now, state.usable)
        if damping.held and not held:
            journal.write("link-flaps", f"link {state.name} goes down and up: OSPF has it down", link=state.name)
        return replace(state, usable=usable)

    def all_down(self) -> None:
        self.update([])

    def indexes(self) -> dict[str, int]:
        """Of the data plane."""
        return {state.name: state.index for state in self.states.values()}

    def usable(self) -> set[str]:
        """Names of the routed links that carry packets now."""
        return {
            one.link for one in self._settings.interfaces if one.link in self.states and self.states[one.link].usable
        }

    def usable_for(self, so_long_s: float) -> set[str]:
        return {name for name, since_s in self._usable_since_s.items() if self._loop.now() - since_s >= so_long_s}

    def networks(self) -> dict[str, int]:
        """Interface -> its network, of those that ospfd should know: of usable links, and the node's own."""
        usable = self.usable()
        near = {one.name: one.near for one in self._settings.interfaces if one.link in usable}
        near[frrconfig.NODE_INTERFACE] = self._settings.address
        return {name: int(address) & mask_of(LINK_PREFIX_BITS) for name, address in near.items()}

    def announce(self, names: Collection[str]) -> None:
        """Tells zebra of interfaces that it missed."""
        for tun in (self._own, *self._tuns.values()):
            if tun.name in names:
                journal.write("ospf-nudged", f"ospfd does not know {tun.name}: its address is told again")
                try:
                    tun.announce()
                except OSError as error:
                    self.dropped[f"announce-{errno.errorcode.get(error.errno or 0, 'error').lower()}"] += 1

    # --- costs -------------------------------------------------------------------------------------------------------

    def tell_costs(self) -> None:
        """All derived costs, to an ospfd that knows only its configuration."""
        names = {one.link: one.name for one in self._settings.interfaces}
        if self.costs:
            self._tell([(names[link], derived.advertised) for link, derived in self.costs.items()])

    def _tell(self, costs: list[tuple[str, int]]) -> None:
        if not self.command(vty.set_costs(costs)):
            self._loop.after(TRY_AGAIN_S, self.tell_costs)

    def command(self, commands: list[str]) -> bool:
        """To ospfd; False when it did not take them."""
        try:
            ospfclient.command(self._vty, commands)
        except OSError as error:
            if not self.vty_cause:
                journal.write("ospf-command-failed", f"ospfd took no command: {error.strerror or error}")
            self.vty_cause = f"ospfd takes no commands at {self._vty} ({error.strerror or error})"
            return False
        self.vty_cause = ""
        return True

    def status(self) -> list[dict[str, Any]]:
        shown = []
        for one in self._settings.interfaces:
            derived, state = self.costs.get(one.link), self.states.get(one.link)
            shown.append(
                {
                    "name": one.link,
                    "interface": one.name,
                    "area": str(one.area),
                    "address": str(one.near),
                    "far": str(one.far),
                    "cost": derived.advertised if derived is not None else one.cost,
                    "usable": state is not None and state.usable,
                    "damped": self._damping[one.link].held,
                }
            )
        return shown

    def close(self) -> None:
        for tun in (self._own, *self._tuns.values()):
            self._loop.forget(tun.fd)
            tun.close()
