"""Any sequence of what users and network can do, checked by the oracle after each step (hypothesis, stateful)."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from transport_pipe import World

from appliance.transport.connection import Connection
from appliance.transport.constants import MAX_QUEUED_KEYS, MAX_RESETS_WAITING, MAX_WINDOW_KEYS
from appliance.transport.events import CloseReason

ENDS = st.integers(0, 1)
PORTS = st.integers(1, 3)


class Transport(RuleBasedStateMachine):
    @initialize(seed=st.integers(0, 2**32))
    def begin(self, seed: int) -> None:
        self.world = World(seed, duplication=0.1, reordering=0.2)
        for index in (0, 1):
            self.world.node(index).endpoint.listen(2)

    def connections(self) -> list[Connection]:
        return [known for index in (0, 1) for known in self.world.node(index).endpoint.connections]

    @rule(end=ENDS, port=PORTS, local_port=st.sampled_from((0, 0, 2, 9)))
    def connect(self, end: int, port: int, local_port: int) -> None:
        endpoint = self.world.node(end).endpoint
        remote = self.world.node(1 - end).address
        used = {(known.local_port, known.remote_port) for known in endpoint._connections.values()}
        if len(endpoint.connections) < 8 and (local_port == 0 or (local_port, port) not in used):
            connection = self.world.connect(end, 1 - end, port, local_port)
            assert connection.remote == remote

    @precondition(lambda self: self.connections())
    @rule(data=st.data(), count=st.integers(1, 60), length=st.sampled_from((16, 32, 36)))
    def send(self, data: st.DataObject, count: int, length: int) -> None:
        connection = data.draw(st.sampled_from(self.connections()))
        if connection.writable and connection.room >= count and self.known(connection):
            self.world.send(connection, count, length)

    def known(self, connection: Connection) -> bool:
        return connection.active or any(connection in node.accepted for node in self.world.nodes.values())

    @precondition(lambda self: self.connections())
    @rule(data=st.data(), keys=st.one_of(st.none(), st.integers(0, 50)))
    def window(self, data: st.DataObject, keys: int | None) -> None:
        connection = data.draw(st.sampled_from(self.connections()))
        if self.known(connection):
            connection.set_window(self.world.now, keys)
            self.world.flush()

    @precondition(lambda self: self.connections())
    @rule(data=st.data(), orderly=st.booleans())
    def end(self, data: st.DataObject, orderly: bool) -> None:
        connection = data.draw(st.sampled_from(self.connections()))
        if self.known(connection):
            (connection.close if orderly else connection.abort)(self.world.now)
            self.world.flush()

    @rule(end=ENDS)
    def restart(self, end: int) -> None:
        self.world.node(end).restart()
        self.world.node(end).endpoint.listen(2)

    @rule(data=st.data(), count=st.integers(1, 5))
    def repeat_old(self, data: st.DataObject, count: int) -> None:
        for _ in range(min(count, len(self.world.history))):
            to, clear, handles = data.draw(st.sampled_from(self.world.history))
            self.world.deliver(to, clear, handles)
        self.world.flush()

    @rule(loss=st.sampled_from((0.0, 0.1, 0.3, 1.0)), corruption=st.sampled_from((0.0, 0.1)))
    def weather(self, loss: float, corruption: float) -> None:
        self.world.faults.loss, self.world.faults.corruption = loss, corruption

    @rule(seconds=st.sampled_from((0.005, 0.05, 0.5, 5.0, 70.0)))
    def wait(self, seconds: float) -> None:
        self.world.run(seconds)

    @invariant()
    def bounded(self) -> None:
        if not hasattr(self, "world"):
            return
        self.world.check_rest()
        for index in (0, 1):
            endpoint = self.world.node(index).endpoint
            assert len(endpoint._replies) <= MAX_RESETS_WAITING
            assert len(endpoint._timers._heap) <= 8 * len(endpoint._connections) + 100
            for connection in endpoint._connections.values():
                assert connection._sending.queued <= MAX_QUEUED_KEYS
                assert connection._sending.congestion.in_flight_bytes >= 0
                assert connection._receiving.received.above <= MAX_WINDOW_KEYS

    def teardown(self) -> None:
        """In good weather everything comes to an end: each key confirmed or lost, unless its sender restarted."""
        if not hasattr(self, "world"):
            return
        self.world.faults.loss = self.world.faults.corruption = 0.0
        for connection in self.connections():
            if self.known(connection):
                connection.set_window(self.world.now, None)
                connection.close(self.world.now)
        self.world.run(400)
        self.world.check_rest()
        assert self.connections() == []
        for node in self.world.nodes.values():
            for connection in node.opened + node.accepted:
                assert connection in node.closed
            for key_id, sender in self.world.sender.items():
                if sender in node.closed:
                    assert self.world.confirmed[key_id] + self.world.lost[key_id] == 1
                    if node.closed[sender] is CloseReason.CLOSED:
                        assert self.world.confirmed[key_id]


TestTransport = Transport.TestCase
TestTransport.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
