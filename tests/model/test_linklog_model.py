"""The link log's rules hold in every state within the bounds, and the explorer finds each planted flaw.

    pytest tests/model                        the standard bounds
    QBB_MODEL=large pytest tests/model        larger ones too, some minutes
    pytest -s tests/model                     with the states explored and the traces of the planted flaws

`linklog_state` has the state, `linklog_rules` what an end does, `linklog_steps` what may happen next,
`linklog_properties` what must hold, `linklog_explorer` the search, `linklog_fair` the honest network, and
`linklog_configurations` the bounds.  The rules in words are in the essay of `appliance.q3p`.
"""

from __future__ import annotations

import pytest
from linklog_configurations import BOTH_ROLLED, FAIR, FAIR_ROLLED, FLAWS, LARGE, STANDARD, UNPRUNED
from linklog_explorer import Result, explore, show
from linklog_fair import slowest
from linklog_rules import Config, Rules


def name(value: object) -> str:
    """The name of a test case."""
    return value.name if isinstance(value, Config) else ""


def must_hold(config: Config) -> Result:
    """Explore to the end and find nothing."""
    result = explore(config)
    print(result)
    assert result.complete
    assert not result.letter, str(result)
    assert result.ups > 0
    return result


@pytest.mark.parametrize("config", STANDARD, ids=name)
def test_rules_hold(config: Config) -> None:
    must_hold(config)


@pytest.mark.parametrize("config", LARGE, ids=name)
def test_rules_hold_in_larger_bounds(config: Config, model_large: bool) -> None:
    if not model_large:
        pytest.skip("QBB_MODEL=large asks for it")
    must_hold(config)


def test_pruning_hides_nothing() -> None:
    """The run with everything ever sent kept for ever finds nothing that the pruned runs would not."""
    must_hold(UNPRUNED)


@pytest.mark.parametrize(("letter", "wrong", "config"), FLAWS, ids=[wrong for _, wrong, _ in FLAWS])
def test_planted_flaw_is_found(letter: str, wrong: str, config: Config) -> None:
    result = explore(config)
    print(result)
    assert result.letter == letter, f"{wrong}: {result}"
    assert result.trace


def test_both_disks_rolled_back_is_beyond_the_promise() -> None:
    """What no log can notice: the threat model says so, and here is the reuse."""
    result = explore(BOTH_ROLLED)
    print(result)
    assert result.letter == "A"


@pytest.mark.parametrize("config", (FAIR, FAIR_ROLLED), ids=name)
def test_an_honest_network_brings_the_link_up(config: Config) -> None:
    result = must_hold(config)
    most, stuck = slowest(Rules(config), result.found)
    print(f"  up within {most} rounds")
    assert stuck is None, show(stuck)


def test_a_timer_shorter_than_a_round_trip_is_found() -> None:
    """A SYNC timer that expires before any answer can come keeps the link down for ever."""
    result = must_hold(FAIR)
    assert slowest(Rules(FAIR), result.found, patience=1)[1] is not None
