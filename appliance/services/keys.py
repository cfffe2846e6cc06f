"""qbb-keys: gives session keys to the applications of this site. `python -m appliance.services.keys --config FILE`.

One thread, one loop: clients at pfkey.sock, the rings of the data plane, the routing unit's registry, the control
socket. What is to be done is decided in appliance.keys; this file and its neighbours keys_clients.py, keys_ring.py and
keys_registry.py do it.
"""

from __future__ import annotations

import grp
import os
import pwd
import socket
import sys
import time
from collections.abc import Sequence
from ipaddress import IPv4Address
from typing import Any

from systemd import daemon

from appliance import config as configuration
from appliance.keys import audit
from appliance.keys.core import KeysCore, Settings
from appliance.keys.effects import Announce, Find, Give, Note
from appliance.keys.errors import Refused
from appliance.keys.finding import Found
from appliance.keys.policy import SATYPES, Rule
from appliance.keys.sessions import Session
from appliance.native.keymem import harden_process
from appliance.native.shelf import KeySource, Shelf
from appliance.services import control, journal, notify, startup
from appliance.services.keys_clients import ClientSocket, peer_credentials
from appliance.services.keys_loop import EpollLoop
from appliance.services.keys_registry import RegistryLink
from appliance.services.keys_ring import RingLink
from appliance.services.passed import descriptors
from appliance.services.runtime import Loop, Timer
from appliance.services.vmgeneration import GenerationWatch
from appliance.transport.endpoint import Endpoint

STALLED_MOST_S = 10.0  # a client that reads nothing for so long while messages wait is thrown out
CHECK_S = 1.0


def rules_of(clients: Sequence[configuration.ClientRule]) -> tuple[Rule, ...]:
    """The configuration's rules with names looked up. Raises KeyError for an unknown user or group."""
    return tuple(
        Rule(
            rule.name,
            pwd.getpwnam(rule.user).pw_uid if rule.user is not None else rule.uid,
            grp.getgrnam(rule.group).gr_gid if rule.group is not None else rule.gid,
            tuple((ports.first, ports.last) for ports in rule.ports),
            tuple(SATYPES[name] for name in rule.applications if name in SATYPES),
            rule.keys_per_s,
            float(rule.burst_keys),
            rule.stock_keys,
            rule.connections,
            rule.names,
            rule.priority,
        )
        for rule in clients
    )


def source_of(keys: configuration.KeysConfig) -> KeySource:
    """Raises OSError when the hardware source cannot be read, or fails its test."""
    return KeySource(str(keys.hardware_source) if keys.hardware_source else None, keys.hardware_entropy_bits)


