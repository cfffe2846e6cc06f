"""Settings of one end of a link."""

from __future__ import annotations

from dataclasses import dataclass, field

from appliance.q3p.reserves import Marks

SECOND_NS = 1_000_000_000
BOOTSTRAP_DEVICE = 0xFFFF  # the blocks of the link secret
STARTER_WORDS = 14  # of each direction, in an epoch's slot; QBB_STARTER_WORDS in csrc/core/link.h


@dataclass(frozen=True, slots=True)
class LinkSettings:
    """What the operator or the rate decides; chunk and window sizes must be equal at both ends."""

    link_id: int
    master: bool
    chunk_bytes: int = 65536
    marks: Marks = field(default_factory=Marks)
    hello_interval_ns: int = SECOND_NS // 2
    hello_interval_max_ns: int = 8 * SECOND_NS
    sync_resend_ns: int = SECOND_NS // 4
    sync_timeout_ns: int = 5 * SECOND_NS
    epoch_backoff_max_ns: int = 60 * SECOND_NS
    keepalive_ns: int = 20 * SECOND_NS
    suspect_ns: int = 3 * SECOND_NS
    starved_ns: int = 10 * SECOND_NS
    starved_max_ns: int = 600 * SECOND_NS
    dead_ns: int = 65 * SECOND_NS
    pickup_expiry_ns: int = 600 * SECOND_NS
    device_alarm_downs_link: bool = True
