"""Control sockets with a real loop in another thread: answers, refusals, bad and slow clients."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from appliance.services import control
from appliance.services.runtime import Loop


def refuse(arguments: dict[str, Any]) -> None:
    raise control.Refused(f"no such link: {arguments.get('link')}")


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    loop = Loop()
    where = tmp_path / "dataplane.control"
    handlers = {"status": lambda arguments: {"seen": arguments}, "discard": refuse, "big": lambda _: "x" * (4 << 20)}
    server = control.ControlServer(loop, where, handlers)
    running = threading.Event()
    running.set()

    def serve() -> None:
        while running.is_set():
            loop.turn(0.02)

    thread = threading.Thread(target=serve)
    thread.start()
    yield where
    running.clear()
    thread.join()
    server.close()
    assert not where.exists()


def raw(path: Path, request: bytes) -> dict[str, Any]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(10)
        connection.connect(str(path))
        connection.sendall(request)
        answer = json.loads(connection.makefile("rb").readline())
        assert isinstance(answer, dict)
        return answer


def test_questions_and_answers(path: Path) -> None:
    assert path.stat().st_mode & 0o777 == 0o660
    assert control.ask(path, "status", link="paris", deep=True) == {"seen": {"link": "paris", "deep": True}}
    assert control.ask(path, "help") == ["big", "discard", "help", "status"]


def test_refusals_carry_their_reason(path: Path) -> None:
    with pytest.raises(control.Refused, match="no such link: oslo"):
        control.ask(path, "discard", link="oslo")
    with pytest.raises(control.Refused, match="'sing' is no command here; known are big, discard, help, status"):
        control.ask(path, "sing")


def test_large_answers_arrive_whole(path: Path) -> None:
    assert len(control.ask(path, "big")) == 4 << 20


@pytest.mark.parametrize("request_line", [b"\n", b"{\n", b"[]\n", b"[" * 5000 + b"\n", b'{"command": 5}\n', b"\xff\n"])
def test_nonsense_is_answered_with_an_error(path: Path, request_line: bytes) -> None:
    assert raw(path, request_line)["ok"] is False


def test_an_endless_request_is_cut_off_and_others_are_served(path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as endless:
        endless.connect(str(path))
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            while True:
                endless.send(b"x" * 4096)
    assert control.ask(path, "status") == {"seen": {}}


def test_a_client_that_never_reads_does_not_hold_the_unit(path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as deaf:
        deaf.connect(str(path))
        deaf.sendall(b'{"command": "big"}\n' * 3)
        assert control.ask(path, "status") == {"seen": {}}


def test_several_questions_on_one_connection(path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(10)
        connection.connect(str(path))
        connection.sendall(b'{"command": "status", "n": 1}\n{"command": "sta')
        connection.sendall(b'tus", "n": 2}\n')
        lines = connection.makefile("rb")
        assert [json.loads(lines.readline())["answer"]["seen"]["n"] for _ in range(2)] == [1, 2]


def test_a_dead_socket_file_is_replaced_and_silence_is_named(tmp_path: Path) -> None:
    where = tmp_path / "keys.control"
    with pytest.raises(control.NoAnswer, match=r"keys does not answer at .*keys\.control: No such file"):
        control.ask(where, "status")
    control.listen(where, socket.SOCK_STREAM, 0o660).close()
    with pytest.raises(control.NoAnswer, match="Connection refused"):
        control.ask(where, "status")
    control.listen(where, socket.SOCK_STREAM, 0o600).close()
    assert where.stat().st_mode & 0o777 == 0o600


def test_a_unit_that_hangs_is_not_waited_for(tmp_path: Path) -> None:
    where = tmp_path / "keys.control"
    listener = control.listen(where, socket.SOCK_STREAM, 0o660)
    with pytest.raises(control.NoAnswer, match="timed out"):
        control.ask(where, "status", timeout_s=0.05)
    listener.close()
