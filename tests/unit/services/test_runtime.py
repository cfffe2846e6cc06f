"""The loop: timers by a clock of the test, descriptors, signals; what it tells systemd."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

import pytest

from appliance.services import notify
from appliance.services.keys_loop import EpollLoop
from appliance.services.runtime import READ, WRITE, Loop


class Clock:
    def __init__(self) -> None:
        self.time_s = 100.0

    def __call__(self) -> float:
        return self.time_s


def test_timers_fire_in_order_when_due_and_not_when_cancelled() -> None:
    clock, fired = Clock(), []
    loop = Loop(clock)
    loop.after(2, lambda: fired.append("second"))
    loop.after(1, lambda: fired.append("first"))
    loop.after(1.5, lambda: fired.append("never")).cancel()
    loop.turn(0)
    assert fired == []
    clock.time_s = 101.7
    loop.turn(0)
    assert fired == ["first"]
    clock.time_s = 102
    loop.turn(0)
    assert fired == ["first", "second"]


def test_every_goes_on() -> None:
    clock, fired = Clock(), []
    loop = Loop(clock)
    loop.every(1, lambda: fired.append(clock.time_s))
    for _ in range(3):
        clock.time_s += 1
        loop.turn(0)
    assert fired == [101, 102, 103]


def test_descriptors_are_watched_changed_and_forgotten() -> None:
    left, right = socket.socketpair()
    loop, seen = Loop(), []
    loop.watch(left.fileno(), seen.append)
    loop.turn(0)
    right.send(b"x")
    loop.turn(0)
    assert seen == [READ]
    loop.watch(left.fileno(), seen.append, WRITE)
    loop.turn(0)
    assert seen == [READ, WRITE]
    loop.forget(left.fileno())
    loop.forget(left.fileno())
    loop.turn(0)
    assert seen == [READ, WRITE]
    left.close()
    right.close()


def test_a_callback_may_forget_another_ready_descriptor() -> None:
    pairs = [socket.socketpair() for _ in range(2)]
    loop, calls = Loop(), []

    def forget_all(events: int) -> None:
        calls.append(events)
        for left, _ in pairs:
            loop.forget(left.fileno())

    for left, right in pairs:
        loop.watch(left.fileno(), forget_all)
        right.send(b"x")
    loop.turn(0)
    assert calls == [READ]
    for pair in pairs:
        for end in pair:
            end.close()


@pytest.mark.parametrize("kind", [Loop, EpollLoop])
def test_stop_ends_at_once(kind: type[Loop]) -> None:
    """What is ready too is not served any more, nor a timer that is due."""
    pairs = [socket.socketpair() for _ in range(2)]
    loop, calls = kind(), []

    def stop(events: int) -> None:
        calls.append(events)
        loop.after(0, lambda: calls.append(-1))
        loop.stop()

    for left, right in pairs:
        loop.watch(left.fileno(), stop)
        right.send(b"x")
    loop.run()
    assert calls == [READ]
    for pair in pairs:
        for end in pair:
            end.close()


def test_hangup_reloads_and_termination_ends() -> None:
    loop, reloads = Loop(), []
    before = signal.getsignal(signal.SIGTERM)

    def reload() -> None:
        reloads.append(1)
        os.kill(os.getpid(), signal.SIGTERM)

    loop.after(0, lambda: os.kill(os.getpid(), signal.SIGHUP))
    loop.run(reload)
    assert reloads == [1]
    assert signal.getsignal(signal.SIGTERM) is before


def test_systemd_hears_of_readiness_status_and_watchdog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "20000")
        monkeypatch.delenv("WATCHDOG_PID", raising=False)
        notify.ready("link paris\nis up")
        assert systemd.recv(1000) == b"READY=1\nSTATUS=link paris is up"
        assert notify.watchdog_interval_s() == 0.01
        loop = Loop()
        loop.after(0.05, loop.stop)
        loop.run()
        assert systemd.recv(1000) == b"WATCHDOG=1"
        notify.stopping()


def test_without_systemd_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    monkeypatch.delenv("WATCHDOG_USEC", raising=False)
    notify.ready("up")
    notify.watchdog()
    assert notify.watchdog_interval_s() == 0


def test_a_watchdog_for_another_process_is_not_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "2000000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid() + 1))
    assert notify.watchdog_interval_s() == 0
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    assert notify.watchdog_interval_s() == 1
