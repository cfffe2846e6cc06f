"""Clients that may not, that ask too much, that do not read; all at the real service."""

from __future__ import annotations

import errno
import os
import pickle
import socket
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from keys_lab import RULES, Lab, wait_until

from appliance.client import Client, KeyServiceError, KeyServiceGone
from appliance.keys import pfkey
from appliance.keys.pfkey import Ext, Message, MessageType, SaType

PUBLIC = "192.0.2.1"


def as_user(uid: int, gid: int, work: Callable[[], Any]) -> Any:
    """What work() returns or raises in a child process of other credentials."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(gid)
            os.setuid(uid)
            outcome = work()
        except BaseException as error:
            outcome = (type(error).__name__, getattr(error, "errno", None), str(error))
        os.write(writing, pickle.dumps(outcome))
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        outcome = pickle.loads(pipe.read())
    os.waitpid(child, 0)
    return outcome


@pytest.mark.skipif(os.getuid() != 0, reason="only root can take another user's credentials")
def test_peer_credentials_decide(make_lab: Callable[..., Lab], tmp_path_factory: pytest.TempPathFactory) -> None:
    rules = RULES + '[[keys.client]]\nname = "guest"\nuid = 4321\nports = ["7000-7009"]\napplications = ["tls"]\n'
    lab = make_lab(rules=rules)
    path = lab.a.socket
    for folder in (path.parent, *path.parent.parents):
        if folder.stat().st_mode & 0o005 != 0o005 and str(folder).startswith("/tmp/"):
            folder.chmod(folder.stat().st_mode | 0o011)

    def register(port: int, kind: str = "tls") -> str:
        with Client(path) as client:
            return str(client.register(port, PUBLIC, kind))

    assert as_user(4321, 4321, lambda: register(7003)) == lab.a.address
    for wrong in (lambda: register(7010), lambda: register(7003, "esp")):
        name, number, _ = as_user(4321, 4321, wrong)
        assert (name, number) == ("KeyServiceError", errno.EACCES)
    name, _, _ = as_user(4322, 4321, lambda: register(7003))
    assert name == "KeyServiceGone"
    assert "refused" in lab.a.audit and "uid=4322" in lab.a.audit


def test_quotas_of_keys_and_connections(make_lab: Callable[..., Lab]) -> None:
    quota = "keys_per_s = 0.001\nburst_keys = 3\nconnections = 1\nstock_keys = 8\n"
    rules = f'[[keys.client]]\nname = "slow"\nuid = {os.getuid()}\n{quota}'
    lab = make_lab(rules=rules)
    with lab.a.client() as a, lab.b.client() as b:
        a.register(5000, PUBLIC)
        b.register(6000, PUBLIC)
        with pytest.raises(KeyServiceError) as caught:
            a.connect(lab.b.address, 6000, local_port=5000, prefetch=9)
        assert caught.value.errno == errno.EDQUOT
        connection = a.connect(lab.b.address, 6000, local_port=5000, prefetch=8)
        with pytest.raises(KeyServiceError) as caught:
            a.connect(lab.b.address, 6000, local_port=5000)
        assert caught.value.errno == errno.EMFILE
        for _ in range(3):
            connection.key().wipe()
        with pytest.raises(KeyServiceError) as caught:
            connection.key()
        assert caught.value.errno == errno.EDQUOT and "slow" in (caught.value.strerror or "")
    assert lab.a.audit.count("delivered") == 3


def test_errors_are_bare_without_asking_for_reasons(lab: Lab) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client:
        client.connect(str(lab.a.socket))
        request = Message(MessageType.GETSPI, SaType.TLS, 5, 6, 0, {Ext.CONNECTION: pfkey.Connection(99, 0)})
        client.send(pfkey.build(request))
        assert client.recv(4096) == pfkey.error(request, errno.ENOTCONN)
        client.send(b"\2" * 24)
        assert pfkey.parse(client.recv(4096)).errno == errno.EMSGSIZE
        client.send(b"\2")  # too short to answer; the connection goes on
        client.send(pfkey.build(request))
        assert pfkey.parse(client.recv(4096)).errno == errno.ENOTCONN


def test_unknown_keys_are_refused(lab: Lab) -> None:
    with lab.a.client() as client, pytest.raises(KeyServiceError) as caught:
        client.fetch(uuid4())
    assert caught.value.errno == errno.ESRCH


def test_client_that_never_reads_is_thrown_out_and_harms_nobody(lab: Lab) -> None:
    """It asks and never reads: its requests wait in the socket, its answers are bounded, and after a time it is out."""
    with lab.a.client() as a, lab.b.client() as b, socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as deaf:
        deaf.connect(str(lab.a.socket))
        deaf.setblocking(False)
        request = pfkey.build(Message(MessageType.GET, SaType.TLS, 5, 6, 0, {Ext.KEY_ID: pfkey.KeyId(0, bytes(16))}))
        full = False
        while not full:  # until neither the service's answers nor our requests find room
            try:
                deaf.send(request)
            except BlockingIOError:
                a.register(5000, PUBLIC)  # a round trip: the service has had its turn
                try:
                    deaf.send(request)
                except BlockingIOError:
                    full = True
        b.register(6000, PUBLIC)
        connection = a.connect(lab.b.address, 6000, local_port=5000, prefetch=4)
        key = connection.key()
        assert b.fetch(key.id).secret == key.secret
        wait_until(lambda: "has not read" in lab.a.audit, "it is thrown out")
        assert connection.key().secret
    assert lab.a.status()["clients"] == 0 or wait_until(lambda: lab.a.status()["clients"] == 0, "all gone") is None


def test_client_flooded_by_its_peer_is_thrown_out_by_the_bound(lab: Lab) -> None:
    """SAs pushed to an application that does not read: at the bound it is out, and no key stays on the shelf."""
    with lab.a.client() as a, lab.b.client() as deaf:
        a.register(5000, PUBLIC, "esp")
        deaf.register(6000, "192.0.2.9", "esp")
        connection = a.connect(lab.b.address, 6000, local_port=5000, prefetch=64, key_bytes=36)
        given = 0
        with pytest.raises(KeyServiceError) as caught:
            while given < 20000:
                connection.association(PUBLIC, "192.0.2.9", timeout_s=10.0).wipe()
                given += 1
        assert given > 256 and "does not read" in lab.b.audit, (given, caught.value)
        wait_until(lambda: lab.b.status()["shelf_used"] == 0, "its keys are wiped")


def test_client_exit_ends_its_connections(lab: Lab) -> None:
    with lab.b.client() as b:
        b.register(6000, PUBLIC)
        with lab.a.client() as a:
            a.register(5000, PUBLIC)
            key = a.connect(lab.b.address, 6000, local_port=5000, prefetch=8).key()
        wait_until(lambda: lab.a.status()["shelf_used"] == 0 and lab.a.sessions() == [], "all of it is gone")
        assert b.fetch(key.id).secret == key.secret  # what was given out is not
        with lab.a.client() as again:
            again.register(5000, PUBLIC)


def test_service_end_is_told_clearly(lab: Lab) -> None:
    with lab.a.client() as a:
        a.register(5000, PUBLIC)
        lab.a.end()
        with pytest.raises(KeyServiceGone):
            a.register(5001, PUBLIC)
