"""The root of the appliance: Debian, the package of this project, the files of images/root, and nothing that only
building wanted."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from images import tools, tree
from images.release import Release
from images.tree import ROOT, CannotBuild

FILES = ROOT / "images" / "root"
PACKAGES = (
    "ca-certificates",  # updates over https
    "cryptsetup-bin",  # cryptsetup erase, and whether a recovery key is one
    "e2fsprogs",  # /var
    "gpg",  # signatures of updates
    "iproute2",
    "kmod",
    "libtss2-esys-3.0.2-0t64",  # the TPM
    "libtss2-mu-4.0.1-0t64",
    "libtss2-rc0t64",
    "libtss2-tcti-device0t64",
    "linux-image-amd64",
    "login",
    "nftables",
    "openssh-server",
    "systemd-boot-tools",
    "systemd-boot",  # systemd-bless-boot
    "systemd-container",  # systemd-sysupdate
    "systemd-cryptsetup",
    "systemd-repart",
    "systemd-resolved",
    "systemd-timesyncd",
    "udev",
)
# What only building wanted: it goes, with what else belongs to it by the beginning of its name.
BUILDING = (
    *("adduser", "apt", "busybox", "cpio", "debconf", "debian-archive-keyring", "dpkg", "dracut-install"),
    *("initramfs-tools", "klibc-utils", "libapt-pkg", "libklibc", "linux-base", "linux-sysctl-defaults", "perl-base"),
    *("sqv", "ucf", "gpgv", "logsave", "systemd-boot-efi", "zstd"),
)
# By its whole name: openssl-provider-legacy, which cryptsetup loads, stays. /etc/ssl/certs, made by it, stays too.
BUILDING_ALONE = ("openssl",)
# Hardware that no node has.
MODULES = (
    *("sound", "net/bluetooth", "net/wireless", "net/mac80211", "net/nfc", "drivers/bluetooth", "drivers/gpu/drm/amd"),
    *("drivers/gpu/drm/i915", "drivers/gpu/drm/nouveau", "drivers/gpu/drm/radeon", "drivers/gpu/drm/xe"),
    *("drivers/iio", "drivers/infiniband", "drivers/media", "drivers/net/wireless", "drivers/staging"),
)
LEFTOVER = (
    *("boot/*", "dev/*", "proc/*", "run/*", "sys/*", "tmp/*", "var/*", "root/.[a-z]*"),
    *("etc/apt", "etc/dpkg", "etc/initramfs", "etc/kernel", "etc/cron*", "etc/logrotate.d", "etc/*-", "etc/ssh/*_key*"),
    *("etc/.pwd.lock", "etc/ld.so.cache~", "usr/share/bug", "usr/share/lintian", "usr/share/initramfs-tools"),
    "etc/.resolv.conf*",  # of the machine that builds
    *("usr/share/bash-completion", "usr/share/zsh", "usr/share/man/??", "usr/share/info", "usr/share/doc-base"),
    *("usr/lib/python3*/**/__pycache__", "usr/lib/python3/dist-packages/networkx/**/tests", "var/.??*"),
    *("usr/lib/tmpfiles.d/tpm2-tss-fapi.conf", "usr/lib/udev/rules.d/60-tpm-udev.rules"),  # for an account of theirs
)
LINKS = {
    "etc/systemd/system/default.target": "/usr/lib/systemd/system/multi-user.target",
    "etc/systemd/system/getty@.service": "/dev/null",  # appliance-console@ is in their place
    "etc/systemd/system/serial-getty@.service": "/dev/null",
    "etc/qbb": "/var/lib/site/qbb",
    "etc/credstore": "/var/lib/site/credstore",
    "etc/resolv.conf": "../run/systemd/resolve/stub-resolv.conf",
    "etc/tmpfiles.d/credstore.conf": "/dev/null",  # its folder is that link
}


def build(target: Path, package: Path | None, release: Release, update_key: Path) -> Path:
    """`target` filled anew; beside it NAME.status, dpkg's status of what is in it. Raises CannotBuild, OSError."""
    shutil.rmtree(target, ignore_errors=True)
    base = tree.tree((*PACKAGES, *(needs(package) if package else ())))
    _run(["cp", "-a", "--reflink=auto", f"{base}/.", target.as_posix()], target.parent, make=target)
    if package:
        _install(target, package)
    status = _take_out(target)
    _kernel_modules(target)
    for pattern in LEFTOVER:
        for path in list(target.glob(pattern)):
            _remove(path)
    target.with_suffix(".status").write_text(status)
    _compile(target)
    _lay_over(target, release, update_key)
    return target


