"""A root or a kernel image that is not the one that was signed does not boot."""

from __future__ import annotations

import shutil
from pathlib import Path

from appliance.lab import until
from images import tools
from images.build import OUT
from images.keys import Keys
from images.release import release
from images.vm import Machine
from images.vmshell import CREDENTIALS

from .conftest import Tell
from .guests import BOOT_S

MIB = 1 << 20
SEARCHED = 1024 * MIB


def find(disk: Path, part: Path) -> int:
    """Where on the disk that file begins."""
    start = part.read_bytes()[: 1 << 16]
    with disk.open("rb") as file:
        for offset in range(MIB, SEARCHED, MIB):
            file.seek(offset)
            if file.read(len(start)) == start:
                return offset
    raise AssertionError(f"{part.name} is not on the disk")


def machine_of(tmp_path: Path, disk: Path, signing: Keys, machines: list[Machine]) -> Machine:
    made = Machine("tampered", tmp_path / "vm", disk, signing, credentials=dict(CREDENTIALS))
    machines.append(made)
    return made


def test_one_changed_byte_of_the_root_stops_the_boot(
    tmp_path: Path, image: Path, signing: Keys, machines: list[Machine], tell: Tell
) -> None:
    disk = tmp_path / "tampered.raw"
    tools.run(["cp", "--sparse=always", image, disk])
    at = find(disk, OUT / f"{release().stem}.root") + 1024  # the superblock of the root: read first of all
    with disk.open("r+b") as file:
        file.seek(at + 16)
        byte = file.read(1)
        file.seek(at + 16)
        file.write(bytes([byte[0] ^ 1]))
    machine = machine_of(tmp_path, disk, signing, machines)
    machine.start()

    def refused() -> bool:
        said = machine.console_log.read_text(errors="replace")
        assert "QBB appliance" not in said
        return "verity" in said and "is corrupted" in said

    until(refused, "the kernel tells that the root is corrupted", BOOT_S)
    tell("one changed byte: not booted")


def test_an_unsigned_kernel_image_is_refused_by_the_firmware(
    tmp_path: Path, image: Path, signing: Keys, machines: list[Machine], tell: Tell
) -> None:
    """One byte of the kernel's command line is changed, so the signature is no more one of this image."""
    disk = tmp_path / "unsigned.raw"
    tools.run(["cp", "--sparse=always", image, disk])
    kernel = tmp_path / "kernel.efi"
    shutil.copyfile(OUT / f"{release().stem}.efi", kernel)
    whole = bytearray(kernel.read_bytes())
    at = whole.index(b"roothash=") + len(b"roothash=")
    whole[at] = ord("0") if whole[at] != ord("0") else ord("1")
    kernel.write_bytes(whole)
    esp = f"{disk}@@{MIB}"
    tools.run(["mcopy", "-o", "-i", esp, kernel, f"::/EFI/Linux/{release().stem}+3-0.efi"])
    machine = machine_of(tmp_path, disk, signing, machines)
    machine.start()

    def refused() -> bool:
        said = machine.console_log.read_text(errors="replace")
        assert "QBB appliance" not in said
        return "Access denied" in said or ("Security" in said and "iolation" in said)

    until(refused, "the firmware refuses the kernel image", BOOT_S)
    tell("a kernel image with another signature: refused")
