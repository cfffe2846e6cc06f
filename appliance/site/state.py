"""Is /var open, where all is that the machine keeps?"""

from __future__ import annotations

import os
from pathlib import Path

from appliance.site.report import Trouble

STATE = Path("/var")
TPM = Path("/dev/tpmrm0")


def trouble() -> Trouble | None:
    """What is wrong with it. Without it the node does not start; it goes on by itself when /var is there."""
    if os.path.ismount(STATE):
        return None
    if not TPM.exists():
        return Trouble(
            "/var is not open: there is no TPM, and what the node keeps is under a TPM's key",
            "Switch on the TPM 2.0 in the firmware, then start again",
        )
    return Trouble(
        "/var is not open: the TPM refuses, as after a change of firmware keys, board or disk, or the disk fails",
        "Where a recovery key is asked for, give it (key u); then bind /var to this TPM: see the README",
    )
