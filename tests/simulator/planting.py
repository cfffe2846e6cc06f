"""Planted mistakes: scratch copies of the source with one mistake each, and what must catch it.

A file of planted/ reads:

    A sentence that says what the mistake is.
    caught by: simulator 4000 crashes            or: test tests/unit/...::test_name, c-test test_link
    as: covers two things                        a regular expression, found in what the run prints
    file: appliance/q3p/custody.py
    <<<<
    text as it stands there, exactly once
    ====
    text in its place
    >>>>

with as many ``file:`` parts as it takes. Where a text is not found the code has moved and the patch must follow.
"""

from __future__ import annotations

import fcntl
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PLANTED = Path(__file__).with_name("planted")
EXTENSION = "appliance/native/_native_probe.abi3.so"
_EDIT = re.compile(r"^file: (\S+)\n<<<<\n(.*?)\n====\n(.*?)\n?>>>>$", re.S | re.M)
_HEAD = re.compile(
    r"(?P<sentence>.+?)\ncaught by: (?P<by>simulator|test|c-test) (?P<what>\S+).*?\nas: (?P<sign>.+?)\n", re.S
)


@dataclass(frozen=True)
class Edit:
    path: str
    old: str
    new: str


@dataclass(frozen=True)
class Mistake:
    sentence: str
    by: str
    what: str  # the number of crash points, or the test
    sign: str
    edits: tuple[Edit, ...]

    @classmethod
    def read(cls, path: Path) -> Mistake:
        text = path.read_text()
        head, edits = _HEAD.match(text), tuple(Edit(*found) for found in _EDIT.findall(text))
        assert head is not None and edits and text.count("file: ") == len(edits), (
            f"{path} is not written as it should be"
        )
        return cls(head["sentence"], head["by"], head["what"], head["sign"], edits)

    @property
    def sources_in_c(self) -> set[str]:
        return {edit.path for edit in self.edits if edit.path.startswith("csrc/")}


class Scratch:
    """A copy of the tree in ``folder``; the probe extension is built from it, from objects that ``cache`` keeps."""

    def __init__(self, folder: Path, cache: Path) -> None:
        self.folder, self.cache = folder, cache
        self.objects: list[Path] = []
        ignore = shutil.ignore_patterns("__pycache__", "_native.c", "_native_probe.c")
        for name in ("appliance", "csrc"):
            shutil.copytree(ROOT / name, folder / name, ignore=ignore)
        shutil.copy(ROOT / "pyproject.toml", folder)
        (folder / "tests").symlink_to(ROOT / "tests")

    def plant(self, mistake: Mistake) -> None:
        for edit in mistake.edits:
            path = self.folder / edit.path
            text = path.read_text()
            assert text.count(edit.old) == 1, f"{edit.path} has moved: {text.count(edit.old)} times\n{edit.old}"
            path.write_text(text.replace(edit.old, edit.new))

    def build(self, changed: Iterable[str] = ()) -> None:
        """The probe extension, with these files compiled anew."""
        objects = compiled(self.cache)
        for source in changed:
            out = objects[Path(source).name] = self.folder / (Path(source).stem + ".o")
            compile_one(self.folder, self.folder / source, out)
        self.objects = list(objects.values())
        link = ["gcc", "-shared", "-o", EXTENSION, *map(str, self.objects), "-lcrypto", "-pthread"]
        subprocess.run(link, cwd=self.folder, check=True)

    def run(self, mistake: Mistake) -> subprocess.CompletedProcess[str]:
        python = [sys.executable, "-B", "-m"]
        commands = {
            "simulator": [*python, "tests.simulator.runs", "--crashes", mistake.what],
            "test": [*python, "pytest", "-q", "-x", "-p", "no:cacheprovider", mistake.what],
            "c-test": ["./c-test"],
        }
        if mistake.by == "c-test":
            self._build_c_test(mistake.what)
        command = commands[mistake.by]
        return subprocess.run(command, cwd=self.folder, capture_output=True, text=True, timeout=900, check=False)

    def _build_c_test(self, name: str) -> None:
        source = self.folder / "csrc" / "tests" / f"{name}.c"
        compile_one(self.folder, source, self.folder / "c-test.o")
        objects = [str(path) for path in self.objects if path.name != "wrapper.c.o"]
        command = ["gcc", "-o", "c-test", "c-test.o", *objects, "-lcrypto", "-pthread"]
        subprocess.run(command, cwd=self.folder, check=True)


def compile_one(tree: Path, source: Path, out: Path) -> None:
    include = [f"-I{tree / 'csrc' / folder}" for folder in ("core", "io", "tests")]
    python = f"-I{sysconfig.get_path('include')}"
    flags = ["-std=gnu11", "-O1", "-fPIC", "-fno-strict-aliasing", "-pthread", "-DQBB_PROBE=1", "-D_GNU_SOURCE="]
    subprocess.run(["gcc", *flags, *include, python, "-c", str(source), "-o", str(out)], check=True)


def compiled(cache: Path) -> dict[str, Path]:
    """Objects of the sources as they are, by source file name; compiled once for all test processes."""
    cache.mkdir(parents=True, exist_ok=True)
    sources = [*(ROOT / "csrc" / "core").glob("*.c"), *(ROOT / "csrc" / "io").glob("*.c")]
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        wrapper = cache / "wrapper.c"
        if not (cache / "done").exists():
            generate = "import sys; from appliance.native import build; build.probe_ffibuilder.emit_c_code(sys.argv[1])"
            subprocess.run([sys.executable, "-c", generate, str(wrapper)], cwd=ROOT, check=True)
            for source in [*sources, wrapper]:
                compile_one(ROOT, source, cache / (source.name + ".o"))
            (cache / "done").touch()
    return {source.name: cache / (source.name + ".o") for source in [*sources, wrapper]}
