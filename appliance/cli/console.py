"""console: the status screen of an appliance's console, here."""

from __future__ import annotations

from argparse import Namespace

from appliance.cli.output import Screen
from appliance.services import console as screen_of_console


def console(screen: Screen, options: Namespace) -> int:
    return screen_of_console.main()
