"""A machine of QEMU's: a Debian with systemd, udev and a desktop session, whose USB sticks are plugged and pulled.

No KVM is needed; its processor is some 10 to 20 times slower than the host's. It starts from a saved, booted state in
about a second. What it boots is made once by tests/vm/machine/build-image and kept below ~/.cache/flashback.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import io
import json
import os
import re
import shlex
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

HERE = Path(__file__).parents[1] / "vm/machine"
CACHE = Path(
    os.environ.get("FLASHBACK_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "flashback"
)
PATIENCE = 240.0
"""Seconds until what should happen counts as not happening: the host may be busy."""
PORTS = 8
"""Commands that can run at a time in one guest."""
UNUSED = 14 * 86400
"""Seconds after which an image that no test started from is removed; each takes 1.5 GB."""
APP_SIZE = 512 << 20
"""Of the disk with the application: a saved guest remembers it, so all have the same."""
SYNC = b"\0tests-sync\0"
KERNEL = (
    "root=/dev/vda rw console=ttyS0 quiet loglevel=4 mitigations=off nokaslr audit=0 apparmor=0 random.trust_cpu=on "
    "rcupdate.rcu_expedited=1 no_timer_check 8250.nr_uarts=1 systemd.show_status=false"
)
LOADED = "usb_storage uas sd_mod dm_mod dm_crypt btrfs xts aesni_intel algif_skcipher blake2b_generic vfat nls_ascii nls_cp437"
"""Modules that the first stick would load; the self-measurements of some take seconds here."""


def arguments() -> list[str]:
    """QEMU's, apart from those that name files of one guest. A saved state goes with exactly these."""
    made = shlex.split(
        "-nodefaults -no-user-config -display none -machine q35,sata=off,smbus=off,vmport=off -accel tcg,thread=multi "
        "-cpu Nehalem,+aes,+pclmulqdq,+rdrand -rtc base=utc -smp 2 -m 1536 "
        "-device virtio-serial-pci,id=serial -device qemu-xhci,id=xhci,p2=8,p3=8 "
        "-chardev file,id=console,path=console.log,append=on -serial chardev:console "
        "-qmp unix:qmp.sock,server=on,wait=off"
    )
    for port in range(PORTS):
        made += ["-chardev", f"socket,id=port{port},path=port{port}.sock,server=on,wait=off"]
        made += ["-device", f"virtserialport,bus=serial.0,chardev=port{port},name=tests.{port}"]
    for disk, options in {"root": "qcow2,discard=unmap", "app": "raw,read-only=on,file.locking=off"}.items():
        made += ["-drive", f"if=none,id={disk},file={disk}.img,format={options}"]
        made += ["-device", f"virtio-blk-pci,drive={disk},serial={disk}"]
    return made


class GuestError(AssertionError):
    """A command in the guest, or QEMU itself, did not do as asked."""


def until(what: str, test: Callable[[], Any], *, patience: float = PATIENCE, pause: float = 0.05) -> Any:
    """The first true value of `test()`; after `patience` seconds an error that says `what` did not come."""
    end = time.monotonic() + patience
    while not (value := test()):
        if time.monotonic() > end:
            raise GuestError(f"waited {patience:g} s in vain: {what}")
        time.sleep(pause)
    return value


@dataclass(frozen=True)
class Result:
    """What came of a command."""

    argv: str | list[str]
    code: int
    out: str
    err: str


