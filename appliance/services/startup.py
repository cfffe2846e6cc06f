"""What every unit does first: read its arguments and configuration, and close the doors to its memory."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from appliance import config
from appliance.native import keymem
from appliance.services import journal

DEFAULT_CONFIGURATION = Path("/etc/qbb/node.toml")
BAD_CONFIGURATION = 78  # EX_CONFIG of sysexits.h


def arguments(program: str, description: str) -> argparse.ArgumentParser:
    """A parser with --config, to which a unit adds its own. The journal shows `program` from now on."""
    journal.identifier = program
    parser = argparse.ArgumentParser(prog=program, description=description)
    parser.add_argument("--config", type=Path, default=DEFAULT_CONFIGURATION, help="configuration file")
    return parser


def configuration(path: Path) -> config.NodeConfig:
    """Exits with status 78 after writing every problem."""
    try:
        return config.load(path)
    except config.ConfigurationErrors as errors:
        for problem in errors.problems:
            journal.write("configuration-refused", str(problem))
        sys.exit(BAD_CONFIGURATION)


def harden(runtime_directory: Path) -> None:
    """No core dumps, no ptrace; files of this unit are nobody else's unless it says so. Raises OSError."""
    keymem.harden_process()
    os.umask(0o077)
    runtime_directory.mkdir(mode=0o750, parents=True, exist_ok=True)
