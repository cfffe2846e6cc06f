"""What clients may ask, as a table."""

from __future__ import annotations

import errno
from collections.abc import Mapping

from appliance.keys.pfkey import Ext, Message, MessageType, PfkeyError, SaType

# What a client may send: extensions that must be there, and those that may. Others are skipped, as RFC 2367 has it.
REQUESTS: Mapping[int, tuple[frozenset[int], frozenset[int]]] = {
    MessageType.REGISTER: (frozenset({Ext.CONNECTION, Ext.ADDRESS_SRC}), frozenset({Ext.NAME, Ext.REASON})),
    MessageType.ACQUIRE: (frozenset({Ext.CONNECTION}), frozenset({Ext.NAME})),
    MessageType.GETSPI: (
        frozenset({Ext.CONNECTION}),
        frozenset(
            {Ext.SA, Ext.SA2, Ext.ADDRESS_SRC, Ext.ADDRESS_DST, Ext.SPIRANGE, Ext.LIFETIME_HARD, Ext.LIFETIME_SOFT}
        ),
    ),
    MessageType.GET: (frozenset(), frozenset({Ext.SA, Ext.ADDRESS_DST, Ext.KEY_ID})),
    MessageType.DELETE: (frozenset(), frozenset({Ext.SA, Ext.ADDRESS_DST, Ext.KEY_ID, Ext.CONNECTION})),
    MessageType.FLUSH: (frozenset(), frozenset()),
    MessageType.DUMP: (frozenset(), frozenset()),
}


def check_request(message: Message) -> None:
    """Raises PfkeyError when a client's message lacks an extension or is of no type that a client sends."""
    if message.type not in REQUESTS:
        raise PfkeyError(f"message type {message.type} is not one that a client sends", errno.EOPNOTSUPP)
    if message.satype not in (SaType.UNSPEC, SaType.ESP, SaType.TLS):
        raise PfkeyError(f"SA type {message.satype} is not served: ESP 3, TLS 240", errno.EPROTONOSUPPORT)
    missing = REQUESTS[message.type][0] - message.extensions.keys()
    if missing:
        names = ", ".join(Ext(number).name for number in sorted(missing))
        raise PfkeyError(f"{MessageType(message.type).name} needs the extension {names}")
