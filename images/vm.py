"""An appliance in a virtual machine: QEMU, a TPM, a firmware with Secure Boot, wires to others.

Emulation only (accel tcg): the processor's own virtualization is not wanted. Everything of a machine is in its folder:
the disk (an overlay over the image, which stays as it is), the firmware's variables, the TPM's state, sockets, and what
the console said. `kill` is a power cut.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import json
import os
import socket
import subprocess
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from appliance.lab.process import WITH_US
from images import tools
from images.keys import OWNER, Keys
from images.tree import CannotBuild

FIRMWARE = "/usr/share/OVMF/OVMF_CODE_4M.secboot.fd"
VARIABLES = "/usr/share/OVMF/OVMF_VARS_4M.fd"
HOST = "10.0.2.2"  # this machine, seen from a machine with `management`
DISK_SIZE = "4G"
NAMES = uuid.UUID("6f7e2b1c-58c0-4e39-9d3e-3d0f2b1a7c55")
STOP_WAIT_S = 60.0
DISK, DRIVE, FAILING = "disk", "drive", "failing"  # what is on it, the device, what stands between when it fails
MEMORY = "memory.snapshot"
FREEZE_S = 120.0
STICK = "stick"
UNPLUG_S = 30.0


@dataclass(frozen=True)
class Wire:
    """One end of a network cable between two machines: each end is a unix socket."""

    here: Path
    there: Path

    @classmethod
    def pair(cls, folder: Path, name: str) -> tuple[Wire, Wire]:
        one, other = folder / f"{name}.0", folder / f"{name}.1"
        return cls(one, other), cls(other, one)


@dataclass
class Machine:
    name: str
    folder: Path
    image: Path  # a disk that is never written to
    keys: Keys
    credentials: dict[str, bytes | Path] = field(default_factory=dict)  # themselves, or the files they are in
    wires: tuple[Wire, ...] = ()
    management: int | None = None  # TCP port of this machine's loopback that leads to its SSH; 0: none
    secure_boot: bool = True  # False: in setup mode, without keys
    checks_boot: bool = True  # False: it has its keys, and Secure Boot is switched off
    tpm: Path | None = None  # the TPM's state, when it is not the machine's own
    memory_mib: int = 768
    processors: int = 2
    has_tpm: bool = True
    generation: uuid.UUID = field(default_factory=uuid.uuid4)
    extra: tuple[str, ...] = ()  # words for QEMU

    def __post_init__(self) -> None:
        self._processes: list[subprocess.Popen[bytes]] = []
        self._log: IO[bytes] | None = None

    # What tells it from others.

    @property
    def uuid(self) -> str:
        return str(uuid.uuid5(NAMES, self.name))

    def mac(self, wire: int) -> str:
        """Of the network card at wires[wire]; -1 is the management network's."""
        digits = uuid.uuid5(NAMES, f"{self.name}/{wire}").hex
        return ":".join(("52:54:00", digits[:2], digits[2:4], digits[4:6]))

    @property
    def disk(self) -> Path:
        return self.folder / "disk.qcow2"

    @property
    def console_log(self) -> Path:
        return self.folder / "console.log"

    @property
    def console_socket(self) -> Path:
        return self.folder / "console.sock"

    @property
    def control_socket(self) -> Path:
        return self.folder / "qmp.sock"

    @property
    def shell_socket(self) -> Path:
        return self.folder / "shell.sock"

    # Power.

    def prepare(self) -> None:
        """A disk and firmware of its own. Raises CannotBuild, OSError."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not self.disk.exists():
            backing = ("-b", str(self.image), "-F", "raw" if self.image.suffix == ".raw" else "qcow2")
            tools.run(["qemu-img", "create", "-q", "-f", "qcow2", *backing, str(self.disk), DISK_SIZE])
        if not (self.folder / "firmware.fd").exists():
            tools.run(["virt-fw-vars", "-i", VARIABLES, *self._enrolled(), "-o", str(self.folder / "firmware.fd")])

    def _enrolled(self) -> list[str]:
        if not self.secure_boot:
            return []
        options = zip(("--set-pk", "--add-kek", "--add-db"), ("PK", "KEK", "db"), strict=True)
        words = [word for option, name in options for word in (option, OWNER, str(self.keys.certificate(name)))]
        return [*words, *(("--secure-boot",) if self.checks_boot else ("--set-false", "SecureBootEnable"))]

    def start(self, *words: str) -> None:
        """`words`: more of them for QEMU, this time. Raises CannotBuild, OSError."""
        self.prepare()
        self._log = (self.folder / "qemu.log").open("ab")
        if self.has_tpm:
            self._start_tpm()
        self._spawn([*self._qemu(), *words])
        for path in (self.control_socket, self.shell_socket, self.console_socket):
            wait_for_path(path, self._processes[-1])

    def _start_tpm(self) -> None:
        state = self.tpm or self.folder / "tpm"
        state.mkdir(exist_ok=True)
        (self.folder / "tpm.sock").unlink(missing_ok=True)
        self._spawn(["swtpm", "socket", "--tpm2", "--tpmstate", f"dir={state}", "--terminate",
                     "--ctrl", f"type=unixio,path={self.folder / 'tpm.sock'}"])  # fmt: skip
        wait_for_path(self.folder / "tpm.sock", self._processes[0])

    def _spawn(self, words: list[str]) -> None:
        command = [*WITH_US, *tools.command(words, self.folder)]
        options: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": self._log, "stderr": subprocess.STDOUT}
        self._processes.append(subprocess.Popen(command, start_new_session=True, **options))

    @property
    def running(self) -> bool:
        return bool(self._processes) and self._processes[-1].poll() is None

    def kill(self) -> None:
        """A power cut. Also ends what a machine that went off by itself left."""
        for process in reversed(self._processes):
            process.kill()
            process.wait()
        self._processes = []
        if self._log is not None:
            self._log.close()
        for path in (self.control_socket, self.shell_socket, self.console_socket):
            path.unlink(missing_ok=True)

    def freeze(self) -> None:
        """A snapshot of its memory, as hypervisors make them; then it is off. Its disk is as it is."""
        self.control("stop")
        self.control("migrate", uri=f"file:{self.folder / MEMORY}")
        end = time.monotonic() + FREEZE_S
        while (state := self.control("query-migrate")["status"]) != "completed":
            if state in ("failed", "cancelled") or time.monotonic() > end:
                raise OSError(f"the memory of {self.name} was not written: {state}")
            time.sleep(0.2)
        self.kill()

    def thaw(self) -> None:
        """The snapshot goes on, under a new generation id: so a hypervisor tells the machine that it was restored. Its
        network cables are out."""
        self.generation = uuid.uuid4()
        self.start("-incoming", f"file:{self.folder / MEMORY}")
        end = time.monotonic() + FREEZE_S
        while self.control("query-status")["status"] == "inmigrate":
            if not self.running or time.monotonic() > end:
                raise OSError(f"the memory of {self.name} was not read: see {self.folder / 'qemu.log'}")
            time.sleep(0.2)
        for wire in range(len(self.wires)):
            self.cable(wire, plugged=False)
        self.control("cont")

    def power_button(self) -> None:
        self.control("system_powerdown")

    def cable(self, wire: int, plugged: bool) -> None:
        """Pulls out, or puts back, the network cable at wires[wire]."""
        self.control("set_link", name=f"wire{wire}", up=plugged)

    def fail_writes(self) -> None:
        """From now on the disk can be read only: each write ends in an error."""
        rules = [{"event": "none", "iotype": "write", "errno": errno.EIO, "once": False}]
        self.control("blockdev-add", driver="blkdebug", image=DISK, **{"node-name": FAILING, "inject-error": rules})
        self._put_in(FAILING)

    def mend_writes(self) -> None:
        self._put_in(DISK)
        self.control("blockdev-del", **{"node-name": FAILING})

    def _put_in(self, node: str) -> None:
        self.control("qom-set", path=f"/machine/peripheral/{DRIVE}", property="drive", value=node)

    def plug(self, stick: Path) -> None:
        """A memory stick, by the file with what is on it. One at a time."""
        self.control("blockdev-add", driver="raw", **{"node-name": STICK, "read-only": True},
                     file={"driver": "file", "filename": str(stick)})  # fmt: skip
        self.control("device_add", driver="usb-storage", id=STICK, drive=STICK, bus="usb.0", removable=True)

    def unplug(self) -> None:
        self.control("device_del", id=STICK)
        end = time.monotonic() + UNPLUG_S
        while True:  # it is gone when the machine has let go of it
            try:
                self.control("blockdev-del", **{"node-name": STICK})
                return
            except OSError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.2)

    def stop(self) -> None:
        """Shut down in order; a machine that does not end is killed."""
        with contextlib.suppress(OSError):
            self.power_button()
        if self._processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._processes[-1].wait(STOP_WAIT_S)
        self.kill()

    def control(self, command: str, **arguments: Any) -> Any:
        """A QMP command's answer. Raises OSError."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(60)
            connection.connect(str(self.control_socket))
            stream = connection.makefile("rwb")
            stream.readline()
            for words in ({"execute": "qmp_capabilities"}, {"execute": command, "arguments": arguments}):
                stream.write(json.dumps(words).encode() + b"\n")
                stream.flush()
                while "return" not in (answer := json.loads(stream.readline())):
                    if "error" in answer:
                        raise OSError(answer["error"]["desc"])
            return answer["return"]

    # What it is made of.

    def _qemu(self) -> list[str]:
        return [
            *("qemu-system-x86_64", "-name", self.name, "-uuid", self.uuid, "-nodefaults", "-display", "none"),
            *("-machine", "q35,smm=on", "-accel", "tcg,thread=multi,tb-size=256", "-cpu", "max"),
            *("-smp", str(self.processors), "-m", str(self.memory_mib)),
            *("-global", "driver=cfi.pflash01,property=secure,value=on"),
            *("-drive", f"if=pflash,format=raw,unit=0,readonly=on,file={FIRMWARE}"),
            *("-drive", f"if=pflash,format=raw,unit=1,file={self.folder / 'firmware.fd'}"),
            *("-blockdev", f"qcow2,node-name={DISK},discard=unmap,file.driver=file,file.filename={self.disk}"),
            *("-device", f"virtio-blk-pci,id={DRIVE},drive={DISK}"),
            *("-device", "virtio-rng-pci", "-device", "i6300esb", "-device", "qemu-xhci,id=usb"),
            *("-device", f"vmgenid,guid={self.generation}"),
            *("-qmp", f"unix:{self.control_socket},server=on,wait=off"),
            *self._tpm(),
            *self._consoles(),
            *self._networks(),
            *self._smbios(),
            *self.extra,
        ]

    def _tpm(self) -> list[str]:
        if not self.has_tpm:
            return []
        return [
            *("-chardev", f"socket,id=tpm,path={self.folder / 'tpm.sock'}"),
            *("-tpmdev", "emulator,id=tpm0,chardev=tpm", "-device", "tpm-crb,tpmdev=tpm0"),
        ]

    def _consoles(self) -> list[str]:
        log = f"logfile={self.console_log},logappend=on"
        return [
            *("-chardev", f"socket,id=console,path={self.console_socket},server=on,wait=off,{log}"),
            *("-serial", "chardev:console", "-device", "virtio-serial-pci"),
            *("-chardev", f"socket,id=shell,path={self.shell_socket},server=on,wait=off"),
            *("-device", "virtserialport,chardev=shell,name=qbb.shell"),
        ]

    def _networks(self) -> list[str]:
        words = []
        for index, wire in enumerate(self.wires):
            wire.here.unlink(missing_ok=True)
            ends = f"local.type=unix,local.path={wire.here},remote.type=unix,remote.path={wire.there}"
            words += ["-netdev", f"dgram,id=wire{index},{ends}"]
            words += ["-device", f"virtio-net-pci,netdev=wire{index},mac={self.mac(index)},romfile="]
        if self.management is not None:
            forward = f",hostfwd=tcp:127.0.0.1:{self.management}-:22" if self.management else ""
            words += ["-netdev", f"user,id=management,ipv6=off{forward}"]
            words += ["-device", f"virtio-net-pci,netdev=management,mac={self.mac(-1)},romfile="]
        return words

    def _smbios(self) -> list[str]:
        """Credentials, each in a file of its own: they are secrets, and long."""
        folder = self.folder / "credentials"
        folder.mkdir(mode=0o700, exist_ok=True)
        words = []
        for name, value in self.credentials.items():
            path = folder / name
            with path.open("wb") as file:
                file.write(f"io.systemd.credential.binary:{name}=".encode())
                file.flush()
                if isinstance(value, Path):
                    subprocess.run(["base64", "--wrap=0", value], stdout=file, check=True)  # a secret: not in here
                else:
                    file.write(base64.b64encode(value))
            words += ["-smbios", f"type=11,path={path}"]
        return words


def wait_for_path(path: Path, process: subprocess.Popen[bytes], limit_s: float = 120.0) -> None:
    """Raises CannotBuild when the process ends first."""
    end = time.monotonic() + limit_s
    while not path.exists():
        if process.poll() is not None or time.monotonic() > end:
            log = path.parent / "qemu.log"
            raise CannotBuild(f"{os.fsdecode(process.args[-1]) if isinstance(process.args, list) else ''}: "
                              f"{log.read_text(errors='replace')[-2000:]}")  # fmt: skip
        time.sleep(0.02)