class KeysService:
    """Raises OSError."""

    def __init__(self, node: configuration.NodeConfig, loop: Loop, listener: socket.socket | None = None) -> None:
        self.loop, self._node = loop, node
        self.now = loop.now
        self._started_s = self.now()
        self.restored = False
        self._generation = GenerationWatch(loop, self._machine_restored)
        self.shelf = Shelf(node.keys.shelf_keys, source_of(node.keys))
        self._listener = listener or control.listen(node.pfkey_socket, socket.SOCK_SEQPACKET, node.keys.socket_mode)
        self._own_socket = None if listener else node.pfkey_socket
        folder = node.state_directory / "keys"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.audit = audit.AuditLog(folder / "audit.log", time.time_ns)
        self._clients: dict[int, ClientSocket] = {}
        self._next_client = 1
        self._timer: Timer | None = None
        self.ring: RingLink | None = None
        settings = Settings(
            rules_of(node.keys.clients),
            node.keys.first_spi,
            node.keys.last_spi,
            node.keys.key_lifetime_s,
            key_max_bytes=self.shelf.slot_bytes,
            stored_bytes=self._stored_bytes,
            outage=self._outage,
        )
        endpoint = Endpoint(node.address, os.urandom, self._path_rate)
        self.core = KeysCore(endpoint, self.shelf, os.urandom, settings)
        self._dropped = endpoint.dropped
        self.ring = RingLink(loop, node.ring_socket, self.shelf, self._packet, self._taken, self._way_changed)
        self.registry = RegistryLink(loop, node.registry_socket, self._found)
        self._control = control.ControlServer(
            loop,
            node.control_socket("keys"),
            {"status": self._status, "sessions": self._sessions, "key": self._key},
        )
        loop.watch(self._listener.fileno(), self._accept)
        loop.every(CHECK_S, self._check)

    # Clients -------------------------------------------------------------------------------------------------------

    def _accept(self, events: int) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError:
            return
        who = peer_credentials(connection)
        try:
            client = self.core.add_client(self._next_client, who, self.now())
        except Refused as refused:
            self.audit.write(f"{audit.REFUSED} pid={who.pid} uid={who.uid} gid={who.gid} reason={refused.reason}")
            journal.write("client-refused", refused.reason, uid=who.uid, gid=who.gid, pid=who.pid)
            connection.close()
            return
        self._clients[client.id] = ClientSocket(self, connection, client)
        self._next_client += 1

    def drop_client(self, client_id: int) -> None:
        client = self._clients.pop(client_id, None)
        if client is None:
            return
        client.close()
        now = self.now()
        self.core.remove_client(client_id, now)
        self.after(now)

    def throw_out(self, client_id: int, reason: str) -> None:
        """A client that harms the others; it is told by the end of its connection."""
        client = self._clients.get(client_id)
        if client is not None:
            who = client.client.who
            self.audit.write(audit.disconnected(who, reason))
            journal.write("client-refused", reason, uid=who.uid, gid=who.gid, pid=who.pid)
            self.drop_client(client_id)

    def _check(self) -> None:
        now = self.now()
        for client_id, client in list(self._clients.items()):
            since = client.stalled_since()
            if since is not None and now - since >= STALLED_MOST_S:
                self.throw_out(client_id, f"has not read for {STALLED_MOST_S:.0f} s")
        self._tick()  # requests that wait for a link that went down

    # Keys and packets ----------------------------------------------------------------------------------------------

    def _packet(self, clear: bytes, handles: list[int]) -> None:
        self.core.packet(clear, handles, self.now())

    def _taken(self) -> None:
        self.after(self.now())

    def _way_changed(self) -> None:
        now = self.now()
        self.core.way_changed(now)
        self.after(now)

    def _machine_restored(self, why: str) -> None:
        """Keys in this memory may have been given out since, random numbers drawn: not one packet more leaves it."""
        if self.ring is not None:
            self.ring.lose()
        journal.write("machine-restored", why)
        self.restored = True
        self.loop.stop()

    def _found(self, number: int, found: Found | None) -> None:
        now = self.now()
        self.core.found(number, found, now)
        self.after(now)

    def release(self, handle: int) -> None:
        """Wipes a key that nobody holds any more."""
        self.shelf.release(handle)

    def after(self, now: float) -> None:
        """What follows from whatever just happened: packets, effects, the next timer."""
        core = self.core
        core.settle(now)
        packets = core.outgoing()
        if packets and self.ring is not None:
            self.ring.send(packets)
        effects = core.take_effects()
        for effect in effects:
            if isinstance(effect, Note):
                peer = effect.fields.get("peer")
                link = self.ring.link_name(IPv4Address(peer)) if self.ring is not None and peer is not None else None
                journal.write(effect.event, effect.text, link=link, **effect.fields)
                continue
            if isinstance(effect, Announce):
                (self.registry.withdraw if effect.gone else self.registry.announce)(effect.application)
                continue
            if isinstance(effect, Find):
                self.registry.find(effect.number, effect.name)
                continue
            client = self._clients.get(effect.client)
            if client is not None:
                client.carry_out(effect)
            elif isinstance(effect, Give):
                self.release(effect.handle)
        if effects:
            self.after(now)
            return
        self._set_timer(core.deadline())

    def _set_timer(self, at_s: float | None) -> None:
        if at_s is None or (self._timer is not None and self._timer.callback and self._timer.at_s <= at_s):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.loop.at(at_s, self._tick)

    def _tick(self) -> None:
        self._timer = None
        now = self.now()
        self.core.tick(now)
        self.after(now)

    def _path_rate(self, node: IPv4Address) -> float | None:
        return self.ring.path_rate(node) if self.ring is not None else None

    def _stored_bytes(self, node: IPv4Address) -> int | None:
        return self.ring.stored_bytes(node) if self.ring is not None else None

    def _outage(self, node: IPv4Address) -> str | None:
        return self.ring.outage(node) if self.ring is not None else None

    # Control -------------------------------------------------------------------------------------------------------

    def _status(self, arguments: dict[str, Any]) -> dict[str, Any]:
        exchange = self.core.exchange
        return {
            "node": str(self._node.address),
            "uptime_s": round(self.now() - self._started_s, 1),
            "data_plane": self.ring is not None and self.ring.up,
            "shelf_keys": self.shelf.slots,
            "shelf_used": self.shelf.slots - self.shelf.free,
            "source": self.shelf.source.name,
            "clients": len(self._clients),
            "applications": [
                {"port": a.port, "name": a.name, "satype": a.satype, "address": str(a.address)}
                for a in self.core.registry.all()
            ],
            "registry": {"connected": self.registry.up, "announced": self.registry.announced},
            "associations": len(exchange.agreement.table.by_key_id),
            "audit_records": self.audit.records,
            "dropped": {
                **self._dropped,
                **(self.ring.dropped if self.ring else {}),
                **exchange.counters,
                **self.registry.dropped,
            },
        }

    def _sessions(self, arguments: dict[str, Any]) -> dict[str, Any]:
        return {"sessions": [self._describe(session) for session in self.core.sessions.by_id.values()]}

    def _describe(self, session: Session) -> dict[str, Any]:
        connection = session.connection
        state = "closed" if session.closed else "open" if session.peer else "opening"
        client = self.core.clients.get(session.application.client)
        return {
            "id": session.id,
            "local_port": session.application.port,
            "peer": str(connection.remote),
            "priority": connection.qos.priority,
            "peer_port": session.peer.port if session.peer else connection.remote_port,
            "state": state,
            "keys_delivered": session.delivered,
            "keys_confirmed": session.confirmed,
            "stock": len(session.stock),
            "held": len(session.held),
            "client": f"uid {client.who.uid} pid {client.who.pid}" if client else "gone",
        }

    def _key(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """Where a key is, by its ID in hex; never the key."""
        try:
            key_id = bytes.fromhex(str(arguments.get("id", "")).replace("-", ""))
        except ValueError:
            raise control.Refused("id must be 32 hex digits") from None
        key = self.core.sessions.keys.get(key_id)
        if key is None:
            raise control.Refused("no such key is here, or it was given out")
        age_s = round(self.now() - key.since_s, 1)
        return {"place": key.place.value, "length_bytes": key.length, "age_s": age_s, "session": key.session.id}

    def close(self) -> None:
        """Session keys do not outlive the service: connections are reset, so that the far ends delete theirs."""
        now = self.now()
        for session in list(self.core.sessions.by_connection.values()):
            session.connection.abort(now)
        self.after(now)
        for client_id in list(self._clients):
            self.drop_client(client_id)
        self.loop.forget(self._listener.fileno())
        self._listener.close()
        self._generation.close()
        if self._own_socket is not None:
            self._own_socket.unlink(missing_ok=True)
        self._control.close()
        if self.ring is not None:
            self.ring.lose(wipe=False)
        self.registry.close()
        self.audit.close()
        self.shelf.close()


def activated() -> socket.socket | None:
    """The listening socket that systemd passed, if it did."""
    for fd in descriptors():
        if daemon.is_socket_unix(fd, socket.SOCK_SEQPACKET, 1):
            listener = socket.socket(fileno=fd)
            listener.setblocking(False)
            return listener
    return None


def main(arguments: Sequence[str] | None = None) -> int:
    parser = startup.arguments("qbb-keys", "Gives session keys to applications.")
    node = startup.configuration(parser.parse_args(arguments).config)
    harden_process()
    loop = EpollLoop()
    try:
        service = KeysService(node, loop, activated())
    except KeyError as error:
        journal.write("configuration-refused", f"keys.client: {error.args[0]}: it is not on this machine")
        return startup.BAD_CONFIGURATION
    except OSError as error:
        journal.write("unit-failed", f"cannot start: {error}")
        return 1
    notify.ready(f"serving at {node.pfkey_socket}, keys from {service.shelf.source.name}")
    journal.write("unit-started", "qbb-keys serves", node=str(node.address))
    try:
        loop.run()
    finally:
        notify.stopping()
        service.close()
    return int(service.restored)


if __name__ == "__main__":
    sys.exit(main())
