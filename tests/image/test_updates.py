"""Updates in a virtual machine: forged ones are refused, good ones are kept, bad ones go back by themselves."""

from __future__ import annotations

import http.server
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from appliance.services import health
from images import build, update
from images.keys import Keys
from images.pair import LINK, Pair
from images.release import release
from images.vm import HOST
from images.vmshell import CREDENTIALS

from .conftest import Tell
from .guests import BOOT_S, Guest

pytestmark = pytest.mark.slow
GOOD, BAD = "0.2.0", "0.3.0"
UPDATE = "/usr/lib/systemd/systemd-sysupdate"
UPDATE_S = 900.0
HEALTH_S = 40
STATES = (f"/var/lib/qbb/dataplane/{LINK}/log", "/var/lib/qbb/keys")


def swap_accounts(root: Path) -> None:
    """A version whose accounts have other numbers, as when a package brings one more: what is in /var changes hands."""
    for file in ("passwd", "group"):
        path = root / "etc" / file
        rows = {line.split(":")[0]: line.split(":") for line in path.read_text().splitlines()}
        one, other = rows["qbb-dataplane"], rows["qbb-keys"]
        end = 4 if file == "passwd" else 3
        one[2:end], other[2:end] = other[2:end], one[2:end]
        path.write_text("".join(":".join(row) + "\n" for row in rows.values()))


def break_keys_service(root: Path) -> None:
    """A version that does not reach health, and finds so sooner than others would."""
    drop_in(root, "qbb-keys", "ExecStart=\nExecStart=false")
    drop_in(root, "appliance-health", f"Environment={health.LIMIT}={HEALTH_S}")


def drop_in(root: Path, unit: str, lines: str) -> None:
    folder = root / f"usr/lib/systemd/system/{unit}.service.d"
    folder.mkdir(exist_ok=True)
    (folder / "test.conf").write_text(f"[Service]\n{lines}\n")


@contextmanager
def served(folder: Path) -> Iterator[int]:
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()


def version(guest: Guest) -> str:
    return guest.run(". /usr/lib/os-release; echo $IMAGE_VERSION")


def test_updates(tmp_path: Path, image: Path, signing: Keys, tell: Tell) -> None:
    good = build.variant(build.OUT, tmp_path / "good", GOOD, tell, swap_accounts)
    bad = build.variant(build.OUT, tmp_path / "bad", BAD, tell, break_keys_service)
    shelf = tmp_path / "shelf"
    shutil.copytree(good, shelf)
    with served(shelf) as port:
        pair = Pair(tmp_path / "vm", image, signing, credentials=dict(CREDENTIALS))
        paris = pair.machines[0]
        node = pair.node_file(0).replace("[site]\n", f'[site]\nupdate = "http://{HOST}:{port}/"\n')
        paris.credentials["qbb.node"] = node.encode()
        try:
            pair.start_fibre()
            paris.start()
            guest = Guest(paris)
            guest.up()
            _updates(guest, shelf, bad, signing, port, tell)
        finally:
            pair.kill()


def _updates(guest: Guest, shelf: Path, bad: Path, signing: Keys, port: int, tell: Tell) -> None:
    first = release().version
    guest.until("ls /var/lib/site", lambda said: "once-healthy" in said, BOOT_S)
    guest.run(f"grep -q {port} /run/sysupdate.d/10-root.transfer")
    sums = (shelf / update.SUMS).read_text()
    (shelf / update.SUMS).write_text(sums + "\n")
    assert guest.status(f"{UPDATE} update") != 0
    assert version(guest) == first
    assert "0.2.0" not in guest.run("ls /boot/EFI/Linux")
    tell("an update that was changed after it was signed: refused")
    (shelf / update.SUMS).write_text(sums)

    guest.run("echo kept > /var/lib/site/mark; sync")
    guest.run(f"{UPDATE} update", UPDATE_S)
    guest.run("systemctl reboot --no-block")
    guest.rebooted()
    assert version(guest) == GOOD
    guest.until("ls /boot/EFI/Linux", lambda said: f"qbb_{GOOD}.efi" in said.split(), BOOT_S)
    assert guest.run("cat /var/lib/site/mark") == "kept"
    owned = guest.run(f"stat -c %U {' '.join(STATES)}").splitlines()
    assert owned == ["qbb-dataplane", "qbb-keys"], "each has its own, under another number"
    tell(f"version {GOOD} runs, healthy, from the other slot")

    for path in shelf.iterdir():
        path.unlink()
    for path in bad.iterdir():
        shutil.copyfile(path, shelf / path.name)
    guest.run(f"{UPDATE} update", UPDATE_S)
    guest.run("systemctl reboot --no-block")
    guest.rolled_back(GOOD)
    assert f"Version {BAD} did not reach health" in guest.run("cat /run/appliance-site/report.json")
    assert guest.run("cat /var/lib/site/mark") == "kept"
    tell(f"version {BAD} does not reach health: {GOOD} came back by itself")
