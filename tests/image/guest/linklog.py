"""Runs in an appliance: what the log of the link NAME says of each chunk of key, as JSON. `linklog.py NAME`"""

import json
import sys
from pathlib import Path

from appliance.q3p.records import EMPTY_DIGEST, Close, Epoch, Open, Store, Void, decode, read_frames

KINDS = {Store: "stored", Open: "opened", Close: "closed", Void: "voided"}
log = Path("/var/lib/qbb/dataplane") / sys.argv[1] / "log"
told = {"stored": [], "opened": [], "closed": [], "voided": [], "epochs": 0}
for record, _, _ in read_frames(log.read_bytes(), 0, 0, EMPTY_DIGEST):
    found = decode(record)
    if isinstance(found, Epoch):
        told["epochs"] += 1
    elif (kind := KINDS.get(type(found))) is not None:
        told[kind] += found.chunks if hasattr(found, "chunks") else [found.chunk]
print(json.dumps(told))
