"""Runs in an appliance. `keys.py ask N` gets N keys for the far application; `keys.py fetch ID...` gets them there.

Prints a line for each key: its ID, and a digest of the key. The far application runs as `keys.py serve`.
"""

import hashlib
import socket
import sys
from pathlib import Path
from uuid import UUID

from appliance.client import Client

PORT = 6000
SERVER = Path("/run/keys-server")
LIMIT_S = 120


def told(key_id, secret):
    return f"{key_id} {hashlib.sha256(secret).hexdigest()}"


def ask(count):
    with Client(timeout_s=LIMIT_S) as client:
        client.register(5000, "192.0.2.1")
        connection = client.connect("1.1.1.2", PORT)
        for _ in range(count):
            with connection.key() as key:
                print(told(key.id, key.secret))


def serve():
    SERVER.unlink(missing_ok=True)
    with Client(timeout_s=LIMIT_S) as client, socket.socket(socket.AF_UNIX) as listener:
        client.register(PORT, "192.0.2.2")
        listener.bind(str(SERVER))
        listener.listen()
        while True:
            with listener.accept()[0] as asking:
                for word in asking.makefile("r").readline().split():
                    with client.fetch(UUID(word)) as key:
                        asking.sendall(f"{told(key.id, key.secret)}\n".encode())


def fetch(ids):
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(SERVER))
        connection.sendall((" ".join(ids) + "\n").encode())
        for line in connection.makefile("r"):
            print(line, end="")


if sys.argv[1] == "ask":
    ask(int(sys.argv[2]))
elif sys.argv[1] == "serve":
    serve()
else:
    fetch(sys.argv[2:])
