"""Two real keys services, real rings, real clients; the network between loses packets."""

from __future__ import annotations

import errno
import os
import signal
import stat
from collections.abc import Callable

import pytest
from keys_lab import Lab, wait_until

from appliance.client import Add, Client, KeyServiceError, KeyServiceGone, Told
from appliance.keys import pfkey
from appliance.keys.pfkey import Ext

PUBLIC_A, PUBLIC_B = "192.0.2.1", "198.51.100.2"


def applications(lab: Lab, kind: str = "tls") -> tuple[Client, Client]:
    a, b = lab.a.client(), lab.b.client()
    assert str(a.register(5000, PUBLIC_A, kind)) == lab.a.address
    assert str(b.register(6000, PUBLIC_B, kind)) == lab.b.address
    return a, b


def event(client: Client, what: str) -> Told:
    found = client.event()
    assert isinstance(found, Told) and found.what == what, found
    return found


def test_thousand_keys_are_equal_at_both_ends_over_a_lossy_network(make_lab: Callable[..., Lab]) -> None:
    lab = make_lab(loss=0.1)
    a, b = applications(lab)
    with a, b:
        connection = a.connect(lab.b.address, 6000, local_port=5000, prefetch=128)
        back = b.accepted(event(b, "connected"))
        back.prefetch(64)
        seen = set()
        for number in range(1000):
            asker, other = (connection, b) if number % 4 else (back, a)
            with asker.key() as key, other.fetch(key.id) as far:
                assert key.secret == far.secret and len(key.secret) == 32 and any(key.secret)
                seen.add(bytes(key.secret))
        assert len(seen) == 1000
        assert lab.pump.lost > 0
    assert lab.a.audit.count("delivered") == lab.b.audit.count("delivered") == 1000


@pytest.mark.parametrize("length", [16, 36, 64, 1024])
def test_key_without_stock(lab: Lab, length: int) -> None:
    a, b = applications(lab)
    with a, b:
        connection = a.connect(lab.b.address, 6000, local_port=5000)
        with connection.key(length) as key, b.fetch(key.id) as far:
            assert len(key.secret) == length and key.secret == far.secret


def test_each_key_is_fetched_once(lab: Lab) -> None:
    a, b = applications(lab)
    with a, b:
        key = a.connect(lab.b.address, 6000, local_port=5000).key()
        b.fetch(key.id)
        for client in (b, a):
            with pytest.raises(KeyServiceError) as caught:
                client.fetch(key.id)
            assert caught.value.errno == errno.ESRCH


def test_a_stranger_gets_neither_key_nor_connection(lab: Lab) -> None:
    a, b = applications(lab)
    with a, b, lab.b.client() as stranger:
        stranger.register(6001, PUBLIC_B)
        connection = a.connect(lab.b.address, 6000, local_port=5000)
        key = connection.key()
        with pytest.raises(KeyServiceError) as caught:
            stranger.fetch(key.id)
        assert caught.value.errno == errno.EACCES
        with pytest.raises(KeyServiceError) as caught:
            stranger.accepted(event(b, "connected")).key()
        assert caught.value.errno == errno.EACCES
        with pytest.raises(KeyServiceError) as caught:
            stranger.register(6000, PUBLIC_B)
        assert caught.value.errno == errno.EADDRINUSE
        assert b.fetch(key.id).secret == key.secret


def test_unregistered_application_is_refused(lab: Lab) -> None:
    with lab.a.client() as a:
        a.register(5000, PUBLIC_A)
        with pytest.raises(KeyServiceError) as caught:
            a.connect(lab.b.address, 6000, local_port=5000)
        assert caught.value.errno == errno.ECONNREFUSED
        with pytest.raises(KeyServiceError) as caught:
            a.connect(lab.b.address, 6000, local_port=5001)
        assert caught.value.errno == errno.ENOENT
        assert "5001" in (caught.value.strerror or "")


