"""key: asks the keys service for one session key, as an application would."""

from __future__ import annotations

from argparse import Namespace

from appliance.cli.asking import Failed, Node
from appliance.cli.output import Screen
from appliance.client import Client, Connection, KeyServiceError, KeyServiceGone, SessionKey

BITS_MIN, BITS_MAX = 64, 8192


def key(node: Node, screen: Screen, options: Namespace) -> int:
    """Raises Failed."""
    if options.bits % 8 or not BITS_MIN <= options.bits <= BITS_MAX:
        raise Failed(f"{options.bits} bits: a key has {BITS_MIN} to {BITS_MAX} bits, a multiple of 8")
    if (options.name is None) == (options.to is None) or (options.to is None) != (options.port is None):
        raise Failed("who is the far application? Give --name, or --to and --port")
    if options.port is not None and not 1 <= options.port <= 65535:
        raise Failed(f"port {options.port}: a port is 1 to 65535")
    whom = options.name or f"{options.to} port {options.port}"
    path = node.config.pfkey_socket
    try:
        with Client(path, options.timeout) as client:
            connection = client.connect(options.to, options.port or 0, name=options.name, key_bytes=options.bits // 8)
            with connection.key(timeout_s=options.timeout) as found:
                _show(screen, options, connection, found)
    except KeyServiceGone as gone:
        hint = "is there a [[keys.client]] rule for you? journalctl -u qbb-keys tells"
        raise Failed(f"qbb-keys: {gone.strerror}", hint) from None
    except KeyServiceError as refused:
        raise Failed(f"no key for {whom}: {refused.strerror}") from None
    except OSError as error:
        what = f"qbb-keys does not answer at {path} ({error.strerror}): is it running?"
        raise Failed(what, "systemctl status qbb-keys") from None
    return 0


def _show(screen: Screen, options: Namespace, connection: Connection, found: SessionKey) -> None:
    bits = 8 * len(found.secret)
    node, port = str(connection.node), connection.remote_port
    told: dict[str, str | int] = {"id": str(found.id), "bits": bits, "node": node, "port": port}
    words = [("key id", str(found.id)), ("length", f"{bits} bits"), ("shared with", f"{node} port {port}")]
    if options.show:
        # The one place where a key is meant to be seen: the caller asked for it by --show.
        shown = found.secret.hex()
        told["key"] = shown
        words.append(("key", shown))
    screen.answer(told, lambda: screen.facts(words))
