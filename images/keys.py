"""The keys that an image is signed with, made when they are not there: build/keys, or the folder QBB_IMAGE_KEYS.

    PK, KEK, db   Secure Boot (.key, .crt): the firmware takes PK and KEK as its owner's, and boots what db signed
    pcr           signs what the boot measures into PCR 11 (.key, .pub): the TPM opens /var for each image signed by it
    update        an OpenPGP key (.asc, .pgp): an appliance takes updates that are signed by it

They are never committed. Who ships images brings their own: a folder with files of these names, on a machine apart.
Lost keys cannot be replaced: appliances in the field then take no more updates, and a new db key closes /var.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from images import tools
from images.tree import ROOT

SECURE_BOOT = ("PK", "KEK", "db")
OWNER = "0a8e2d59-4d0e-4c1b-8a58-1f8f0b7c2d11"  # who put the Secure Boot keys into a firmware
YEARS = 20
MAKE_VARIABLE = """
trap 'rm -f "$1.esl"' EXIT
cert-to-efi-sig-list -g "$3" "$1.crt" "$1.esl"
sign-efi-sig-list -t '2020-01-01 00:00:00' -g "$3" -k "$2.key" -c "$2.crt" "$1" "$1.esl" "$1.auth"
"""
UPDATE_NAME = "QBB image updates"
# OpenPGP keys are made in a home of their own, and exported; nothing stays in it.
MAKE_UPDATE_KEY = f"""
umask 077
home=$(mktemp -d)
trap 'gpgconf --homedir "$home" --kill all; rm -rf "$home"' EXIT
gpg --homedir "$home" --batch --quiet --passphrase '' --quick-generate-key '{UPDATE_NAME}' rsa3072 sign 0
gpg --homedir "$home" --batch --quiet --armor --export-secret-keys > update.asc
gpg --homedir "$home" --batch --quiet --export > update.pgp
"""


@dataclass(frozen=True)
class Keys:
    folder: Path

    def key(self, name: str) -> Path:
        return self.folder / f"{name}.key"

    def certificate(self, name: str) -> Path:
        return self.folder / f"{name}.crt"

    def variable(self, name: str) -> Path:
        """As systemd-boot hands it to a firmware in setup mode."""
        return self.folder / f"{name}.auth"

    @property
    def pcr_public(self) -> Path:
        return self.folder / "pcr.pub"

    @property
    def update_secret(self) -> Path:
        return self.folder / "update.asc"

    @property
    def update_public(self) -> Path:
        return self.folder / "update.pgp"


def keys() -> Keys:
    """Those that are there, and new ones for what is missing. Raises CannotBuild, OSError."""
    found = Keys(Path(os.environ.get("QBB_IMAGE_KEYS", ROOT / "build" / "keys")).resolve())
    found.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name in SECURE_BOOT:
        if not (found.key(name).exists() and found.certificate(name).exists()):
            _make_certificate(found, name)
    for name, signer in zip(SECURE_BOOT, ("PK", "PK", "KEK"), strict=True):
        if not found.variable(name).exists():
            tools.run(["sh", "-euc", MAKE_VARIABLE, "sh", name, signer, OWNER], found.folder)
    if not found.pcr_public.exists():
        key = str(found.key("pcr"))
        if not found.key("pcr").exists():
            tools.run(["openssl", "genrsa", "-out", key, "2048"], found.folder)
        tools.run(["openssl", "rsa", "-in", key, "-pubout", "-out", str(found.pcr_public)], found.folder)
    if not (found.update_secret.exists() and found.update_public.exists()):
        tools.run(["sh", "-euc", MAKE_UPDATE_KEY], found.folder)
    return found


def _make_certificate(keys: Keys, name: str) -> None:
    tools.run(
        [
            *("openssl", "req", "-new", "-x509", "-newkey", "rsa:2048", "-nodes", "-sha256", "-days", str(365 * YEARS)),
            *("-subj", f"/CN=QBB image {name}/", "-keyout", keys.key(name), "-out", keys.certificate(name)),
        ],
        keys.folder,
    )
    keys.key(name).chmod(0o600)