@pytest.mark.parametrize("length", [1, 15, 1025, 65535])
def test_key_of_a_wrong_length_is_refused(lab: Lab, length: int) -> None:
    a, b = applications(lab)
    with a, b:
        connection = a.connect(lab.b.address, 6000, local_port=5000)
        with pytest.raises(KeyServiceError) as caught:
            connection.key(length)
        assert caught.value.errno == errno.EMSGSIZE


@pytest.mark.parametrize("inbound", [True, False])
def test_security_association(lab: Lab, inbound: bool) -> None:
    a, b = applications(lab, "esp")
    with a, b:
        connection = a.connect(lab.b.address, 6000, local_port=5000)
        event(b, "connected")
        ends = (PUBLIC_B, PUBLIC_A) if inbound else (PUBLIC_A, PUBLIC_B)
        near = connection.association(*ends, hard=pfkey.Lifetime(addtime=3600))
        far = b.event()
        assert isinstance(far, Add)
        assert near.secret == far.secret and len(near.secret) == 36 and near.id == far.id
        assert near.spi == far.spi and 0xC0000000 <= near.spi <= 0xCFFFFFFF
        # The same SA at both ends, byte for byte, but for the request's seq and pid.
        assert near.message[16:] == far.message[16:]
        for sa in (near.sa, far.sa):
            assert str(sa.get(Ext.ADDRESS_SRC).ip) == ends[0] and str(sa.get(Ext.ADDRESS_DST).ip) == ends[1]
            assert sa.get(Ext.LIFETIME_HARD).addtime == 3600 and sa.get(Ext.SA).encrypt == 20
        assert [sa.get(Ext.SA).spi for sa in a.dump()] == [near.spi] == [sa.get(Ext.SA).spi for sa in b.dump()]
        assert not any(Ext.KEY_ENCRYPT in sa.extensions for sa in a.dump())
        for client in (a, b):
            with pytest.raises(KeyServiceError) as caught:
                client.fetch(near.id)  # an SA's key comes once, with SADB_ADD
            assert caught.value.errno == errno.ENOKEY


def test_tunnel_with_cbc_and_hmac_deleted_at_both_ends(lab: Lab) -> None:
    a, b = applications(lab, "esp")
    with a, b:
        connection = a.connect(lab.b.address, 6000, local_port=5000)
        event(b, "connected")
        pair = [
            connection.association(*ends, encrypt=12, auth=5) for ends in ((PUBLIC_A, PUBLIC_B), (PUBLIC_B, PUBLIC_A))
        ]
        got = [b.event(), b.event()]
        assert {key.id for key in pair} == {key.id for key in got if isinstance(key, Add)}
        assert all(len(key.secret) == 64 for key in pair)
        request = pfkey.Message(pfkey.MessageType.DELETE, pfkey.SaType.ESP)
        request.extensions = {Ext.KEY_ID: pfkey.KeyId(0, pair[0].id.bytes)}
        a.ask(request)
        gone = event(b, "deleted")
        assert gone.message.get(Ext.KEY_ID).key_id == pair[0].id.bytes
        assert len(a.dump()) == len(b.dump()) == 1
        a.ask(pfkey.Message(pfkey.MessageType.FLUSH))
        event(b, "deleted")
        assert a.dump() == b.dump() == []


def test_lifetimes_expire_at_both_ends(lab: Lab) -> None:
    a, b = applications(lab, "esp")
    with a, b:
        connection = a.connect(lab.b.address, 6000, local_port=5000)
        event(b, "connected")
        hard, soft = pfkey.Lifetime(addtime=2), pfkey.Lifetime(addtime=1)
        near = connection.association(PUBLIC_A, PUBLIC_B, hard=hard, soft=soft)
        assert isinstance(b.event(), Add)
        for client in (a, b):
            first, second = event(client, "expired"), event(client, "expired")
            assert Ext.LIFETIME_SOFT in first.message.extensions and Ext.LIFETIME_HARD in second.message.extensions
            assert first.message.get(Ext.SA).spi == near.spi == second.message.get(Ext.SA).spi
            assert client.dump() == []


