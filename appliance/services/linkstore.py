"""The key store of one link on disk: STATE/dataplane/LINK/ with `log` and `blocks/`.

Everything is 0600 under a 0700 directory. Block bytes go between descriptors, files and key memory in C. Which link
secrets were loaded as key is written beside the links' directories, for all of them, and in `burnt` here once the store
was discarded: see loadedsecrets.py.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Collection
from pathlib import Path

from appliance.native import blockfile
from appliance.native.hmac import hmac_sha256
from appliance.native.keymem import KeyMemory
from appliance.native.linksecret import KEY_BYTES
from appliance.q3p.linklog import LinkLog, LogCopy
from appliance.q3p.records import BlockEntry, BlockName, RecordError
from appliance.q3p.settings import BOOTSTRAP_DEVICE
from appliance.services.loadedsecrets import LoadedSecrets, secret_of

BOOTSTRAP_BLOCKS = 4
SUFFIX = ".key"
UNSETTLED = ".new"  # instead: blocks that came while the link had no session
REFRESH_ROOM_BYTES = 1 << 20  # beyond the log's own size
LOG_ROOM_BYTES, LOG_ROOM_SHARE = 16 << 20, 50  # so much, or a fiftieth of the disk, is left to logs
DIRECTORY_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class LinkStore:
    """Log file and block files, of one process at a time. Methods raise OSError."""

    def __init__(self, directory: Path) -> None:
        """BlockingIOError when another process has the store."""
        make_durably(directory)
        blocks = directory / "blocks"
        self.directory = directory
        self._unsettled: set[BlockName] = set()
        self.directory_fd = os.open(directory, DIRECTORY_FLAGS)
        try:
            lock(self.directory_fd, directory)
        except OSError:
            os.close(self.directory_fd)
            raise
        blocks.mkdir(mode=0o700, exist_ok=True)
        self.blocks_fd = os.open(blocks, DIRECTORY_FLAGS)
        self._log_fd = os.open(
            "log", os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600, dir_fd=self.directory_fd
        )
        os.fsync(self.directory_fd)

    def close(self) -> None:
        for fd in (self._log_fd, self.blocks_fd, self.directory_fd):
            os.close(fd)

    # --- the log -----------------------------------------------------------------------------------------------------

    def read(self) -> bytes:
        """All of it. Raises OSError, too where fewer bytes come than it has: that is no torn end."""
        size = os.fstat(self._log_fd).st_size
        data = bytearray()
        while len(data) < size:
            piece = os.pread(self._log_fd, size - len(data), len(data))
            if not piece:
                raise OSError(errno.EIO, f"the key log has {size} bytes, of which {len(data)} could be read")
            data += piece
        return bytes(data)

    def refresh(self) -> None:
        """At every start, before the log is believed: written anew and synced. Raises OSError; the old one stands then.

        After a failed sync the kernel calls the pages clean, and a later process reads from them records that never
        reached the disk; no sync of the old file would tell."""
        data = self.read()
        if data:
            self.replace(data)

    def make_room(self) -> int:
        """For `refresh` on a full disk, where nothing else frees any: destroys blocks that are key for nobody yet,
        until the log fits a second time. Returns how many; those of the link secret stay."""
        log = self.read()
        destroyed = 0
        for name in self._expendable(log):
            if self._free_bytes() >= len(log) + REFRESH_ROOM_BYTES:
                break
            self.destroy(name)
            destroyed += 1
        return destroyed

    def _expendable(self, log: bytes) -> list[BlockName]:
        """Those that came without a session, then those that the log does not name; of each the newest first."""
        held = self.blocks()
        try:
            named = LinkLog(LogCopy(log)).state.stored
        except RecordError:  # nobody knows what it names
            named = held.keys() - self._unsettled
        order = {name: (name not in self._unsettled, -self._modified_ns(name)) for name in held}
        loose = [name for name in held if name in self._unsettled or name not in named]
        return sorted((name for name in loose if name.device != BOOTSTRAP_DEVICE), key=order.__getitem__)

    def _modified_ns(self, name: BlockName) -> int:
        return os.stat(self._file_of(name), dir_fd=self.blocks_fd).st_mtime_ns

    def append(self, data: bytes) -> None:
        blockfile.append_durable(self._log_fd, data, f"link log {self.directory / 'log'}")

    def truncate(self, length: int) -> None:
        os.ftruncate(self._log_fd, length)
        os.fsync(self._log_fd)

    def replace(self, data: bytes) -> None:
        """Raises OSError: then the old log stands, or, where only the directory's sync failed, one of both."""
        fresh = os.open(
            "log.new", os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o600, dir_fd=self.directory_fd
        )
        try:
            blockfile.append_durable(fresh, data, f"link log {self.directory / 'log.new'}")
            os.rename("log.new", "log", src_dir_fd=self.directory_fd, dst_dir_fd=self.directory_fd)
        except OSError:
            os.close(fresh)
            with contextlib.suppress(OSError):  # it may hold the last room there is
                os.unlink("log.new", dir_fd=self.directory_fd)
            raise
        os.close(self._log_fd)  # it has no name any more, whatever comes of the sync: nothing more may go there
        self._log_fd = fresh
        os.fsync(self.directory_fd)

    # --- blocks ------------------------------------------------------------------------------------------------------

    def blocks(self) -> dict[BlockName, int]:
        """Held blocks; what a crash left half written (another suffix) is destroyed."""
        held: dict[BlockName, int] = {}
        for name in os.listdir(self.blocks_fd):  # noqa: PTH208 - by descriptor
            suffix = UNSETTLED if name.endswith(UNSETTLED) else SUFFIX
            try:
                block = BlockName.parse(name.removesuffix(suffix))
                if not name.endswith(suffix):
                    raise ValueError(name)
            except ValueError:
                blockfile.destroy(self.blocks_fd, name)
                continue
            if suffix == UNSETTLED:
                self._unsettled.add(block)
            held[block] = os.stat(name, dir_fd=self.blocks_fd).st_size
        return held

    def unsettled(self) -> set[BlockName]:
        """Of those that `blocks` found or `accept` took."""
        return set(self._unsettled)

    def settle(self, names: Collection[BlockName]) -> None:
        for name in names:
            os.rename(f"{name}{UNSETTLED}", file_name(name), src_dir_fd=self.blocks_fd, dst_dir_fd=self.blocks_fd)
            self._unsettled.discard(name)
        if names:
            os.fsync(self.blocks_fd)

    def accept(self, entry: BlockEntry, source_fd: int, settled: bool) -> bool:
        """Durable when it returns; False when these very bytes were here already. ENOTUNIQ for others of that name;
        ENOSPC when the link's log could not grow any more beside it."""
        self._leave_room(entry.length_bytes)
        name = file_name(entry.name)
        if entry.name in self._unsettled or not (settled or self._has(name)):
            name = f"{entry.name}{UNSETTLED}"
        try:
            blockfile.accept(self.blocks_fd, name, source_fd, entry.length_bytes)
        except FileExistsError:
            return False
        if name.endswith(UNSETTLED):
            self._unsettled.add(entry.name)
        return True

    def _leave_room(self, length_bytes: int) -> None:
        """A log that cannot be written stops the link; a block that is not taken does not."""
        disk = os.fstatvfs(self.blocks_fd)
        kept = min(LOG_ROOM_BYTES, disk.f_blocks * disk.f_frsize // LOG_ROOM_SHARE)
        if self._free_bytes() < length_bytes + kept:
            raise OSError(errno.ENOSPC, "No space left on device but what the key log needs")

    def _free_bytes(self) -> int:
        disk = os.fstatvfs(self.blocks_fd)
        return disk.f_bavail * disk.f_frsize

    def _has(self, file: str) -> bool:
        try:
            os.stat(file, dir_fd=self.blocks_fd, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return True

    def destroy(self, name: BlockName) -> None:
        blockfile.destroy(self.blocks_fd, self._file_of(name))
        self._unsettled.discard(name)

    def _file_of(self, name: BlockName) -> str:
        return f"{name}{UNSETTLED}" if name in self._unsettled else file_name(name)

    # --- the link secret ---------------------------------------------------------------------------------------------

    @property
    def _secrets(self) -> LoadedSecrets:
        return LoadedSecrets(self.directory.parent)

    def load_bootstrap(self, key: KeyMemory, block: KeyMemory, length_bytes: int, used: set[BlockName]) -> int:
        """Make the link secret's block into device blocks, once in its life. Returns how many were new.

        None when another link has loaded it, see ``taken_by``. Not before it returns may any of them be used."""
        secret, link = secret_id(key), self.directory.name
        record = self._secrets
        if record.others(secret, link) or record.is_loaded(secret, link):
            return 0
        record.begin(secret, link)
        made = self._write_bootstrap(secret, block, length_bytes, used)
        record.finish(secret, link)
        return made

    def _write_bootstrap(self, secret: int, block: KeyMemory, length_bytes: int, used: set[BlockName]) -> int:
        size = length_bytes // BOOTSTRAP_BLOCKS // 8 * 8
        made = 0
        for number in range(BOOTSTRAP_BLOCKS):
            name = BlockName(BOOTSTRAP_DEVICE, secret << 8 | number)
            if name in used:
                continue
            try:
                blockfile.write(self.blocks_fd, file_name(name), block.at(number * size), size)
                made += 1
            except FileExistsError:
                continue
        return made

    def taken_by(self, key: KeyMemory) -> list[str]:
        """Other links that have loaded this link's secret: then it is no key for this one."""
        return self._secrets.others(secret_id(key), self.directory.name)

    def has_loaded(self, key: KeyMemory) -> bool:
        return self._secrets.is_known(secret_id(key), self.directory.name)

    def destroy_shared(self) -> int:
        """Destroys blocks of link secrets that another link has loaded as well, as earlier versions let it. Returns how
        many; the link's log gives up what is missing."""
        held = [name for name in self.blocks() if name.device == BOOTSTRAP_DEVICE]
        shared = [name for name in held if self._secrets.others(secret_of(name), self.directory.name)]
        for name in shared:
            self.destroy(name)
        return len(shared)

    def discard(self, key: KeyMemory) -> int:
        """The operator gives up this store: every block is destroyed, the log emptied, and the link secret is never
        loaded again. Returns the bytes destroyed."""
        self._secrets.burn(secret_id(key), self.directory.name)
        destroyed = self._destroy_blocks()
        self.truncate(0)
        return destroyed

    def zeroize(self) -> int:
        """Every block is destroyed, and the log. Returns the bytes destroyed."""
        destroyed = self._destroy_blocks()
        for name in ("log", "log.new"):
            blockfile.destroy(self.directory_fd, name)
        return destroyed

    def _destroy_blocks(self) -> int:
        held = self.blocks()
        for name in held:
            self.destroy(name)
        return sum(held.values())


def make_durably(directory: Path) -> None:
    """With those above it: a log that is synced is of no use in a directory that a loss of power takes away. Once more
    where it is there, since who made it may have crashed."""
    made = {path for path in (directory, *directory.parents) if not path.exists()}
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    for path in made | {directory}:
        above = os.open(path.parent, DIRECTORY_FLAGS)
        try:
            os.fsync(above)
        finally:
            os.close(above)


def lock(directory_fd: int, directory: Path) -> None:
    """Two that write one log would spend the same key. The lock goes with the process, however that ends."""
    try:
        fcntl.flock(directory_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        why = "another process has this key store open: a data plane still runs, or is being zeroized"
        raise BlockingIOError(errno.EWOULDBLOCK, why, str(directory)) from None


def file_name(name: BlockName) -> str:
    return f"{name}{SUFFIX}"


def secret_id(key: KeyMemory) -> int:
    """A public 32-bit name of a link secret."""
    return int.from_bytes(hmac_sha256(key.at(0), KEY_BYTES, b"QBB link secret id")[:4], "big")
