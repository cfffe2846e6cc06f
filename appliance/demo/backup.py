"""An application that wants much key: it pads a backup from one site to the other, as fast as it is told."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator

from appliance.client import Client, Connection, KeyServiceError
from appliance.demo.square import Host

SERVER_PORT, CLIENT_PORT = 6100, 5100
KEY_BYTES = 1024


class Backup(threading.Thread):
    """Keys asked at one site and fetched at the other, where they are compared, until `stop`."""

    def __init__(self, near: Host, far: Host, bytes_per_s: float) -> None:
        super().__init__(daemon=True)
        self.keys = self.differing = 0
        self.failures: list[str] = []
        self._near, self._far = near, far
        self._interval_s = KEY_BYTES / bytes_per_s
        self._stop_it = threading.Event()

    def run(self) -> None:
        try:
            with Client(self._near.pfkey) as near, Client(self._far.pfkey) as far:
                far.register(SERVER_PORT, self._far.public_address())
                near.register(CLIENT_PORT, self._near.public_address())
                connection = near.connect(self._far.address, SERVER_PORT, local_port=CLIENT_PORT, key_bytes=KEY_BYTES)
                self._take(connection, far)
        except OSError as error:
            self.failures.append(str(error))

    def _take(self, connection: Connection, far: Client) -> None:
        due_s = time.monotonic()
        while not self._stop_it.wait(max(0.0, due_s - time.monotonic())):
            due_s = max(due_s + self._interval_s, time.monotonic() - self._interval_s)
            try:
                with connection.key() as key, far.fetch(key.id) as fetched:
                    self.keys += 1
                    self.differing += key.secret != fetched.secret
            except KeyServiceError as refused:
                self.failures.append(str(refused))
                return

    def stop(self) -> None:
        self._stop_it.set()
        self.join()


@contextlib.contextmanager
def backing_up(near: Host, far: Host, bytes_per_s: float) -> Iterator[Backup]:
    backup = Backup(near, far, bytes_per_s)
    backup.start()
    try:
        yield backup
    finally:
        backup.stop()
