"""A machine that is set up by hand, as a site does it, and what it keeps: opened by its own TPM alone."""

from __future__ import annotations

import base64
import socket
import subprocess
import threading
from contextlib import closing
from pathlib import Path

from appliance.lab import until
from appliance.site.warrant import how_to_sign
from images import tools
from images.keys import Keys
from images.pair import LINK, Pair
from images.vm import Machine
from images.vmshell import CREDENTIALS

from .conftest import Tell
from .faults import screen
from .guests import BOOT_S, Guest

STICK_BYTES = 16 << 20
ANOTHER = "5b0c8a53-1d54-4b6b-9a3c-6d1f8f2f7e11"
SHORT = b"too short"
SECURE_BOOT = "od -An -tu1 -j4 /sys/firmware/efi/efivars/SecureBoot-*"
REPORT = "cat /run/appliance-site/report.json"
LOCKED = "/var is not open: the TPM refuses"
BARE = "/var is not open: there is no TPM"
UNCHECKED = "/var is not open: Secure Boot is off"
UNSIGNED = "node.toml would replace what this machine keeps"
# As the console's key u does, for whoever asks.
ANSWER = """for ask in /run/systemd/ask-password/ask.*; do
    printf %s {key} | /usr/lib/systemd/systemd-reply-password 1 $(sed -n s/^Socket=//p $ask)
done"""


def stick(folder: Path, name: str, **files: bytes) -> Path:
    """A memory stick with these files on it."""
    path = folder / f"{name}.stick"
    with path.open("wb") as file:
        file.truncate(STICK_BYTES)
    tools.run(["mkfs.vfat", "-n", "QBB-NODE", path])
    for title, content in files.items():
        source = folder / f"{name}.{title}"
        source.write_bytes(content)
        tools.run(["mcopy", "-i", path, source, f"::/{title.replace('_', '.')}"])
    return path


def says(guest: Guest, words: str, since: int = 0) -> None:
    until(lambda: words in screen(guest, since), lambda: f"{words!r}; the console says {screen(guest)[-2000:]}", BOOT_S)


class Terminal:
    """Somebody at its console. It reads all the time: a terminal that nobody reads would stop the machine's output."""

    def __init__(self, guest: Guest) -> None:
        self._guest, self._since = guest, 0
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(guest.machine.console_socket))
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        while self._socket.recv(65536):
            pass

    def type(self, text: str, after: str = "") -> None:
        """Waits for words first."""
        self.says(after)
        self._since = len(self._guest.console())
        self._socket.sendall(text.encode())

    def says(self, words: str) -> None:
        """Waits for them, after what was typed last."""
        says(self._guest, words, self._since)

    def close(self) -> None:
        """What was not read by then is lost."""
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


def test_a_machine_that_is_set_up_by_hand(
    tmp_path: Path, image: Path, signing: Keys, machines: list[Machine], tell: Tell
) -> None:
    pair = Pair(
        tmp_path / "vm", image, signing, secure_boot=False
    )  # only one of the two, with a firmware in setup mode
    machine = pair.machines[0]
    machine.credentials = dict(CREDENTIALS)
    bare = Machine("bare", tmp_path / "bare", image, signing, dict(CREDENTIALS), has_tpm=False, processors=1)
    unchecked = Machine("unchecked", tmp_path / "unchecked", image, signing, dict(CREDENTIALS), checks_boot=False)
    machines += (machine, bare, unchecked)
    for one in machines:
        one.start()
    for one, words in ((bare, BARE), (unchecked, UNCHECKED)):
        says(Guest(one), words)
        assert "no node" in screen(Guest(one))
        one.kill()
    tell("without a TPM, and with Secure Boot switched off: told")
    guest = Guest(machine)
    guest.up()
    assert guest.run(SECURE_BOOT).strip() == "1"
    tell("the boot loader enrolled the keys, and the firmware checked what it booted")
    administrator = tmp_path / "administrator"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", administrator], check=True)
    good = pair.node_file(0, administrator.with_suffix(".pub").read_text().strip())
    takes_a_node_file(guest, pair, good, tmp_path, tell)
    replaces_it_for_its_administrators_alone(guest, good, administrator, tmp_path, tell)
    opens_var_for_its_own_tpm_alone(guest, tmp_path, tell)


