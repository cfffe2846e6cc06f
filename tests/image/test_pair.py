"""Two appliances, each booted once by UEFI with Secure Boot, joined by a network cable and a simulated fibre."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from images.keys import Keys
from images.pair import LINK, Pair
from images.vmshell import CREDENTIALS

from . import faults, oracle
from .conftest import WANTED, Tell
from .faults import link_up, screen
from .guests import BOOT_S, Guest

KEYS = 5
RECORD = "wire.pcap"
TOOLS = ("gcc", "cc", "make", "perl", "apt", "dpkg", "pip", "openssl")
NAME_SERVER = "10.0.2.3"  # that QEMU's DHCP names


@pytest.fixture
def pair(tmp_path: Path, image: Path, signing: Keys) -> Iterator[Pair]:
    made = Pair(tmp_path, image, signing, credentials=dict(CREDENTIALS), processors=1)
    vienna = made.machines[1]
    vienna.extra = oracle.recorder(vienna.folder / RECORD)
    try:
        yield made
    finally:
        made.kill()


def test_two_appliances(pair: Pair, tell: Tell) -> None:
    """One after another, since they share the boot, which takes longer than all the rest."""
    pair.start()
    guests = paris, vienna = [Guest(machine) for machine in pair.machines]
    for guest in guests:
        guest.up()
        tell(f"{guest.name} is up")
    recovery_keys = set()
    for guest in guests:
        booted_securely(guest)
        holds_no_more_than_it_needs(guest)
        recovery_keys.add(keeps_var_under_the_tpm(guest))
        lets_in_only_what_is_named(guest)
        asks_the_name_servers_of_dhcp(guest)
        hears_of_restorings(guest)
    tell("booted with Secure Boot, root verified, /var under the TPM, firewall shut")
    for guest in guests:
        link_up(guest)
    tell("the link is up")
    seen: set[str] = set()

    def use() -> None:
        """Keys that nobody had before."""
        keys = exchange_keys(paris, vienna)
        assert not seen & keys
        seen.update(keys)

    use()
    tell(f"{KEYS} keys, equal at both ends")
    shows_itself_on_the_console(paris)
    for method in ("xfrm", "af_key"):
        ipsec(paris, vienna, method)
        tell(f"pings under ESP, keyed by {method}")
    faults.wrong_clock(vienna, use)
    tell("clocks that jump change nothing")
    faults.unplugged(paris, vienna)
    tell("the network cable was out and is back: told, and recovered from")
    faults.full_var(paris)
    tell("/var was full and has room again: told, and recovered from")
    before = chunks(paris)
    paris.machine.kill()
    tell("power of paris cut")
    paris.machine.start()
    paris.up()
    link_up(paris)
    link_up(vienna)
    tell("paris is back, the link is up")
    never_opens_a_chunk_twice(paris, vienna, before)
    use()
    vienna.run("systemctl reboot --no-block")
    vienna.rebooted()
    link_up(vienna)
    recovery_keys.add(keeps_var_under_the_tpm(vienna))
    assert len(recovery_keys) == 3, "nobody pressed r: another one was made, and is shown"
    use()
    tell("vienna was started again in order: other keys, equal at both ends")
    faults.restored_from_a_snapshot(paris, vienna, use)
    tell("paris went back to a snapshot of its memory and disk, twice: other keys each time")
    no_key_byte_is_used_twice(pair, tell, sessions=5)
    if WANTED == "all":
        faults.dying_disk(vienna, paris)
        use()
        tell("vienna's disk failed: told; mended and started again: other keys, equal at both ends")
        no_key_byte_is_used_twice(pair, tell, sessions=6)


def no_key_byte_is_used_twice(pair: Pair, tell: Tell, sessions: int) -> None:
    """By what was on the wire in all that time."""
    heard = oracle.listened(pair.machines[1].folder / RECORD, LINK, pair.address(0))
    assert heard.violations == []
    assert heard.figures["sessions"] >= sessions, "a new one after each start"
    assert heard.figures["key packets"] >= 4 * KEYS and heard.figures["unplaced"] == 0, heard.figures
    tell(f"the key oracle heard {heard.figures['packets']} packets, {heard.figures['words']} words of key: none twice")


def booted_securely(guest: Guest) -> None:
    assert guest.run("od -An -tu1 -j4 /sys/firmware/efi/efivars/SecureBoot-*").strip() == "1"
    assert "[integrity]" in guest.run("cat /sys/kernel/security/lockdown")
    assert guest.run("cat /sys/block/$(basename $(readlink /dev/mapper/root))/dm/uuid").startswith("CRYPT-VERITY-")
    assert guest.status("touch /usr/changed") != 0
    guest.run("systemctl is-active qbb.target qbb-dataplane qbb-keys qbb-monitor qbb-device@fibre-1")
    assert guest.run("systemctl --failed --plain --no-legend") == ""
    # The boot was counted until it was found healthy.
    guest.until("ls /boot/EFI/Linux", lambda said: re.fullmatch(r"qbb_[0-9.]+\.efi", said) is not None, BOOT_S)


def holds_no_more_than_it_needs(guest: Guest) -> None:
    found = guest.run(f"for tool in {' '.join(TOOLS)}; do command -v $tool; done; true")
    assert found == ""
    for line in guest.run("cat /etc/shadow").splitlines():
        assert line.split(":")[1] in ("*", "!", "!*"), f"{line.split(':')[0]} has a password"


def keeps_var_under_the_tpm(guest: Guest) -> str:
    """Its recovery key."""
    assert guest.run("cat /sys/block/$(basename $(readlink /dev/mapper/var))/dm/uuid").startswith("CRYPT-LUKS2-")
    assert guest.run("findmnt -no SOURCE /var") == "/dev/mapper/var"
    guest.until("ls /run/appliance-site", lambda said: "recovery-key" in said.split())
    key = guest.run("cat /run/appliance-site/recovery-key")
    assert re.fullmatch(r"([cbdefghijklnrtuv]{8}-){7}[cbdefghijklnrtuv]{8}", key)
    dump = guest.run("cryptsetup luksDump --dump-json-metadata /dev/disk/by-partlabel/qbb-var")
    tokens = {token["type"]: token for token in json.loads(dump)["tokens"].values()}
    assert set(tokens) == {"systemd-tpm2", "systemd-recovery"}
    assert dump.count('"systemd-recovery"') == 1, "one that nobody has written down is replaced"
    assert tokens["systemd-tpm2"]["tpm2-pcrs"] == [7, 12]
    return key


def lets_in_only_what_is_named(guest: Guest) -> None:
    rules = guest.run("nft list chain inet site input")
    assert "policy drop" in rules
    assert set(re.findall(r"dport ([^ ]+)", rules)) == {"7301", "68", "546"}
    assert guest.run("systemctl is-active ssh.service || true") == "inactive"


def asks_the_name_servers_of_dhcp(guest: Guest) -> None:
    guest.until("resolvectl dns", lambda said: NAME_SERVER in said)
    assert "nameserver 127.0.0.53" in guest.run("cat /etc/resolv.conf")
    guest.run("test -s /etc/ssl/certs/ca-certificates.crt")


def hears_of_restorings(guest: Guest) -> None:
    """Both units have the kernel's log, which OpenFile= may fail to give them without a word."""
    for unit in ("qbb-dataplane", "qbb-keys"):
        files = guest.run(f"readlink /proc/$(systemctl show -P MainPID {unit})/fd/* || true").splitlines()
        assert files.count("/dev/kmsg") == 1, files
    assert guest.run("ls -d /sys/bus/*/drivers/vmgenid/*:* | wc -l") == "1"
    assert guest.run("journalctl -b -o cat QBB_EVENT=restoring-unheard") == ""


