"""Builds the image: python -m images [--deb FILE] [--version V]. What it makes is in build/image."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from images import build
from images.tree import CannotBuild


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m images", description="Builds the appliance's image.")
    parser.add_argument("--deb", type=Path, help="package of this project; built when it is not given", metavar="FILE")
    parser.add_argument("--version", help="of the image; the project's own when it is not given", metavar="V")
    parser.add_argument("--out", type=Path, default=build.OUT, help="folder to build in", metavar="FOLDER")
    parser.add_argument("--check", action="store_true", help="build twice, from nothing, and compare")
    options = parser.parse_args()
    try:
        if options.check:
            return 0 if build.check(options.out.resolve(), options.deb, options.version, print) else 1
        build.image(options.out.resolve(), options.deb, options.version, print)
    except (CannotBuild, OSError) as why:
        print(f"images: {why}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
