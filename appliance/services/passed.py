"""Descriptors that systemd passed to this process: sockets, opened files, those that it keeps for the unit."""

from __future__ import annotations

import functools

from systemd import daemon


@functools.cache
def descriptors() -> dict[int, str]:
    """With their names; see sd_listen_fds_with_names(3). Asked once, since programs started from here get none."""
    return dict(daemon.listen_fds_with_names(True))
