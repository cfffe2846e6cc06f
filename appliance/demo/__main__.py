"""`make demo`."""

from __future__ import annotations

import sys

from appliance.demo.screen import Screen
from appliance.demo.story import Story
from appliance.lab import Run


def main() -> int:
    """0 when everything was as it should be, 1 when something was not, 2 when it cannot run here."""
    screen = Screen()
    try:
        with Run() as run:
            story = Story(run, screen)
            try:
                story.play()
            except AssertionError as error:
                screen.problem(str(error))
            if screen.problems:
                last_words(screen, story)
        screen.say("Everything is cleaned up: namespaces, processes, key stores.")
    except (PermissionError, FileNotFoundError) as error:
        print(f"the demonstration cannot run: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; everything is cleaned up", file=sys.stderr)
        return 130
    if screen.problems:
        screen.say(f"{len(screen.problems)} things were not as they should be.", "bold red")
        return 1
    screen.good("Everything was as it should be.")
    return 0


def last_words(screen: Screen, story: Story) -> None:
    """The ends of the units' logs, for whoever looks for the cause."""
    for node in story.nodes:
        for process in node.units.values():
            for line in process.said().splitlines()[-8:]:
                screen.say(f"{process.name}: {line}", "dim")


if __name__ == "__main__":
    sys.exit(main())
