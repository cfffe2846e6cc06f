"""key: asks the keys service for one session key, as an application would."""

from __future__ import annotations

import importlib
from argparse import Namespace
from typing import Any

from appliance.cli.asking import Failed, Node
from appliance.cli.output import Screen


def key(node: Node, screen: Screen, options: Namespace) -> int:
    if options.bits % 8 or not 64 <= options.bits <= 8192:
        raise Failed(f"{options.bits} bits: a key has 64 to 8192 bits, a multiple of 8")
    client_module: Any = importlib.import_module("appliance.client")
    if not hasattr(client_module, "Client"):
        raise Failed("this installation has no key client (appliance.client)")
    path = node.config.pfkey_socket
    try:
        with client_module.Client(path) as client:
            found = client.request_key(str(options.to), options.port, options.bits // 8, options.timeout)
            _show(screen, options, found)
    except (ConnectionError, FileNotFoundError, PermissionError) as error:
        reason = error.strerror or str(error)
        raise Failed(f"qbb-keys does not answer at {path} ({reason})", "systemctl status qbb-keys") from None
    except (OSError, TimeoutError) as error:
        raise Failed(f"no key for {options.to} port {options.port}: {error.strerror or error}") from None
    return 0


def _show(screen: Screen, options: Namespace, found: Any) -> None:
    told = {"id": str(found.id), "bits": options.bits}
    if options.show:
        # The one place where a key is meant to be seen: the caller asked for it by --show.
        told["key"] = found.secret.hex()
    words = [("key id", told["id"]), ("length", f"{options.bits} bits")]
    if options.show:
        words.append(("key", told["key"]))
    screen.answer(told, lambda: screen.facts(words))
