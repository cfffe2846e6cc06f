"""The C client, compiled here against the system's <linux/pfkeyv2.h>, at the real service, with the Python client at
the other end and with itself."""

from __future__ import annotations

import subprocess
from pathlib import Path
from uuid import UUID

import pytest
from keys_lab import Lab

import appliance.client

SOURCES = Path(appliance.client.__file__).parent / "c"


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = tmp_path_factory.mktemp("c") / "example"
    flags = ["-std=gnu11", "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-fsanitize=address,undefined"]
    command = ["gcc", *flags, "-o", program, SOURCES / "example.c", SOURCES / "qbb_client.c"]
    subprocess.run(command, check=True)
    return program


def run(example: Path, *arguments: object) -> subprocess.Popen[str]:
    command = [str(part) for part in (example, *arguments)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_thousand_keys_from_c_to_c_over_a_lossy_network(example: Path, lab: Lab) -> None:
    lab.pump.loss = 0.05
    fetch = run(example, lab.b.socket, 6000, "198.51.100.2", "fetch")
    assert fetch.stdin and fetch.stdout and fetch.stdout.readline() == "ready\n"
    ask = run(example, lab.a.socket, 5000, "192.0.2.1", "connect", lab.b.address, 6000, 1000)
    assert ask.stdin and ask.stdout
    seen = set()
    for _ in range(1000):
        near = ask.stdout.readline()
        key_id, key = near.split()
        assert len(bytes.fromhex(key)) == 32
        fetch.stdin.write(key_id + "\n")
        fetch.stdin.flush()
        assert fetch.stdout.readline() == near
        seen.add(key)
    assert len(seen) == 1000
    for process in (ask, fetch):
        _, errors = process.communicate("")
        assert process.returncode == 0, errors


def test_c_and_python_hold_the_same_keys(example: Path, lab: Lab) -> None:
    with lab.b.client() as b:
        b.register(6000, "2001:db8::2")
        ask = run(example, lab.a.socket, 5000, "2001:db8::1", "connect", lab.b.address, 6000, 20)
        assert ask.stdin and ask.stdout
        for _ in range(20):
            key_id, key = ask.stdout.readline().split()
            assert b.fetch(UUID(key_id)).secret.hex() == key
        _, errors = ask.communicate("")
        assert ask.returncode == 0, errors


def test_c_client_says_why(example: Path, lab: Lab) -> None:
    ask = run(example, lab.a.socket, 5000, "192.0.2.1", "connect", lab.b.address, 6000, 1)
    _, errors = ask.communicate("")
    assert ask.returncode == 1 and errors.startswith("111 ") and "refused" in errors
    nobody = run(example, lab.a.run / "none", 5000, "192.0.2.1", "fetch")
    _, errors = nobody.communicate("")
    assert nobody.returncode == 1 and "No such file" in errors
