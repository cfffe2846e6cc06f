"""Builds the C sources into the cffi extensions (API mode).

Declarations are written once, in the headers of csrc/: what stands between ``/* cffi:begin */`` and ``/* cffi:end */``
is what Python sees. Two extensions come from the same sources: ``_native`` is the product; ``_native_probe`` is
compiled with ``QBB_PROBE`` and adds the key oracle's probe for the simulator.
"""

from __future__ import annotations

import re
from pathlib import Path

from cffi import FFI

ROOT = Path(__file__).resolve().parents[2]
CSRC = ROOT / "csrc"
FOLDERS = ("core", "io")
# Link time optimisation: many small functions make a packet's way, calls between files cost a tenth of the relay hop.
OPTIMISE = ["-O3", "-flto=auto"]
CFLAGS = ["-std=gnu11", *OPTIMISE, "-Wall", "-Wextra", "-Werror", "-fno-strict-aliasing", "-pthread"]


def headers() -> list[Path]:
    """All headers, in an order in which each comes after those that it includes."""
    found = [path for folder in FOLDERS for path in sorted((CSRC / folder).glob("*.h"))]
    ordered: list[Path] = []

    def visit(path: Path) -> None:
        if path in ordered:
            return
        for name in re.findall(r'#include "([^"]+)"', path.read_text()):
            visit(next(CSRC / folder / name for folder in FOLDERS if (CSRC / folder / name).exists()))
        ordered.append(path)

    for path in found:
        visit(path)
    return ordered


def sources() -> list[str]:
    return [str(path.relative_to(ROOT)) for folder in FOLDERS for path in sorted((CSRC / folder).glob("*.c"))]


def declarations(marker: str) -> str:
    """The parts of the headers between the marker's begin and end comments, and constants as cffi wants them."""
    parts: list[str] = []
    for path in headers():
        for part in re.findall(rf"/\* {marker}:begin \*/(.*?)/\* {marker}:end \*/", path.read_text(), re.S):
            without_comments = re.sub(r"/\*.*?\*/", "", part, flags=re.S)
            parts.append(re.sub(r"(#define \w+) .*", r"\1 ...", without_comments))
    return "\n".join(parts)


def builder(name: str, probe: bool) -> FFI:
    ffi = FFI()
    ffi.cdef(declarations("cffi") + (declarations("cffi-probe") if probe else ""))
    includes = "\n".join(f'#include "{path.name}"' for path in headers())
    ffi.set_source(
        f"appliance.native.{name}",
        includes,
        sources=sources(),
        include_dirs=[str((CSRC / folder).relative_to(ROOT)) for folder in FOLDERS],
        extra_compile_args=[*CFLAGS, "-Wno-unused-parameter"],
        extra_link_args=OPTIMISE,
        define_macros=[("QBB_PROBE", "1")] if probe else [],
        libraries=["crypto"],
        depends=[str(path.relative_to(ROOT)) for path in headers()],
    )
    return ffi


ffibuilder = builder("_native", probe=False)
probe_ffibuilder = builder("_native_probe", probe=True)
