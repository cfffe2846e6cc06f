"""An update: what systemd-sysupdate fetches, and its signature.

    build/image/update/   qbb_VERSION_UUID.root, qbb_VERSION_UUID.verity, qbb_VERSION.efi, SHA256SUMS, SHA256SUMS.gpg

Put these on a web server; appliances whose node file says so (site.update) take it when told to. The partitions' ids
are in the names, since the initrd finds the root by them.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

from images import tools
from images.disk import Parts
from images.keys import Keys
from images.release import Release

SUMS = "SHA256SUMS"
SIGN = f"""
umask 077
home=$(mktemp -d)
trap 'gpgconf --homedir "$home" --kill all; rm -rf "$home"' EXIT
gpg --homedir "$home" --batch --quiet --import "$1"
gpg --homedir "$home" --batch --quiet --yes --faked-system-time "$2!" --output {SUMS}.gpg --detach-sign {SUMS}
"""


def publish(parts: Parts, folder: Path, release: Release, keys: Keys) -> Path:
    """`folder` filled anew. Raises CannotBuild, OSError."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    names = {
        f"{release.stem}_{parts.root_uuid}.root": parts.root,
        f"{release.stem}_{parts.verity_uuid}.verity": parts.verity,
        f"{release.stem}.efi": parts.kernel,
    }
    lines = []
    for name, source in names.items():
        os.link(source, folder / name)
        with source.open("rb") as file:
            lines.append(f"{hashlib.file_digest(file, 'sha256').hexdigest()}  {name}\n")
    (folder / SUMS).write_text("".join(lines))
    sign(folder, release, keys)
    return folder


def sign(folder: Path, release: Release, keys: Keys) -> None:
    # The time is the release's or the key's, whichever is later: a key signs nothing before it was made.
    time = max(release.epoch_s, int(keys.update_secret.stat().st_mtime) + 1)
    tools.run(["sh", "-euc", SIGN, "sh", keys.update_secret, str(time)], folder)
