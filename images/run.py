"""`make image-run`: boots two appliances and keeps them running until Ctrl-C, for anybody to log in and look.

    python -m images.run [--fresh]

What they keep is in build/run: they find it again the next time, unless --fresh.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from images import build
from images.keys import keys
from images.pair import LINK, Pair
from images.release import release
from images.tree import ROOT, CannotBuild
from images.vm import Machine

FOLDER = ROOT / "build" / "run"
PORTS = (2201, 2202)
INTERVAL_S = 3.0
# The owner of a virtual machine may let in whom he likes: l at its console logs in.
NO_PASSWORD = {"login.noauth": b"yes"}


def ssh_key(folder: Path) -> Path:
    """For logging in; made here."""
    key = folder / "ssh"
    if not key.exists():
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "image-run", "-f", key], check=True)
    return key


def log_in(machine: Machine, key: Path, *words: str) -> list[str]:
    known = f"UserKnownHostsFile={key.parent / 'known-hosts'}"
    options = ["-o", known, "-o", "StrictHostKeyChecking=accept-new", "-o", "ConnectTimeout=5", "-o", "LogLevel=ERROR"]
    return ["ssh", "-i", str(key), *options, "-p", str(machine.management), "root@localhost", *words]


def state(machine: Machine, key: Path) -> str:
    """Of its link, in a word."""
    ran = subprocess.run(log_in(machine, key, "qbb", "links", "--json"), capture_output=True, text=True, check=False)
    with contextlib.suppress(ValueError, KeyError, IndexError, TypeError):
        link = json.loads(ran.stdout)[0]
        return f"link {link['name']} {link['state']}, store {link['store_state']}"
    return "runs, and does not answer by SSH yet" if machine.running else "went off"


def told(pair: Pair, key: Path) -> Iterator[str]:
    began = time.monotonic()
    while True:
        states = [f"{machine.name}: {state(machine, key)}" for machine in pair.machines]
        yield f"{time.monotonic() - began:5.0f} s  {'   '.join(states)}"
        time.sleep(INTERVAL_S)


def main() -> int:
    parser = argparse.ArgumentParser(prog="make image-run", description="Boots two appliances, joined by a fibre.")
    parser.add_argument("--fresh", action="store_true", help="forget what they kept")
    image = build.OUT / f"{release().stem}.raw"
    if parser.parse_args().fresh:
        shutil.rmtree(FOLDER, ignore_errors=True)
    try:
        FOLDER.mkdir(mode=0o700, parents=True, exist_ok=True)
        key = ssh_key(FOLDER)
        public = key.with_suffix(".pub").read_text().strip()
        pair = Pair(FOLDER, image, keys(), public, PORTS, dict(NO_PASSWORD), processors=1)
        watch(pair, key)
    except KeyboardInterrupt:
        print("\nBoth are off. make image-run starts them again as they were.")
    except (CannotBuild, OSError) as why:
        print(f"image-run: {why}", file=sys.stderr)
        return 1
    return 0


def watch(pair: Pair, key: Path) -> None:
    try:
        pair.start()
        print("Two appliances boot under emulation: a minute or two until their link is up. Ctrl-C ends both.\n")
        for machine in pair.machines:
            print(f"  log in to {machine.name}:  {' '.join(log_in(machine, key))}")
            print(f"  its console:      {sys.executable} -m images.console {machine.console_socket}\n")
        print(
            f"  there: qbb status, qbb links, qbb link show {LINK}, journalctl -f QBB_LINK={LINK}, systemctl status\n"
        )
        fibre = f"{sys.executable} -m appliance.devices.fibre --socket {pair.fibre}"
        print(f"  the fibre, here:  {fibre} --ask tap fraction=0.5\n")
        before = ""
        for line in told(pair, key):
            if line[7:] != before:
                print(line, flush=True)
            before = line[7:]
    finally:
        for machine in pair.machines:
            with contextlib.suppress(OSError):
                machine.power_button()
        pair.kill()


if __name__ == "__main__":
    sys.exit(main())
