"""The C benchmarks of csrc/bench: built, run, and their JSON lines made into rows."""

from __future__ import annotations

import fcntl
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.bench.result import Quantity, Row

ROOT = Path(__file__).resolve().parents[2]
GCM_TARGETS = {64: 8.0, 512: 2.5, 1400: 1.5}
XOR_TARGET = 0.75
HOP_TARGETS = {32: 4.0, 1024: 1.4}  # by padded bytes
RELAY_TARGET = 0.7


def run(bench: str) -> list[dict[str, Any]]:
    """What the benchmark prints. Raises CalledProcessError."""
    (ROOT / "build").mkdir(exist_ok=True)
    with (ROOT / "build/bench.lock").open("w") as lock:  # two that build at once would run what is half written
        fcntl.flock(lock, fcntl.LOCK_EX)
        subprocess.run(["make", "-s", "-C", str(ROOT / "csrc/bench"), "all"], check=True)
    printed = subprocess.run([ROOT / "build/bench" / bench], check=True, capture_output=True, text=True).stdout
    return [json.loads(line) for line in printed.splitlines()]


def pad_and_tag(quick: bool) -> Iterator[Row]:
    """Sealing one packet's payload, pad cold, against AES-256-GCM and against the XOR alone."""
    for line in run("bench_core"):
        size, turns, ours = line["size_bytes"], line["repetitions"], Quantity(line["pad_tag_ns"], "ns")
        yield Row(
            f"pad and tag, {size} B, against AES-256-GCM",
            ours,
            f"AES-256-GCM, {line['libcrypto']}",
            Quantity(line["aes256gcm_ns"], "ns"),
            line["ratio_aes256gcm"],
            GCM_TARGETS[size],
            turns=turns,
            notes=line,
        )
        yield Row(
            f"pad and tag, {size} B, against XOR alone",
            ours,
            f"XOR with the same cold pads; hash: {line['kind']}",
            Quantity(line["xor_ns"], "ns"),
            line["ratio_xor"],
            XOR_TARGET,
            turns=turns,
            notes=line,
            remark=f"without any hash, but with mask and fixed block, it would be {line['ratio_xor_floor']:.2f}",
        )


def relay(quick: bool) -> Iterator[Row]:
    """UDP in, verify, route, pad and tag anew, UDP out."""
    for line in run("bench_plane"):
        if line["bench"] != "relay":
            continue
        yield Row(
            f"data plane, {line['key_bytes']} B of key a packet",
            Quantity(line["plane_packets_s"], "packets/s"),
            "bare recvmmsg/sendmmsg loop in C, UDP loopback",
            Quantity(line["bare_packets_s"], "packets/s"),
            line["ratio"],
            RELAY_TARGET,
            turns=line["repetitions"],
            notes=line,
        )


def hop(quick: bool) -> Iterator[Row]:
    """The relay's own work without any system call."""
    lines = run("bench_link")
    groups: list[dict[str, Any]] = []
    for line in lines[1:]:
        if line["what"] == "seal_ns":  # the first of a payload's figures
            groups.append({name: value for name, value in line.items() if name.endswith("_bytes")})
        groups[-1][line["what"]] = line["median"]
    for group in groups:
        payload, padded = group["payload_bytes"], group["padded_bytes"]
        yield Row(
            f"relay hop without system calls, {payload} B, {padded} B of them key",
            Quantity(group["hop_ns"], "ns"),
            f"the same hop with AES-256-GCM, {lines[0]['libcrypto']}",
            Quantity(group["hop_aes_256_gcm_ns"], "ns"),
            group["hop_aes_256_gcm_to_ours_ratio"],
            HOP_TARGETS.get(padded),
            turns=lines[0]["repetitions"],
            notes=group,
        )
