"""Whose fault it was: errors of the network and transport layers.

A RemoteProtocolError never leaves an endpoint: the packet is dropped and counted under the error's reason. A
LocalProtocolError is a mistake of the caller and is raised to it.
"""

from __future__ import annotations


class LocalProtocolError(Exception):
    """This node's own code asked for something that the protocol does not allow now."""


class RemoteProtocolError(Exception):
    """A packet that no correct peer sends. `reason` is a short fixed slug, fit to be a counter's name."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
