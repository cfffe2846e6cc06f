"""All steps of building an image, in order, each told with its time. An image whose inputs did not change is not built
again."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from images import bom, disk, root, tools, tree, update
from images.keys import Keys, keys
from images.release import Release, release
from images.tree import ROOT, CannotBuild

SOURCES = ("appliance", "csrc", "systemd", "packaging")
MADE = (".pyc", ".so")
OUT = ROOT / "build" / "image"
Say = Callable[[str], None]
Change = Callable[[Path], None]


@contextmanager
def _step(say: Say, what: str) -> Iterator[None]:
    began = time.monotonic()
    yield
    say(f"{time.monotonic() - began:6.1f} s  {what}")


def package() -> Path:
    """The project's own, built anew when something is younger. Raises CannotBuild."""
    found = _newest(ROOT.glob("dist/qbb_*.deb"))
    sources = [path for name in SOURCES for path in (ROOT / name).rglob("*") if _is_source(path)]
    if found is None or _newest([found, *sources, *ROOT.glob("*.toml")]) != found:
        ran = subprocess.run(["make", "-s", "deb"], cwd=ROOT, capture_output=True, text=True, check=False)
        found = _newest(ROOT.glob("dist/qbb_*.deb"))
        if ran.returncode or found is None:
            raise CannotBuild(f"make deb failed: {(ran.stderr or ran.stdout).strip()[-2000:]}")
    return found


def _is_source(path: Path) -> bool:
    return path.is_file() and path.suffix not in MADE


def _newest(paths: Iterable[Path]) -> Path | None:
    return max(paths, key=lambda path: path.stat().st_mtime, default=None)


def image(out: Path, deb: Path | None, version: str | None, say: Say) -> Path:
    """The disk image. Raises CannotBuild, OSError."""
    out.mkdir(parents=True, exist_ok=True)
    with (out / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # who wants the same waits for it
        with _step(say, "package of this project"):
            deb = deb or package()
        with _step(say, "keys, and the tools that compose"):
            signing = keys()
        made = release(version)
        whole, mark = out / f"{made.stem}.raw", out / f"{made.stem}.inputs"
        inputs = _inputs(deb, made, signing)
        if whole.exists() and mark.exists() and mark.read_text() == inputs:
            say(f"{whole} is there, from the same inputs")
            return whole
        mark.unlink(missing_ok=True)
        _build(out, deb, made, signing, say)
        mark.write_text(inputs)
    size = whole.stat()
    say(f"{whole}: {size.st_blocks * 512 / 1e6:.0f} MB used of {size.st_size / 1e6:.0f} MB")
    return whole


def variant(base: Path, out: Path, version: str, say: Say, change: Change) -> Path:
    """The update to another version: the root that was built in `base`, changed. Raises CannotBuild, OSError."""
    out.mkdir(parents=True, exist_ok=True)
    made, signing = release(version), keys()
    with _step(say, f"version {version}, as an update"):
        tools.run(["cp", "-a", "--reflink=auto", base / "root", out])
        root.name(out / "root", made)
        change(out / "root")
        return update.publish(disk.parts(out / "root", out, made, signing), out / "update", made, signing)


def check(out: Path, deb: Path | None, version: str | None, say: Say) -> bool:
    """Builds it twice, each time from a tree that is made anew. Are both the same? Raises CannotBuild, OSError."""
    kept, folders = tree.TREES, [out / name for name in ("first", "second")]
    tools.tools()  # those are not what is built, and may be kept
    hashes = []
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        say(f"{folder.name} time:")
        tree.TREES = folder / "trees"
        try:
            image(folder, deb, version, say)
        finally:
            tree.TREES = kept
        hashes.append((folder / f"{release(version).stem}.roothash").read_text().strip())
    same = len(set(hashes)) == 1
    say(f"equal: root hash {hashes[0]}" if same else f"NOT equal: root hashes {' and '.join(hashes)}")
    if same:
        for folder in folders:
            shutil.rmtree(folder)
    return same


def _build(out: Path, deb: Path, made: Release, signing: Keys, say: Say) -> None:
    with _step(say, "root"):
        sealed = root.build(out / "root", deb, made, signing.update_public)
    with _step(say, "verity, initrd, signed kernel image"):
        parts = disk.parts(sealed, out, made, signing)
    with _step(say, "bill of materials, licences"):
        status = sealed.with_suffix(".status").read_text()
        (out / f"{made.stem}.cdx.json").write_text(bom.cyclonedx(sealed, status, made, parts.root_hash))
        (out / f"{made.stem}.licences").write_text(bom.licence_list(sealed, status))
        (out / f"{made.stem}.roothash").write_text(parts.root_hash + "\n")
    with _step(say, "disk, update"):
        disk.compose(parts, out, made, signing)
        update.publish(parts, out / "update", made, signing)
    say(f"root hash {parts.root_hash}")


def _inputs(deb: Path, made: Release, signing: Keys) -> str:
    """A digest of all that an image is made of."""
    digest = hashlib.sha256(f"{made} {tree.sources()} {tools.PACKAGES}".encode())
    sources = [path for path in sorted((ROOT / "images").rglob("*")) if path.is_file() and path.suffix != ".pyc"]
    for path in (deb, signing.certificate("db"), signing.pcr_public, signing.update_public, *sources):
        digest.update(f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest() + "\n"
