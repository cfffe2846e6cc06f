"""From a root to a disk: verity, the initrd, the signed kernel image, partitions.

The ESP holds systemd-boot, signed, the keys for a firmware in setup mode, and the kernel image with its count of tries
in its name. Slot A holds the root; B and /var are made on the machine itself, at its first boot
(root/usr/lib/repart.d).
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from images import tools
from images.keys import SECURE_BOOT, Keys
from images.release import Release
from images.root import FILES, kernels

SEED = "6f7e2b1c-58c0-4e39-9d3e-3d0f2b1a7c55"  # partition and file system ids follow from it: equal each time
SLOT = "512M"
TRIES = 3
COMMAND_LINE = (
    "ro",
    "console=tty0",
    "console=ttyS0",  # the last one is /dev/console
    "systemd.machine_id=firmware",
    "systemd.show_status=no",  # the screen on the console is for people
    "systemd.ssh_auto=no",
    "quiet",
    "panic=10",
)
# An initrd of systemd's own units and nothing else: dracut only collects them.
INITRD_MODULES = (
    *("systemd-initrd", "systemd-veritysetup", "systemd-pcrphase", "systemd-udevd", "systemd-journald"),
    *("kernel-modules", "dm", "tpm2-tss"),
)
INITRD_DRIVERS = (
    *(
        "erofs",
        "dm-verity",
        "vfat",
        "nls_ascii",
        "nls_cp437",
        "virtio_blk",
        "virtio_pci",
        "virtio_scsi",
        "nvme",
        "ahci",
    ),
    *("sd_mod", "usb_storage", "uas", "xhci_pci", "ehci_pci", "mmc_block", "sdhci_pci", "tpm_crb", "tpm_tis"),
)
LOADER = """timeout 0
editor no
secure-boot-enroll force
"""


@dataclass(frozen=True)
class Parts:
    """What a release is made of; updates consist of the first three."""

    root: Path
    verity: Path
    kernel: Path
    root_hash: str

    @property
    def root_uuid(self) -> str:
        """The partitions' ids are the root hash, half each: so the initrd finds them."""
        return _uuid(self.root_hash[:32])

    @property
    def verity_uuid(self) -> str:
        return _uuid(self.root_hash[-32:])


def _uuid(digits: str) -> str:
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def parts(root: Path, folder: Path, release: Release, keys: Keys) -> Parts:
    """Made in `folder`. Raises CannotBuild, OSError."""
    data, verity, root_hash = _verity(root, folder, release)
    kernel = folder / f"{release.stem}.efi"
    version = kernels(root)[-1]
    initrd = _initrd(root, version, folder, release)
    tools.run(
        [
            *("ukify", "build", "--linux", root / f"usr/lib/modules/{version}/vmlinuz", "--initrd", initrd),
            *("--uname", version, "--os-release", f"@{root / 'usr/lib/os-release'}"),
            *("--cmdline", f"roothash={root_hash} {' '.join(COMMAND_LINE)}"),
            *("--signtool", "systemd-sbsign", "--no-sign-kernel"),  # Debian signed the kernel inside
            *("--secureboot-private-key", keys.key("db"), "--secureboot-certificate", keys.certificate("db")),
            *("--pcr-private-key", keys.key("pcr"), "--pcr-public-key", keys.pcr_public),
            *("--output", kernel),
        ],
        keys.folder,
        SOURCE_DATE_EPOCH=str(release.epoch_s),
    )
    return Parts(data, verity, kernel, root_hash)


def _verity(root: Path, folder: Path, release: Release) -> tuple[Path, Path, str]:
    definitions = _definitions(
        folder / "verity.repart",
        {
            "root": ("Type=root", "Format=erofs", "Compression=lz4", "CopyFiles=/", "Verity=data"),
            "verity": ("Type=root-verity", "Verity=hash"),
        },
        ("VerityMatchKey=root", "Minimize=best", "SplitName=%t"),
    )
    disk = folder / "verity.raw"
    for old in folder.glob("verity*.raw"):
        old.unlink()
    told = _repart(disk, definitions, release, f"--copy-source={root}", "--size=auto", "--split=yes", "--json=short")
    disk.unlink()
    root_hash = next(row["roothash"] for row in json.loads(told) if row.get("roothash"))
    by_kind = {path.name.split(".")[1]: path for path in folder.glob("verity.*.raw")}
    data, verity = (folder / f"{release.stem}.{kind}" for kind in ("root", "verity"))
    by_kind["root-x86-64"].rename(data)
    by_kind["root-x86-64-verity"].rename(verity)
    return data, verity, root_hash