def exchange_keys(paris: Guest, vienna: Guest) -> set[str]:
    """The keys' digests, which are the same at both ends."""
    server, asker = vienna.program("keys.py"), paris.program("keys.py")
    if vienna.status("systemctl is-active keys-server") == 0:
        vienna.run("systemctl stop keys-server; rm /run/keys-server")  # which tells when the next one serves
    vienna.service("keys-server", f"{server} serve")
    vienna.until("ls /run/keys-server 2>&1", lambda said: said == "/run/keys-server")
    asked = paris.run(f"{asker} ask {KEYS}")
    fetched = vienna.run(f"{server} fetch {' '.join(line.split()[0] for line in asked.splitlines())}")
    assert asked.splitlines() == fetched.splitlines()
    digests = {line.split()[1] for line in asked.splitlines()}
    assert len(digests) == KEYS
    return digests


def shows_itself_on_the_console(guest: Guest) -> None:
    text = screen(guest)
    for words in (f"node {guest.name}", "Recovery key of this machine's /var", LINK, guest.machine.uuid):
        assert words in text
    assert "login:" not in text


def ipsec(paris: Guest, vienna: Guest, method: str) -> None:
    server, asker = vienna.program("esp.py"), paris.program("esp.py")
    vienna.service(f"esp-{method}", f"{server} {method} serve")
    vienna.until("ip xfrm policy", lambda said: "192.0.2.1/32" in said or "192.0.2.1" in said)
    vienna.until(f"journalctl -u esp-{method} -o cat; systemctl is-active esp-{method}", lambda said: "active" in said)
    assert paris.run(f"{asker} {method} ask").splitlines()[-1] == "3"
    for guest in (paris, vienna):
        counted = re.findall(r"(\d+)\(packets\)", guest.run("ip -s xfrm state"))
        assert sum(int(count) for count in counted) >= 6, f"the pings at {guest.name} went outside of ESP"
    for guest in (paris, vienna):
        guest.run("ip xfrm policy flush; ip xfrm state flush")
    vienna.run(f"systemctl stop esp-{method} || true")


def chunks(guest: Guest) -> dict[str, list[int]]:
    told: dict[str, list[int]] = json.loads(guest.run(f"{guest.program('linklog.py')} {LINK}"))
    return told


def never_opens_a_chunk_twice(paris: Guest, vienna: Guest, before: dict[str, list[int]]) -> None:
    """What was open at the power cut is given up at both ends: nobody knows how far it had been spent."""
    open_before = set(before["opened"]) - set(before["closed"]) - set(before["voided"])
    for guest in (paris, vienna):
        now = chunks(guest)
        assert len(now["opened"]) == len(set(now["opened"])), f"{guest.name} opened a chunk twice"
        gone = set(now["voided"]) | set(now["closed"])
        assert open_before <= gone, f"{guest.name} goes on with chunks that were open: {open_before - gone}"
        assert open_before & set(now["voided"]), f"{guest.name}: nothing was open at the power cut?"