def test_close_in_order_keeps_what_was_given_out(lab: Lab) -> None:
    a, b = applications(lab)
    with a, b:
        connection = a.connect(lab.b.address, 6000, local_port=5000, prefetch=8)
        event(b, "connected")
        key = connection.key()
        wait_until(lambda: lab.a.sessions()[0]["stock"] >= 7, "stock")
        connection.close()
        event(b, "deleted")
        wait_until(lambda: lab.b.sessions()[0]["held"] == 1, "unused keys go")
        wait_until(lambda: lab.a.status()["shelf_used"] == 0, "no key is left at the asking end")
        assert b.fetch(key.id).secret == key.secret
        assert lab.b.status()["shelf_used"] == 0 and lab.b.sessions() == []


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_restart_resets_and_deletes_at_both_ends(lab: Lab, how: int) -> None:
    a, b = applications(lab, "esp")
    with a, b:
        connection = a.connect(lab.b.address, 6000, local_port=5000)
        back = b.accepted(event(b, "connected"))
        near = connection.association(PUBLIC_A, PUBLIC_B)
        assert isinstance(b.event(), Add)
        lab.a.end(how)
        lab.a.start()
        with pytest.raises(KeyServiceGone):
            connection.key()
        if how == signal.SIGKILL:  # nobody told B: it learns when it next says something
            with pytest.raises(KeyServiceError):
                back.association(PUBLIC_A, PUBLIC_B)
        told = [event(b, "deleted"), event(b, "deleted")]
        assert {t.message.get(Ext.KEY_ID).key_id for t in told if t.message.get(Ext.KEY_ID)} == {near.id.bytes}
        assert b.dump() == []
        wait_until(lambda: lab.b.status()["shelf_used"] == 0, "keys are wiped")


def test_data_plane_goes_and_comes_back(lab: Lab) -> None:
    a, b = applications(lab)
    with a, b:
        connection = a.connect(lab.b.address, 6000, local_port=5000)
        lab.pump._ports[lab.a.address].listener  # noqa: B018 - the port stays; its connection ends
        connection_of_a = lab.pump._ports[lab.a.address].connection
        assert connection_of_a is not None
        connection_of_a.shutdown(2)
        key = connection.key()
        assert b.fetch(key.id).secret == key.secret


def test_short_way_follows_a_change_of_length(lab: Lab) -> None:
    """A request that was granted before is answered from a plan; the plan must not outlive what it was made for."""
    a, b = applications(lab)
    with a, b:
        connection = a.connect(lab.b.address, 6000, local_port=5000, prefetch=8)
        for length in (32, 48, 32):
            connection.prefetch(8, length)
            wait_until(lambda: int(str(lab.a.sessions()[0]["stock"])) >= 7, "stock")
            for _ in range(5):
                with connection.key() as key, b.fetch(key.id) as far:
                    assert len(key.secret) == length and key.secret == far.secret


@pytest.mark.skipif(os.getuid() != 0, reason="only root can make a device that is always full")
def test_a_full_audit_log_stops_the_hand_over(make_lab: Callable[..., Lab]) -> None:
    """No record, no key: the asker gets an error, and the key is gone."""
    lab = make_lab()
    lab.a.end()
    log = lab.a.state / "keys" / "audit.log"
    log.unlink()
    log.symlink_to("/dev/full")
    with pytest.raises(AssertionError):  # the service does not follow links, so nobody can lead its records astray
        lab.a.start()
    lab.a.process = None
    log.unlink()
    os.mknod(log, 0o600 | stat.S_IFCHR, os.makedev(1, 7))
    lab.a.start()
    a, b = applications(lab)
    with a, b:
        connection = a.connect(lab.b.address, 6000, local_port=5000, prefetch=4)
        for _ in range(3):
            with pytest.raises(KeyServiceError) as caught:
                connection.key()
            assert caught.value.errno == errno.EIO
