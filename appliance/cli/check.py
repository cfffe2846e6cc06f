"""check: the configuration file and the secret files it names."""

from __future__ import annotations

from argparse import Namespace

from appliance import config
from appliance.cli.output import BAD, GOOD, Screen


def check(screen: Screen, options: Namespace) -> int:
    """0 when there is no problem, else 1."""
    path = options.file or options.config
    try:
        node = config.load(path)
        problems = [] if options.no_files else config.check_secrets(node)
    except config.ConfigurationErrors as errors:
        node, problems = None, list(errors.problems)
    told = {
        "file": str(path),
        "problems": [{"place": p.place, "line": p.line, "wrong": p.wrong, "right": p.right} for p in problems],
    }

    def people() -> None:
        for problem in problems:
            screen.line(str(problem), BAD)
        if problems:
            screen.line(f"{len(problems)} problem{'s' if len(problems) > 1 else ''}.")
        elif options.print and node is not None:
            screen.console.print(config.show(node), soft_wrap=True, end="")
        elif node is not None:
            screen.line(f"{path}: node {node.name}, {len(node.links)} links. No problems.", GOOD)

    screen.answer(told, people)
    return 1 if problems else 0
