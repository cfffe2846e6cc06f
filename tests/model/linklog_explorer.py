"""Breadth-first exploration of every state within a configuration's bounds, and the search for property E.

The first violation of A to D or F to H ends the run with its shortest trace.  For E the whole graph is
needed: from the states that reach the goal, back along helpful steps; a state that should have a way and is
not met has none.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable
from dataclasses import dataclass, field

from linklog_properties import Violation, can_talk, check_state, is_up, may_come_up, may_talk
from linklog_rules import Config, Rules
from linklog_state import MASTER, MODES, NAMES, SLAVE, Budget, End, Log, State, canonical
from linklog_steps import steps


@dataclass
class Result:
    """What an exploration found."""

    config: Config
    states: int = 0
    edges: int = 0
    seconds: float = 0.0
    complete: bool = True
    letter: str = ""  # of the property that fails; empty when all hold
    text: str = ""
    trace: list[str] = field(default_factory=list)
    ups: int = 0
    found: list[State] = field(default_factory=list, repr=False)

    def __str__(self) -> str:
        head = f"{self.config.name}: {self.states} states, {self.edges} steps, {self.ups} up"
        head += f", {self.seconds:.1f} s" + ("" if self.complete else ", cut short")
        if not self.letter:
            return head
        lines = [head, f"  violates {self.letter}: {self.text}"]
        return "\n".join(lines + [f"    {i + 1:2} {step}" for i, step in enumerate(self.trace)])


def start(rules: Rules) -> State:
    """Both ends have just been switched on."""
    config = rules.config
    log = Log.of(config.log)
    ends = [End(log, config.held[x]) for x in (MASTER, SLAVE)]
    st = State(ends[0], ends[1], frozenset(), 0, Budget())
    for x in (MASTER, SLAVE):
        st = rules.boot(st, x, st.end(x))
    return canonical(st, config.keep)


def explore(config: Config, max_states: int = 5_000_000, liveness: bool = True) -> Result:
    """Explore the configuration."""
    Log.use_shape(config.shape)
    rules = Rules(config)
    began = time.perf_counter()
    first = start(rules)
    index: dict[State, int] = {first: 0}
    states: list[State] = [first]
    parents: list[tuple[int, str]] = [(-1, "")]
    helpful_from, helpful_to = array("I"), array("I")
    result = Result(config)
    i = 0
    while i < len(states):
        st = states[i]
        try:
            check_state(st)
            for text, raw, helpful in steps(rules, st):
                result.edges += 1
                after = canonical(raw, config.keep)
                j = index.get(after)
                if j is None:
                    if len(states) >= max_states:
                        result.complete = False
                        continue
                    j = index[after] = len(states)
                    states.append(after)
                    parents.append((i, text))
                if helpful:
                    helpful_from.append(i)
                    helpful_to.append(j)
        except Violation as v:
            result.letter, result.text = v.letter, str(v)
            result.trace = trace(parents, i)
            break
        i += 1
    result.states, result.found = len(states), states
    if not result.letter:
        result.ups = sum(is_up(st) for st in states)
        if liveness and result.complete:
            check_liveness(rules, states, parents, helpful_from, helpful_to, result)
    result.seconds = time.perf_counter() - began
    return result


def trace(parents: list[tuple[int, str]], i: int) -> list[str]:
    """The steps from the start to state i."""
    out: list[str] = []
    while i > 0:
        i, text = parents[i]
        out.append(text)
    return out[::-1]


def check_liveness(
    rules: Rules,
    states: list[State],
    parents: list[tuple[int, str]],
    sources: array[int],
    targets: array[int],
    result: Result,
) -> None:
    """Property E: a way back to UP, and in UP a way to chunks for both directions."""
    before: list[list[int]] = [[] for _ in states]
    for i, j in zip(sources, targets, strict=True):
        before[j].append(i)

    def reach(goal: Callable[[State], bool], must: Callable[[State], bool], text: str) -> bool:
        good = bytearray(goal(st) for st in states)
        work = [i for i, g in enumerate(good) if g]
        while work:
            for i in before[work.pop()]:
                if not good[i]:
                    good[i] = 1
                    work.append(i)
        for i, st in enumerate(states):
            if not good[i] and must(st):
                result.letter, result.text, result.trace = "E", text, trace(parents, i)
                result.trace.append(f"(and then no way on from {show(st)})")
                return False
        return True

    if reach(is_up, lambda st: may_come_up(rules, st), "no way back to up although unused key is left"):
        reach(
            lambda st: can_talk(rules, st),
            lambda st: may_talk(rules, st),
            "no way to open a chunk for each direction although two are left",
        )


def show(st: State) -> str:
    """A state for a trace."""
    out = []
    for x in (MASTER, SLAVE):
        e = st.end(x)
        mode = MODES[e.mode]
        out.append(f"{NAMES[x]} {mode} n={e.n} c={e.c} sid={e.sid} at {e.position} acked {e.acked} {e.log}")
    return "; ".join(out)