def _compile(root: Path) -> None:
    """Python's own: a read-only root cannot do it later, and a start would take twice as long."""
    words = ["python3", "-m", "compileall", "-q", "-j1", "--invalidation-mode", "unchecked-hash", "/usr/lib"]
    _run(["chroot", str(root), "env", "PYTHONHASHSEED=0", *words], ROOT)


def needs(package: Path) -> list[str]:
    """What a package file depends on, by name. Raises CannotBuild."""
    told = _run(["dpkg-deb", "--field", str(package), "Depends"], ROOT)
    return [word.split("|")[0].split("(")[0].split(":")[0].strip() for word in told.split(",") if word.strip()]


def _install(root: Path, package: Path) -> None:
    inside = root / "tmp" / package.name
    shutil.copyfile(package, inside)
    _run(["chroot", str(root), "dpkg", "--install", f"/tmp/{package.name}"], ROOT)


def _take_out(root: Path) -> str:
    """Takes out the packages that only building wanted, whatever depends on them. The status of the rest."""
    stanzas = {}
    for stanza in (root / "var/lib/dpkg/status").read_text().split("\n\n"):
        if stanza.strip():
            fields = dict(line.split(": ", 1) for line in stanza.strip().splitlines() if ": " in line[:60])
            stanzas[fields["Package"]] = stanza.strip()
    gone = {name for name in stanzas if name.startswith(BUILDING) or name in BUILDING_ALONE}
    kept = {path for name in stanzas.keys() - gone for path in _files(root, name)}
    for name in gone:
        for path in _files(root, name) - kept:
            place = root / path.lstrip("/")
            if place.is_symlink() or place.is_file():
                place.unlink()
    return "\n\n".join(stanzas[name] for name in sorted(stanzas.keys() - gone)) + "\n"


def _files(root: Path, name: str) -> set[str]:
    info = root / "var/lib/dpkg/info"
    return {
        line
        for listing in (*info.glob(f"{name}.list"), *info.glob(f"{name}:*.list"))
        for line in listing.read_text().splitlines()
    }


def _kernel_modules(root: Path) -> None:
    for version in kernels(root):
        for folder in MODULES:
            shutil.rmtree(root / "usr/lib/modules" / version / "kernel" / folder, ignore_errors=True)
        tools.run(["depmod", "-b", root, version])
        shutil.copyfile(root / f"boot/vmlinuz-{version}", root / f"usr/lib/modules/{version}/vmlinuz")


def kernels(root: Path) -> list[str]:
    return sorted(path.name for path in (root / "usr/lib/modules").iterdir())


def _lay_over(root: Path, release: Release, update_key: Path) -> None:
    for source in sorted(FILES.rglob("*")):
        there = root / source.relative_to(FILES)
        if source.is_dir():
            there.mkdir(mode=0o755, exist_ok=True)
        else:
            shutil.copyfile(source, there)
            there.chmod(0o755 if source.stat().st_mode & 0o100 else 0o644)
    tools.run(["systemctl", f"--root={root}", "preset-all", "--preset-mode=full"])
    for link, leads in LINKS.items():
        _remove(root / link)
        (root / link).symlink_to(leads)
    for folder in ("var/tmp", "boot"):  # units with a /var/tmp of their own start before /var is there
        (root / folder).mkdir(parents=True, exist_ok=True)
    (root / "etc/machine-id").write_text("")
    (root / "etc/hostname").unlink(missing_ok=True)
    name(root, release)
    shutil.copyfile(update_key, root / "usr/lib/systemd/import-pubring.gpg")
    _no_days(root / "etc/shadow")
    for wanted in (root / "etc/systemd/system").glob("*.wants/*"):
        if not (root / wanted.readlink().as_posix().lstrip("/")).exists():
            wanted.unlink()  # of a package that was taken out
    (root / "usr/lib/clock-epoch").touch()


def name(root: Path, release: Release) -> None:
    """Says which release it is."""
    path = root / "usr/lib/os-release"
    lines = [line for line in path.read_text().splitlines() if not line.startswith("IMAGE_")]
    path.write_text("\n".join([*lines, f'IMAGE_ID="{release.name}"', f'IMAGE_VERSION="{release.version}"', ""]))


def _no_days(shadow: Path) -> None:
    """The day of a password's change is the day of building."""
    lines = [line.split(":") for line in shadow.read_text().splitlines()]
    shadow.write_text("".join(":".join([*fields[:2], "", *fields[3:]]) + "\n" for fields in lines))


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _run(words: list[str], here: Path, make: Path | None = None) -> str:
    if make is not None:
        make.mkdir(mode=0o755, parents=True)
    ran = subprocess.run(words, cwd=here, capture_output=True, text=True, check=False)
    if ran.returncode:
        said = (ran.stderr or ran.stdout).strip()[-2000:]
        raise CannotBuild(f"{words[0]} failed with status {ran.returncode}: {said}")
    return ran.stdout
