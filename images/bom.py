"""What is in an image, for those who must know: a software bill of materials and the licences.

Both come from what Debian says of its packages: dpkg's status of the root, and each package's copyright file, which is
in the image too.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from images.release import Release

UNKNOWN = "see its copyright file"
LICENCE = re.compile(r"^License:[ \t]*(\S.*)$", re.MULTILINE)


def packages(status: str) -> Iterator[dict[str, str]]:
    """dpkg's status, a dictionary of fields each."""
    for stanza in status.strip().split("\n\n"):
        yield dict(line.split(": ", 1) for line in stanza.splitlines() if re.match(r"[A-Z][A-Za-z-]*: ", line))


def licences(root: Path, package: str) -> list[str]:
    """Short names, as the copyright file has them where it is machine-readable."""
    copyright_file = root / "usr/share/doc" / package / "copyright"
    if not copyright_file.exists():
        return []
    text = copyright_file.read_text(errors="replace")
    return sorted({name.strip() for name in LICENCE.findall(text)})


def cyclonedx(root: Path, status: str, release: Release, root_hash: str) -> str:
    """CycloneDX 1.5 in JSON: the same for the same image."""
    digest = hashlib.sha256(root_hash.encode()).hexdigest()
    serial = "-".join((digest[:8], digest[8:12], "4" + digest[13:16], "8" + digest[17:20], digest[20:32]))
    document: dict[str, Any] = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": f"urn:uuid:{serial}",
        "version": 1,
        "metadata": {
            "component": {
                "type": "operating-system",
                "bom-ref": release.stem,
                "name": release.name,
                "version": release.version,
                "properties": [{"name": "dm-verity:roothash", "value": root_hash}],
            }
        },
        "components": [_component(root, fields) for fields in packages(status)],
    }
    return json.dumps(document, indent=2) + "\n"


def _component(root: Path, fields: dict[str, str]) -> dict[str, Any]:
    name, version, architecture = fields["Package"], fields["Version"], fields["Architecture"]
    source = fields.get("Source", name).split(" ")[0]
    return {
        "type": "library",
        "bom-ref": f"{name}@{version}",
        "name": name,
        "version": version,
        "purl": f"pkg:deb/debian/{name}@{version.replace('+', '%2B').replace(':', '%3A')}?arch={architecture}",
        "licenses": [{"license": {"name": licence}} for licence in licences(root, name) or [UNKNOWN]],
        "properties": [{"name": "debian:source", "value": source}],
    }


def licence_list(root: Path, status: str) -> str:
    """A line for each package, then each copyright file whole, equal ones once."""
    lines: list[str] = []
    texts: dict[str, list[str]] = {}
    for fields in packages(status):
        name = fields["Package"]
        lines.append(f"{name} {fields['Version']}: {', '.join(licences(root, name)) or UNKNOWN}")
        copyright_file = root / "usr/share/doc" / name / "copyright"
        if copyright_file.exists():
            texts.setdefault(copyright_file.read_text(errors="replace"), []).append(name)
    whole = [f"{'=' * 100}\n{', '.join(names)}\n\n{text}" for text, names in texts.items()]
    return "\n".join([*lines, "", *whole])
