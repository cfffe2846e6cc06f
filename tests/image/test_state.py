"""What a machine keeps: opened by its own TPM alone, and provisioned without a credential."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.lab import until
from images import tools
from images.keys import Keys
from images.vm import Machine
from images.vmshell import CREDENTIALS

from .conftest import Tell
from .guests import BOOT_S, Guest

pytestmark = pytest.mark.slow
WRONG = '[node]\nname = "paris"\naddress = "1.1.1.1"\n'
LOCKED = "/var is not open: the TPM refuses"


def stick(folder: Path, node: str) -> Path:
    """A memory stick with a node file."""
    path = folder / "stick.img"
    text = folder / "node.toml"
    text.write_text(node)
    with path.open("wb") as file:
        file.truncate(16 << 20)
    tools.run(["mkfs.vfat", "-n", "QBB-NODE", path])
    tools.run(["mcopy", "-i", path, text, "::/node.toml"])
    return path


def test_a_wrong_node_file_and_another_machines_tpm(
    tmp_path: Path, image: Path, signing: Keys, machines: list[Machine], tell: Tell
) -> None:
    plugged = ("-drive", f"if=none,id=stick,format=raw,readonly=on,file={stick(tmp_path, WRONG)}",
               "-device", "qemu-xhci", "-device", "usb-storage,drive=stick,removable=on")  # fmt: skip
    machine = Machine("lone", tmp_path / "vm", image, signing, credentials=dict(CREDENTIALS), extra=plugged)
    machines.append(machine)
    machine.start()
    guest = Guest(machine)
    guest.up()
    guest.until("cat /run/appliance-site/report.json", lambda said: "at least one [[link]] is wanted" in said)
    assert guest.status("test -e /etc/qbb/node.toml") != 0  # never kept
    guest.until("cat /run/appliance-site/recovery-key", lambda said: said.count("-") == 7)
    recovery_key = guest.run("cat /run/appliance-site/recovery-key")
    assert "at least one [[link]] is wanted" in guest.console()
    tell("a wrong node file from a memory stick: told on the console, not kept")
    guest.run("touch /var/kept; sync")
    machine.stop()

    machine.tpm = tmp_path / "other-tpm"
    machine.start()
    guest.up_without_state()
    until(lambda: LOCKED in guest.console(), "the console tells that /var is shut", BOOT_S)
    assert guest.status("test -e /var/kept") != 0
    tell("with another machine's TPM: /var stays shut")
    # As the console's key u does, for whoever asks.
    answer = "for ask in /run/systemd/ask-password/ask.*; do socket=$(sed -n s/^Socket=//p $ask); "
    answer += f"printf %s {recovery_key} | /usr/lib/systemd/systemd-reply-password 1 $socket; done"
    guest.until("ls /run/systemd/ask-password", lambda said: "ask." in said, BOOT_S)
    guest.run(answer)
    guest.until("test -e /var/kept && echo there", lambda said: said == "there", BOOT_S)
    tell("the recovery key opens it")
