"""The unit appliance-site of the appliance's image: takes in the node file, and sets up the machine as its [site] says.

    python -m appliance.services.site [--from FOLDER [--proved]]

It runs at each boot before the network, and again for each folder with something to take in. What is wrong goes to the
journal and to the console; it never fails: a machine without a good node file is to be reachable at its console.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from appliance.config import NodeConfig
from appliance.services import journal, notify
from appliance.site import firewall, network, state, updates
from appliance.site.identity import Identity, identity
from appliance.site.intake import Kept, bring, clear_up, missing_secrets, standing, take_credential, take_in
from appliance.site.report import FOLDER, Report
from appliance.site.warrant import Warrant, administrators

RUN = Path("/run/systemd")
SYSTEM_CREDENTIALS = Path("/run/credentials/@system")


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="appliance-site", description="Sets up an appliance's machine by its node file."
    )
    parser.add_argument(
        "--from", dest="offered", type=Path, help="folder with what is to be taken in", metavar="FOLDER"
    )
    parser.add_argument(
        "--proved", action="store_true", help="who brings it has shown that he may replace what is kept"
    )
    options = parser.parse_args()
    if not state.running():
        print("appliance-site: this machine did not boot from the appliance's image: its firewall and network are not "
              "ours. Here the node file is /etc/qbb/node.toml", file=sys.stderr)  # fmt: skip
        return 1
    FOLDER.mkdir(mode=0o755, exist_ok=True)
    report, kept, machine = Report(), Kept(), identity()
    report.troubles += state.troubles()
    taken = None
    if state.is_open():  # else nobody knows what is kept, and nothing can be
        with _turn():
            clear_up(kept, report)
            taken = _taken(options.offered, kept, machine, report, options.proved)
    node = taken or standing(kept, machine, report)
    if node is not None:
        report.node = node.name
        report.cards = [interface.device or interface.mac or "" for interface in node.site.interfaces]
        for link in missing_secrets(node, kept, (SYSTEM_CREDENTIALS,)):
            report.trouble(
                f'link "{link}" has no secret',
                f"Offer qbb.link.{link}, made by qbb link secret, on a memory stick with the label QBB-NODE or typed "
                "here (key s)",
            )
    set_up(node, report)
    report.write()
    for trouble in report.troubles:
        journal.write("configuration-refused", f"{trouble.what}. {trouble.remedy}.")
    notify.ready(f"node {report.node}" if report.node else "no node file")
    return 0


@contextlib.contextmanager
def _turn() -> Iterator[None]:
    """One at a time: what another one, for a stick or the console, is just writing is not left over."""
    turn = os.open(FOLDER, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(turn, fcntl.LOCK_EX)
        yield
    finally:
        os.close(turn)


def _taken(offered: Path | None, kept: Kept, machine: Identity, report: Report, proved: bool) -> NodeConfig | None:
    """The node file that is new, brought by somebody or by the unit's credentials."""
    if offered is None:
        credentials = os.environ.get("CREDENTIALS_DIRECTORY")
        return take_credential(Path(credentials), kept, machine, report) if credentials else None
    warrant = Warrant(administrators(kept.node), proved)  # those of now, not those that it brings
    with tempfile.TemporaryDirectory(dir=FOLDER, prefix="brought-") as folder:
        bring(offered, Path(folder), report)
        taken = take_in(Path(folder), kept, machine, report, warrant)
    if report.changed:
        # What runs goes by what was there before. Whoever started this starts the node again, by qbb-node.service.
        subprocess.run(["systemctl", "stop", "qbb.target"], check=False)
    return taken


def set_up(node: NodeConfig | None, report: Report) -> None:
    """Address, firewall, time, SSH. What fails is told."""
    for step in (_hostname, _firewall, _network, _time, _updates, _ssh):
        try:
            step(node)
        except (OSError, subprocess.CalledProcessError) as error:
            said = (error.stderr or "").strip() if isinstance(error, subprocess.CalledProcessError) else ""
            name = step.__name__.lstrip("_")
            report.trouble(f"{name} could not be set up: {said or error}", "See journalctl -u appliance-site")


def _hostname(node: NodeConfig | None) -> None:
    if node is not None:
        socket.sethostname(node.name)


def _firewall(node: NodeConfig | None) -> None:
    """One rule that nft refuses voids all of them: then not even answers would come in."""
    try:
        _run("nft", "-f", "-", text=firewall.rules(node))
    except subprocess.CalledProcessError as error:
        if node is None:
            raise
        _run("nft", "-f", "-", text=firewall.rules(None))
        said = error.stderr.strip()
        raise OSError(f"nothing that the node file lets in comes in, because nft refuses its rules: {said}") from None


def _network(node: NodeConfig | None) -> None:
    folder = RUN / "network"
    folder.mkdir(exist_ok=True)
    wanted = network.files(node.site) if node is not None else {}
    for old in folder.glob("50-*.network"):
        if old.name not in wanted:
            old.unlink()
    for name, text in wanted.items():
        (folder / name).write_text(text)
    _reload("systemd-networkd.service", "networkctl", "reload")


def _updates(node: NodeConfig | None) -> None:
    folder = Path("/run/sysupdate.d")
    folder.mkdir(exist_ok=True)
    url = node.site.update if node is not None else None
    for name, text in updates.transfers(url or "file:///nowhere").items():
        if url is None:
            (folder / name).unlink(missing_ok=True)
        else:
            (folder / name).write_text(text)


def _time(node: NodeConfig | None) -> None:
    folder = RUN / "timesyncd.conf.d"
    folder.mkdir(exist_ok=True)
    if node is not None:
        (folder / "50-site.conf").write_text(network.time(node.site))
    _reload("systemd-timesyncd.service", "systemctl", "restart", "systemd-timesyncd.service")


def _ssh(node: NodeConfig | None) -> None:
    keys = FOLDER / "authorized_keys"
    if node is not None and node.site.ssh_keys:
        keys.write_text("".join(f"{key}\n" for key in node.site.ssh_keys))
        _run("systemctl", "start", "--no-block", "ssh.service")
    else:
        keys.unlink(missing_ok=True)
        _run("systemctl", "stop", "--no-block", "ssh.service")


def _reload(unit: str, *words: str) -> None:
    """Only what runs already; at boot it reads the files when it starts."""
    if subprocess.run(["systemctl", "--quiet", "is-active", unit], check=False).returncode == 0:
        _run(*words)


def _run(*words: str, text: str | None = None) -> None:
    subprocess.run(words, input=text, text=True, check=True, capture_output=True)


if __name__ == "__main__":
    sys.exit(main())