class Process:
    """A command running in the guest."""

    def __init__(self, stream: socket.socket, done: Callable[[], None], argv: str | list[str], **spec: Any) -> None:
        self.argv, self.code = argv, None
        self.out, self.err = bytearray(), bytearray()
        self._stream, self._done, self._seen = stream, done, 0
        self._changed = threading.Condition()
        self._send(b"X", json.dumps({"argv": argv, **spec}).encode())
        threading.Thread(target=self._read, daemon=True).start()

    def _send(self, kind: bytes, data: bytes = b"") -> None:
        self._stream.sendall(struct.pack(">cI", kind, len(data)) + data)

    def _read(self) -> None:
        code = -1  # should the guest or the connection go away
        with contextlib.suppress(OSError, ValueError), self._stream.makefile("rb") as frames:
            while len(head := frames.read(5)) == 5:
                kind, size = struct.unpack(">cI", head)
                data = frames.read(size)
                if kind == b"R":
                    code = json.loads(data)
                    break
                with self._changed:
                    (self.out if kind == b"O" else self.err).extend(data)
                    self._changed.notify_all()
        self._close()
        with self._changed:
            self.code = code
            self._changed.notify_all()

    def _close(self) -> None:
        with contextlib.suppress(OSError):
            self._stream.shutdown(socket.SHUT_RDWR)
        self._stream.close()
        self._done()

    def write(self, data: str | bytes) -> None:
        """Type, or give as standard input."""
        data = data.encode() if isinstance(data, str) else data
        for start in range(0, len(data), 65536):
            self._send(b"I", data[start : start + 65536])

    def end_input(self) -> None:
        with contextlib.suppress(OSError):
            self._send(b"I")

    def kill(self, number: int = signal.SIGTERM) -> None:
        """Send a signal to its process group."""
        self._send(b"K", str(int(number)).encode())

    def expect(self, pattern: str, *, patience: float = PATIENCE) -> re.Match[bytes]:
        """Wait until the output not yet looked at matches; go past it. Fails when the command ends without."""
        regex = re.compile(pattern.encode(), re.DOTALL | re.MULTILINE)
        found = None

        def look() -> bool:
            nonlocal found
            found = regex.search(self.out, self._seen)
            return bool(found) or self.code is not None

        with self._changed:
            self._changed.wait_for(look, patience)
            if not found:
                rest = self.out[self._seen :].decode(errors="replace") + self.err.decode(errors="replace")
                raise GuestError(f"{self.argv}: {pattern!r} did not come. It said:\n{rest}")
            self._seen = found.end()
        return found

    def wait(self, *, patience: float = PATIENCE) -> Result:
        """Its end."""
        with self._changed:
            ended = self._changed.wait_for(lambda: self.code is not None, patience)
        out, err = self.out.decode(errors="replace"), self.err.decode(errors="replace")
        if not ended:
            self._close()  # the agent then kills it
            raise GuestError(f"{self.argv}: not ended after {patience:g} s. It said:\n{out}{err}")
        return Result(self.argv, self.code, out, err)