def takes_a_node_file(guest: Guest, pair: Pair, good: str, folder: Path, tell: Tell) -> None:
    """None, a wrong one, one for another machine; a secret of a wrong length; then all as it should be."""
    machine = guest.machine
    says(guest, "This machine has no node file")
    wrong = '[node]\nname = "paris"\naddress = "1.1.1.1"\n'
    with closing(Terminal(guest)) as terminal:
        terminal.type("n")
        terminal.type(f"{wrong}.\n", after="Type or paste the node file")
        says(guest, "at least one [[link]] is wanted")
    tell("a wrong node file that was typed: told")
    other = good.replace(machine.uuid, ANOTHER)
    machine.plug(stick(folder, "other", node_toml=other.encode(), **{f"qbb_link_{LINK}": SHORT}))
    says(guest, f"is for another machine, {ANOTHER}")
    says(guest, f"qbb.link.{LINK} ({len(SHORT)} bytes) cannot be a link's secret")
    machine.unplug()
    assert guest.status("test -e /etc/qbb/node.toml") != 0, "what is wrong is not kept"
    tell("a memory stick for another machine, with a secret of a wrong length: told, not kept")
    machine.plug(stick(folder, "good", node_toml=good.encode()))
    says(guest, f'link "{LINK}" has no secret')
    machine.unplug()
    secret = base64.encodebytes((pair.folder / "link.secret").read_bytes()).decode()
    with closing(Terminal(guest)) as terminal:
        terminal.type("s")
        terminal.type(f"{LINK}\n", after="Name of the link")
        terminal.type(f"{secret}\n", after="Paste the secret")
        guest.until(f"ls /var/lib/site/credstore/qbb.link.{LINK}", lambda said: "cannot" not in said, BOOT_S)
    running = "systemctl is-active qbb-dataplane qbb-keys qbb-monitor"
    guest.until(running, lambda said: said.split() == ["active"] * 3, BOOT_S)
    guest.until("qbb links", lambda said: LINK in said, BOOT_S)
    assert guest.run("hostname") == machine.name
    says(guest, "node paris")
    assert secret[:8] not in screen(guest), "what is typed is not shown"
    tell("a memory stick and a secret that was typed: the node runs")


def replaces_it_for_its_administrators_alone(
    guest: Guest, good: str, administrator: Path, folder: Path, tell: Tell
) -> None:
    """Hands on the machine are not enough: a signature, or the recovery key."""
    machine = guest.machine
    other = good.replace('name = "paris"', 'name = "lyon"').encode()
    machine.plug(stick(folder, "unsigned", node_toml=other))
    says(guest, UNSIGNED)
    machine.unplug()
    assert guest.run("hostname") == "paris" and "lyon" not in guest.run("cat /etc/qbb/node.toml")
    before = guest.run("systemctl show -P MainPID qbb-dataplane")
    (folder / "node.toml").write_bytes(other)
    subprocess.run(how_to_sign("node.toml").replace("KEY", str(administrator)).split(), cwd=folder, check=True)
    signature = (folder / "node.toml.sig").read_bytes()
    machine.plug(stick(folder, "signed", node_toml=other, node_toml_sig=signature))
    says(guest, "node lyon")
    machine.unplug()
    guest.until("systemctl is-active qbb-dataplane", lambda said: said == "active", BOOT_S)
    assert guest.run("systemctl show -P MainPID qbb-dataplane") != before, "it goes by the new file"
    tell("another node file: refused unsigned, taken up when an administrator has signed it")
    guest.until("cat /run/appliance-site/recovery-key", lambda said: said.count("-") == 7)
    recovery_key = guest.run("cat /run/appliance-site/recovery-key")
    with closing(Terminal(guest)) as terminal:
        terminal.type("n")
        terminal.type(f"{recovery_key[::-1]}\n", after="type the recovery key")
        terminal.says("That is not the recovery key")
        terminal.type("n", after="n node file")
        terminal.type(f"{recovery_key}\n", after="type the recovery key")
        terminal.type(f"{good}.\n", after="Type or paste the node file")
        terminal.says("node paris")
    assert recovery_key[::-1] not in screen(guest), "what is typed is not shown"
    tell("typed: refused without the recovery key, taken up with it")


def opens_var_for_its_own_tpm_alone(guest: Guest, folder: Path, tell: Tell) -> None:
    machine = guest.machine
    guest.until("cat /run/appliance-site/recovery-key", lambda said: said.count("-") == 7)
    recovery_key = guest.run("cat /run/appliance-site/recovery-key")
    with closing(Terminal(guest)) as terminal:
        terminal.type("r")
        guest.until("ls /run/appliance-site", lambda said: "recovery-key" not in said)
    assert guest.status("test -e /var/lib/site/recovery-key-made") == 0
    guest.run("touch /var/kept; sync")
    machine.stop()
    machine.tpm = folder / "other-tpm"
    machine.start()
    guest.again()
    says(guest, LOCKED)
    assert guest.status("test -e /var/kept") != 0
    tell("with another machine's TPM: /var stays shut")
    guest.until("ls /run/systemd/ask-password", lambda said: "ask." in said, BOOT_S)
    guest.run(ANSWER.format(key=recovery_key))
    guest.until("test -e /var/kept && echo there", lambda said: said == "there", BOOT_S)
    guest.until("qbb links", lambda said: LINK in said, BOOT_S)
    tell("the recovery key opens it, and the node starts")
