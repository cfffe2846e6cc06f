"""key: asks the keys service for one session key, as an application would."""

from __future__ import annotations

from argparse import Namespace

from appliance.cli.asking import Failed, Node
from appliance.cli.output import Screen
from appliance.client import Client, KeyServiceError, KeyServiceGone, SessionKey

BITS_MIN, BITS_MAX = 64, 8192


def key(node: Node, screen: Screen, options: Namespace) -> int:
    """Raises Failed."""
    if options.bits % 8 or not BITS_MIN <= options.bits <= BITS_MAX:
        raise Failed(f"{options.bits} bits: a key has {BITS_MIN} to {BITS_MAX} bits, a multiple of 8")
    path = node.config.pfkey_socket
    try:
        with Client(path, options.timeout) as client:
            asked = client.request_key(str(options.to), options.port, options.bits // 8, options.timeout)
            with asked as found:
                _show(screen, options, found)
    except KeyServiceGone as gone:
        hint = "is there a [[keys.client]] rule for you? journalctl -u qbb-keys tells"
        raise Failed(f"qbb-keys: {gone.strerror}", hint) from None
    except KeyServiceError as refused:
        raise Failed(f"no key for {options.to} port {options.port}: {refused.strerror}") from None
    except OSError as error:
        what = f"qbb-keys does not answer at {path} ({error.strerror}): is it running?"
        raise Failed(what, "systemctl status qbb-keys") from None
    return 0


def _show(screen: Screen, options: Namespace, found: SessionKey) -> None:
    bits = 8 * len(found.secret)
    told: dict[str, str | int] = {"id": str(found.id), "bits": bits}
    words = [("key id", str(found.id)), ("length", f"{bits} bits")]
    if options.show:
        # The one place where a key is meant to be seen: the caller asked for it by --show.
        shown = found.secret.hex()
        told["key"] = shown
        words.append(("key", shown))
    screen.answer(told, lambda: screen.facts(words))