class Guest:
    """One machine in a folder of its own. A context manager; `start()` turns it on."""

    def __init__(self, image: Path, app: Path | None = None) -> None:
        self.image, self.app = image, app
        self.folder = Path(tempfile.mkdtemp(prefix="flashback-machine-"))  # a short path, as sockets want it
        self.sticks: dict[str, Path] = {}
        self._qemu: subprocess.Popen[bytes] | None = None
        self._free = set(range(PORTS))

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.power_cut()
        shutil.rmtree(self.folder)

    def start(self) -> Self:
        """Go on from the saved state, or, with a disk that was used before, boot; return when the guest is up."""
        disk, state, app = self.folder / "root.img", self.image / "state", self.folder / "app.img"
        wakes = not disk.exists() and state.exists()
        if not disk.exists():
            base = ("state.img", "qcow2") if wakes else ("root.ext4", "raw")
            create = ("qemu-img", "create", "-q", "-f", "qcow2", "-b", self.image / base[0], "-F", base[1], disk)
            subprocess.run(create, check=True)
        if not app.exists():
            app.symlink_to(self.app or self.image / "empty.img")
        for old in self.folder.glob("*.sock"):
            old.unlink()
        files = ["-kernel", self.image / "vmlinux", "-initrd", self.image / "initrd", "-append", KERNEL]
        incoming = ["-incoming", f"exec:cat {shlex.quote(str(state))}"] if wakes else []
        argv = ["setpriv", "--pdeathsig", "KILL", "qemu-system-x86_64", *arguments(), *files, *incoming, "-S"]
        with open(self.folder / "qemu.log", "ab") as log:
            self._qemu = subprocess.Popen(argv, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        until("QEMU", self._listens, pause=0.01)
        until("the saved state", lambda: self.qmp("query-status")["status"] != "inmigrate", pause=0.02)
        plugged, self.sticks = self.sticks, {}
        for serial, image in plugged.items():  # as after a power cut
            self.plug(image, serial)
        self.qmp("cont")
        self.set_clock()
        if not wakes:
            self.run("systemctl is-system-running --wait", check=False)
        elif self.app:
            self.run("blockdev --flushbufs /dev/vdb && mount /opt/flashback")
        return self

    def _check(self) -> None:
        if self._qemu is None or self._qemu.poll() is not None:
            said = [(self.folder / name).read_text(errors="replace")[-2000:] for name in ("qemu.log", "console.log")]
            raise GuestError(f"QEMU is gone ({self._qemu and self._qemu.returncode}): " + "\n".join(said))

    def _listens(self) -> bool:
        self._check()
        with contextlib.suppress(OSError):
            self._connect("qmp.sock").close()
            return True
        return False

    def power_cut(self) -> None:
        """As if the plug were pulled: what the guest has not written is lost. `start()` then boots the same disk."""
        if self._qemu:
            self._qemu.kill()
            self._qemu.wait()
            self._qemu = None

    # --- QEMU's control socket

    def _connect(self, name: str) -> socket.socket:
        self._check()
        stream = socket.socket(socket.AF_UNIX)
        try:
            stream.settimeout(20)
            stream.connect(str(self.folder / name))
        except OSError:
            stream.close()
            raise
        return stream

    def qmp(self, command: str, *, event: Callable[[dict[str, Any]], bool] | None = None, **given: Any) -> Any:
        """Have QEMU execute a command and, where asked, wait for the event that follows from it."""
        with self._connect("qmp.sock") as stream, stream.makefile("rwb") as lines:

            def ask(command: str, given: dict[str, Any]) -> Iterator[dict[str, Any]]:
                lines.write(json.dumps({"execute": command, "arguments": given}).encode() + b"\n")
                lines.flush()
                return (json.loads(line) for line in lines)

            next(each for each in ask("qmp_capabilities", {}) if "return" in each)
            answer = None
            for each in ask(command, given):
                if "error" in each:
                    raise GuestError(f"{command}: {each['error']['desc']}")
                answer = each.get("return", answer)
                if event is not None and "event" in each and event(each):
                    event = None
                if answer is not None and event is None:
                    return answer
        raise GuestError("QEMU is gone")

    # --- sticks

    def plug(self, image: Path, serial: str) -> None:
        """Plug an image file in as a USB stick; its serial number is its name for `unplug` and `slow_down`."""
        node = {"driver": "raw", "node-name": f"{serial}-image", "discard": "unmap"}
        node["file"] = {"driver": "file", "filename": str(image), "discard": "unmap"}
        self.qmp("object-add", **{"qom-type": "throttle-group", "id": f"{serial}-group"})
        top = f"{serial}-throttle"
        group = {"throttle-group": f"{serial}-group"}
        self.qmp("blockdev-add", **{"driver": "throttle", "node-name": top, "file": node, **group})
        names = {"id": serial, "serial": serial, "bus": "xhci.0", "drive": top, "removable": True}
        self.qmp("device_add", driver="usb-storage", **names)
        self.sticks[serial] = image

    def slow_down(self, serial: str, speed: int) -> None:
        """From now on this stick does at most `speed` bytes a second."""
        limits = {"bps-total": speed}
        self.qmp("qom-set", path=f"/objects/{serial}-group", property="limits", value=limits)

    def unplug(self, serial: str) -> None:
        """Pull it out, whatever the guest is doing with it."""
        del self.sticks[serial]
        gone = lambda each: each["event"] == "DEVICE_DELETED" and each["data"].get("device") == serial  # noqa: E731
        self.qmp("device_del", event=gone, id=serial)

        def is_released() -> bool:
            try:
                self.qmp("blockdev-del", **{"node-name": f"{serial}-throttle"})
            except GuestError as error:
                if "in use" not in str(error):
                    raise
                return False
            return True

        until(f"the release of {serial}", is_released)
        self.qmp("object-del", id=f"{serial}-group")

    # --- commands in the guest

    def _agent(self) -> tuple[socket.socket, Callable[[], None]]:
        """A free port, in step with the agent, and what gives the port back."""
        number = self._free.pop()

        def answers() -> socket.socket | None:
            stream = self._connect(f"port{number}.sock")
            nonce, seen = os.urandom(8), b""
            with contextlib.suppress(OSError):  # no answer yet: the guest is booting
                stream.settimeout(3)
                stream.sendall(SYNC + nonce)
                while not seen.endswith(SYNC + nonce):
                    data = stream.recv(65536)
                    if not data:
                        break
                    seen = (seen + data)[-65536:]
                else:
                    stream.settimeout(None)
                    return stream
            stream.close()
            return None

        return until("the guest's agent", answers), lambda: self._free.add(number)

    def set_clock(self) -> None:
        """Set it right, and stir the randomness, once the agent is there."""
        stream, done = self._agent()
        Process(stream, done, "", wake={"time": time.time(), "seed": os.urandom(32).hex()}).wait()

    def spawn(
        self,
        argv: str | list[str],
        *,
        user: str = "root",
        pty: tuple[int, int] | None = None,
        env: dict[str, str] | None = None,
    ) -> Process:
        """Start a command: a list, or a line for bash. `pty` is rows and columns of the terminal it gets."""
        return Process(*self._agent(), argv, user=user, pty=pty, env=env or {})

    def run(
        self,
        argv: str | list[str],
        *,
        given: str | bytes = b"",
        check: bool = True,
        patience: float = PATIENCE,
        **how: Any,
    ) -> Result:
        """Run a command to its end; unless told otherwise, it has to succeed."""
        process = self.spawn(argv, **how)
        process.write(given)
        process.end_input()
        result = process.wait(patience=patience)
        if check and result.code:
            raise GuestError(f"{argv} exited with {result.code}:\n{result.out}{result.err}")
        return result

    def push(self, source: Path, target: str) -> None:
        """Copy what is in a folder of ours into the folder `target`."""
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as archive:
            archive.add(source, ".")
        self.run(["tar", "-x", "--no-same-owner", "-C", target], given=packed.getvalue())

    def write(self, path: str, content: str | bytes, *, user: str = "root") -> None:
        """Make a file, and the folders above it."""
        line = 'mkdir -p "$(dirname "$1")" && cat > "$1"'
        self.run(["/bin/bash", "-c", line, "write", path], given=content, user=user)

    def notifications(self) -> list[dict[str, Any]]:
        """What alice's desktop was asked to show, and what was done with it (tests/vm/machine/guest/notifyd.py)."""
        lines = self.run("cat /run/user/1000/notifications.jsonl || true").out.splitlines()
        return [json.loads(line) for line in lines]


def ready_image() -> Path:
    """The folder with what is booted and the state of a guest that has booted; made when it is not there."""
    parts = [path.read_bytes() for path in sorted(HERE.rglob("*")) if path.is_file() and path.name != "install-app"]
    digest = hashlib.sha256(b"\0".join([*parts, repr((arguments(), KERNEL, LOADED)).encode()])).hexdigest()[:12]
    folder = CACHE / f"machine-{digest}"
    CACHE.mkdir(parents=True, exist_ok=True)
    with open(CACHE / "machine.lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            new = Path(tempfile.mkdtemp(prefix=f"{folder.name}.", dir=CACHE))
            try:
                subprocess.run([HERE / "build-image", new], check=True)
                save_state(new)
                new.rename(folder)
            finally:
                shutil.rmtree(new, ignore_errors=True)
        os.utime(folder)
        for each in CACHE.glob("machine-" + "?" * len(digest)):
            if each.stat().st_mtime < time.time() - UNUSED:
                shutil.rmtree(each)
    return folder


def save_state(image: Path) -> None:
    """Boot a guest, let it come to rest, and keep its memory and disk for others to go on from."""
    empty = image / "empty.img"
    with empty.open("wb") as file:
        file.truncate(APP_SIZE)
    subprocess.run(["mkfs.ext4", "-q", "-F", "-O", "^has_journal", empty], check=True)
    with Guest(image) as guest:
        guest.run(
            f"modprobe -a {LOADED}; systemctl is-active tests-desktop; umount /opt/flashback; udevadm settle; sync"
        )
        guest.run('until [ -z "$(systemctl list-jobs --no-legend)" ]; do sleep 0.1; done; sleep 2')
        guest.qmp("stop")
        guest.qmp("migrate-set-parameters", **{"max-bandwidth": 1 << 40})
        guest.qmp("migrate", uri=f"exec:cat > {shlex.quote(str(image / 'state'))}")
        until("the saving", lambda: guest.qmp("query-migrate")["status"] == "completed")
        guest.qmp("quit")
        assert guest._qemu is not None
        guest._qemu.wait(PATIENCE)
        shutil.move(guest.folder / "root.img", image / "state.img")
    subprocess.run(["qemu-img", "rebase", "-u", "-F", "raw", "-b", "root.ext4", image / "state.img"], check=True)


def install_app(image: Path, target: Path) -> Path:
    """A disk with this project, installed as a user installs it."""
    environment = os.environ | {"PYTHON": sys.executable, "APP_SIZE": str(APP_SIZE)}
    subprocess.run([HERE / "install-app", image / "root", target], check=True, env=environment)
    return target
