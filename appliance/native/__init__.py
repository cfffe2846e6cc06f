"""The C part of the node, and thin typed classes over it.

``from appliance.native import ffi, lib`` gives the product's extension, compiled from csrc/ by setup.py (see
build.py). The simulator's twin with the key oracle's probe is ``appliance.native._native_probe``.

Wrappers turn ``-errno`` into :class:`OSError` with the place, hold pointers and lengths, and never copy key
bytes into Python objects: keymem (key memory), blockfile (device blocks and durable appends), hmac, dataplane
(the thread).
"""

from __future__ import annotations

import os
from typing import Any

try:
    from appliance.native._native import ffi as _ffi
    from appliance.native._native import lib as _lib
except ImportError as error:
    raise ImportError("the C extension is not built: run `python setup.py build_ext --inplace`") from error

ffi: Any = _ffi
lib: Any = _lib

__all__ = ["check", "ffi", "lib"]


def check(result: int, place: str) -> int:
    """``result`` of a C function that returns -errno for failure; raises OSError that names ``place``."""
    if result < 0:
        raise OSError(-result, f"{place}: {os.strerror(-result)}")
    return result
