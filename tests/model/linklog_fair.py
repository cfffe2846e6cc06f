"""Coming up under a fair scheduler with bounded delay, the SYNC timer firing without looking at the peer.

Property E says that a way to UP exists.  Here the network is merely honest: in every round each message that
was sent before the round and that its receiver can still use is delivered once, in a fixed order, old ones
too (they stand for retransmissions), and an end restarts by rule 11 when it was in one SYNC without its EPOCH
for `patience` rounds. From every state of a run the link must then be up within `ROUNDS` rounds.  Both ends
have the same patience: that two timers expire together must not matter.
"""

from __future__ import annotations

from linklog_properties import is_up, may_come_up
from linklog_rules import Rules
from linklog_state import MASTER, SLAVE, SYNC, State, canonical

PATIENCE = 12
ROUNDS = 80


def rounds_to_up(rules: Rules, st: State, patience: int, newest_first: bool) -> int | None:
    """How many rounds the link needs from this state; None if it does not come up in time, though it has key.

    A record still in flight may use up the last chunk on the way: an exhausted link is rightly down.
    """
    waited = [0, 0]
    for turn in range(ROUNDS):
        if is_up(st):
            return turn
        before = (st.master.sid, st.slave.sid)
        for m in sorted(st.net, key=repr, reverse=newest_first):
            st = rules.deliver(st, m) or st
        for x in (MASTER, SLAVE):
            e = st.end(x)
            waited[x] = waited[x] + 1 if e.mode == SYNC and not rules.epoch(e) and e.sid == before[x] else 0
            if waited[x] >= patience:
                waited[x] = 0
                st = rules.boot(st, x, e)
        # Sessions were compared by name above, so names change only between rounds.
        st = canonical(st, rules.config.keep)
    return None if may_come_up(rules, st) else 0


def slowest(rules: Rules, states: list[State], patience: int = PATIENCE) -> tuple[int, State | None]:
    """The most rounds that any state needs, and a state that does not come up, if there is one."""
    most = 0
    for st in states:
        if may_come_up(rules, st):
            for newest_first in (False, True):
                turns = rounds_to_up(rules, st, patience, newest_first)
                if turns is None:
                    return ROUNDS, st
                most = max(most, turns)
    return most, None
