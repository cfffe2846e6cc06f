"""Which machine this is, as its firmware tells."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

FIRMWARE = Path("/sys/class/dmi/id")


@dataclass(frozen=True)
class Identity:
    uuid: str
    serial: str

    def is_called(self, machine: str) -> bool:
        names = [name.casefold() for name in (self.uuid, self.serial) if name]
        return machine.casefold() in names

    def __str__(self) -> str:
        return f"{self.uuid or 'no UUID'}, serial number {self.serial or 'none'}"


def identity(firmware: Path = FIRMWARE) -> Identity:
    return Identity(_told(firmware / "product_uuid"), _told(firmware / "product_serial"))


def _told(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