def _initrd(root: Path, version: str, folder: Path, release: Release) -> Path:
    initrd = folder / "initrd.img"
    tools.run(
        [
            *("dracut", "--force", "--reproducible", "--no-hostonly", "--no-hostonly-cmdline", "--no-early-microcode"),
            *("--zstd", "--kver", version, "--kmoddir", root / "usr/lib/modules" / version),
            *("--modules", " ".join(INITRD_MODULES), "--drivers", " ".join(INITRD_DRIVERS), initrd),
        ],
        SOURCE_DATE_EPOCH=str(release.epoch_s),
    )
    return initrd


def compose(made: Parts, folder: Path, release: Release, keys: Keys) -> Path:
    """The disk image. Raises CannotBuild, OSError."""
    esp = _esp(made, folder / "esp", keys)
    definitions = _definitions(
        folder / "disk.repart",
        {
            "10-esp": ("Type=esp", "Format=vfat", f"SizeMinBytes={SLOT}", f"SizeMaxBytes={SLOT}", f"CopyFiles={esp}:/"),
            "20-root": _slot("20-root-a", release.stem, made.root_uuid, made.root),
            "21-verity": _slot("21-root-a-verity", f"{release.stem}_verity", made.verity_uuid, made.verity),
        },
    )
    disk = folder / f"{release.stem}.raw"
    disk.unlink(missing_ok=True)
    _repart(disk, definitions, release, "--size=auto", "--architecture=x86-64")
    return disk


def _slot(name: str, label: str, uuid: str, blocks: Path) -> tuple[str, ...]:
    """Like the slot of the running system, but filled."""
    lines = (FILES / f"usr/lib/repart.d/{name}.conf").read_text().splitlines()
    return (*(line for line in lines if "=" in line and "Label" not in line),
            f"Label={label}", f"UUID={uuid}", f"CopyBlocks={blocks}")  # fmt: skip


def _esp(made: Parts, esp: Path, keys: Keys) -> Path:
    shutil.rmtree(esp, ignore_errors=True)
    for folder in ("EFI/BOOT", "EFI/systemd", "EFI/Linux", "loader/keys/auto"):
        (esp / folder).mkdir(parents=True)
    boot = esp / "EFI/BOOT/BOOTX64.EFI"
    signing = ("--private-key", keys.key("db"), "--certificate", keys.certificate("db"))
    source = "/usr/lib/systemd/boot/efi/systemd-bootx64.efi"
    tools.run(["/usr/lib/systemd/systemd-sbsign", "sign", *signing, "--output", boot, source], keys.folder)
    shutil.copyfile(boot, esp / "EFI/systemd/systemd-bootx64.efi")
    shutil.copyfile(made.kernel, esp / f"EFI/Linux/{made.kernel.stem}+{TRIES}-0.efi")
    (esp / "loader/loader.conf").write_text(LOADER)
    for name in SECURE_BOOT:
        shutil.copyfile(keys.variable(name), esp / f"loader/keys/auto/{name}.auth")
    return esp


def _definitions(folder: Path, files: dict[str, tuple[str, ...]], common: tuple[str, ...] = ()) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, lines in files.items():
        (folder / f"{name}.conf").write_text("\n".join(("[Partition]", *lines, *common, "")))
    return folder


def _repart(disk: Path, definitions: Path, release: Release, *options: str) -> str:
    fixed = ("--empty=create", "--offline=yes", "--dry-run=no", f"--seed={SEED}", f"--definitions={definitions}")
    return tools.run(["systemd-repart", *fixed, *options, disk], SOURCE_DATE_EPOCH=str(release.epoch_s))
