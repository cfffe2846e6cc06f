"""python -m tests.bench: see the package's text."""

from __future__ import annotations

import argparse
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path

from tests.bench import ccode, gain, nodes, plane, requests, reroute, start
from tests.bench.result import Row, Skipped, table, write_json

Bench = Callable[[bool], Iterable[Row | Skipped]]

BENCHES: dict[str, Bench] = {
    "pad": ccode.pad_and_tag,
    "hop": ccode.hop,
    "relay": ccode.relay,
    "busy": plane.beside_busy_control,
    "durable": plane.with_durable_logs,
    "requests": requests.from_stock,
    "single": nodes.single_keys,
    "batch": nodes.batches,
    "idle": nodes.idle,
    "latency": nodes.latency,
    "load": gain.load_aware,
    "cut": reroute.cut,
    "start": start.all_routes,
}
NEEDS_ROOT = {"requests", "single", "batch", "idle", "latency", "load", "cut", "start"}


def parser() -> argparse.ArgumentParser:
    arguments = argparse.ArgumentParser(prog="tests.bench", description="Speed, as ratios against named references.")
    add = arguments.add_argument
    add("--quick", action="store_true", help="fewer and shorter turns: to see that it works, not to quote")
    add("--json", type=Path, metavar="FILE", help="write the rows there too")
    add("--only", action="append", choices=BENCHES, metavar="NAME", help="this benchmark alone; may be repeated")
    add("--list", action="store_true", help="names of the benchmarks")
    return arguments


def summary(bench: Bench) -> str:
    return (bench.__doc__ or "").splitlines()[0]


def main(words: list[str] | None = None) -> int:
    options = parser().parse_args(words)
    if options.list:
        for name, bench in BENCHES.items():
            print(f"{name:10} {summary(bench)}")
        return 0
    began_s = time.monotonic()
    rows: list[Row] = []
    skipped: list[Skipped] = []
    failed: list[Skipped] = []
    for name, bench in BENCHES.items():
        if options.only and name not in options.only:
            continue
        if name in NEEDS_ROOT and os.geteuid() != 0:
            skipped.append(Skipped(name, "network namespaces need root"))
            continue
        print(f"{time.monotonic() - began_s:4.0f} s  {name}: {summary(bench)}", file=sys.stderr, flush=True)
        try:
            for row in bench(options.quick):
                if isinstance(row, Skipped):
                    skipped.append(row)
                else:
                    rows.append(row)
        except Exception as error:
            traceback.print_exc()
            failed.append(Skipped(name, f"{type(error).__name__}: {error}"))
    table(rows, [*skipped, *failed])
    if options.json:
        write_json(options.json, rows, skipped, failed)
    return int(bool(failed) or any(row.passed is False for row in rows))


if __name__ == "__main__":
    sys.exit(main())
