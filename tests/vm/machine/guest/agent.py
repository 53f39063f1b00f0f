#!/usr/bin/python3
"""Runs commands for the tests: one process for each virtio-serial port "tests.N", one command for each connection.

The host connects, sends SYNC and 8 random bytes, and is sent the same, so that both skip what an earlier connection left.
Then frames: kind (1 byte), length (4 bytes), data.
  host:   X command (JSON)   I its input (empty: the end)   K number of a signal
  guest:  O output   E error output   R result (JSON), the last one
When the host goes away, the command's process group is killed.
"""

import contextlib
import fcntl
import json
import os
import pty
import pwd
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

SYNC = b"\0tests-sync\0"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
LINGER = 0.3
"""Seconds for the last output, when what the command started in the background holds its pipes open."""


class Gone(Exception):
    """The host closed the connection."""


class Port:
    """One port, which knows where a frame begins."""

    def __init__(self, path):
        self.fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        self.buffer = b""

    def fill(self):
        data = os.read(self.fd, 65536)  # nothing: the host is not connected
        if not data:
            raise Gone
        self.buffer += data

    def take(self, size):
        while len(self.buffer) < size:
            self.fill()
        data, self.buffer = self.buffer[:size], self.buffer[size:]
        return data

    def frame(self):
        kind, size = struct.unpack(">cI", self.take(5))
        return kind, self.take(size)

    def send(self, kind, data=b""):
        data = struct.pack(">cI", kind, len(data)) + data
        while data:
            data = data[os.write(self.fd, data) :]

    def wait_for_host(self):
        while True:
            poll = select.poll()
            poll.register(self.fd, select.POLLIN)
            if not any(event & select.POLLIN for _, event in poll.poll(1000)):
                time.sleep(0.02)  # nobody there is an event of its own, which comes at once
                continue
            with contextlib.suppress(Gone):
                self.buffer = b""
                while SYNC not in self.buffer:
                    self.fill()
                self.buffer = self.buffer.partition(SYNC)[2]
                os.write(self.fd, SYNC + self.take(8))
                return
            time.sleep(0.02)


class Job:
    """One command and its streams."""

    def __init__(self, port, spec):
        self.port = port
        argv = spec["argv"] if isinstance(spec["argv"], list) else ["/bin/bash", "-c", spec["argv"]]
        self.user = pwd.getpwnam(spec["user"])
        self.environment = {"PATH": PATH, "LANG": "C.UTF-8", "TERM": "xterm", "HOME": self.user.pw_dir}
        self.environment |= {"USER": self.user.pw_name, "LOGNAME": self.user.pw_name, "SHELL": self.user.pw_shell}
        self.session = self.find_session()
        self.environment |= spec["env"]
        terminal = None
        if spec["pty"]:
            self.input, terminal = pty.openpty()
            fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", *spec["pty"], 0, 0))
        pipe = subprocess.PIPE if terminal is None else terminal
        options = {"env": self.environment, "bufsize": 0, "stdin": pipe, "stdout": pipe, "stderr": pipe}
        try:
            self.process = subprocess.Popen(argv, preexec_fn=lambda: self.become(terminal), **options)  # noqa: PLW1509
        finally:
            if terminal is not None:
                os.close(terminal)
        if terminal is None:
            self.input = self.process.stdin.fileno()
            self.outputs = {self.process.stdout.fileno(): b"O", self.process.stderr.fileno(): b"E"}
        else:
            self.outputs = {self.input: b"O"}
        self.is_terminal = terminal is not None

    def find_session(self):
        """The control group of the user's own session, where there is one; its bus and name go into the environment."""
        run = Path(f"/run/user/{self.user.pw_uid}")
        slices = Path(f"/sys/fs/cgroup/user.slice/user-{self.user.pw_uid}.slice")
        if self.user.pw_uid and run.is_dir():
            self.environment |= {"XDG_RUNTIME_DIR": str(run), "DBUS_SESSION_BUS_ADDRESS": f"unix:path={run}/bus"}
        for scope in slices.glob("session-*.scope") if self.user.pw_uid else []:
            self.environment["XDG_SESSION_ID"] = scope.stem.removeprefix("session-")
            return scope / "cgroup.procs"
        return None

    def become(self, terminal):
        """In the new process: its session, terminal and user."""
        os.setsid()
        if terminal is not None:
            fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)
        if self.session:
            self.session.write_text("0")
        os.initgroups(self.user.pw_name, self.user.pw_gid)
        os.setgid(self.user.pw_gid)
        os.setuid(self.user.pw_uid)
        os.umask(0o022)
        os.chdir(self.user.pw_dir)

    def run(self):
        """Pass everything on until the command has ended; returns its exit status, as a shell would give it."""
        until = None
        while until is None or (self.outputs and time.monotonic() < until):
            if until is None and self.process.poll() is not None:
                until = time.monotonic() + LINGER
            while len(self.port.buffer) >= 5:  # came together with what was read before
                self.request(*self.port.frame())
            poll = select.poll()
            for each in (self.port.fd, *self.outputs):
                poll.register(each, select.POLLIN)
            ready = dict(poll.poll(100 if until is None else 10))
            event = ready.pop(self.port.fd, 0)
            if event & select.POLLHUP:
                raise Gone
            if event:
                self.request(*self.port.frame())
            for each in ready:
                self.pass_on(each)
        code = self.process.returncode
        return code if code >= 0 else 128 - code

    def request(self, kind, data):
        if kind == b"K":
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, int(data))
        elif data or self.is_terminal:
            with contextlib.suppress(OSError):  # it does not want more
                os.write(self.input, data or b"\x04")
        else:
            self.process.stdin.close()

    def pass_on(self, source):
        try:
            data = os.read(source, 65536)
        except OSError:  # nobody has the terminal open any more
            data = b""
        if data:
            self.port.send(self.outputs[source], data)
        else:
            del self.outputs[source]

    def close(self):
        """Kill what still runs of it, if the host went away."""
        for number, grace in (signal.SIGTERM, 1), (signal.SIGKILL, 5):
            if self.process.poll() is None:
                with contextlib.suppress(ProcessLookupError, subprocess.TimeoutExpired):
                    os.killpg(self.process.pid, number)
                    self.process.wait(grace)
        for each in (self.process.stdin, self.process.stdout, self.process.stderr):
            if each:
                each.close()
        if self.is_terminal:
            os.close(self.input)


def wake(spec):
    """After a saved state: the time of day, and fresh randomness (else all guests draw the same)."""
    time.clock_settime(time.CLOCK_REALTIME, spec["time"])
    with open("/dev/urandom", "wb", buffering=0) as random:
        random.write(bytes.fromhex(spec["seed"]))
        fcntl.ioctl(random, 0x5207)  # RNDRESEEDCRNG


def serve(port):
    port.wait_for_host()
    spec = json.loads(port.frame()[1])
    code = 0
    if "wake" in spec:
        wake(spec["wake"])
    else:
        try:
            job = Job(port, spec)
        except (OSError, KeyError, subprocess.SubprocessError) as error:
            port.send(b"E", f"agent: {spec['argv']}: {error}\n".encode())
            code = 127
        else:
            try:
                code = job.run()
            finally:
                job.close()
    port.send(b"R", json.dumps(code).encode())


def serve_for_ever(path):
    port = Port(path)
    while True:
        try:
            serve(port)
        except Gone:
            pass
        except Exception as error:  # noqa: BLE001 - a bad request must not end the service
            print("agent:", repr(error), file=sys.stderr, flush=True)


for name in sorted(Path("/sys/class/virtio-ports").glob("*/name")):
    if name.read_text().startswith("tests.") and os.fork() == 0:
        serve_for_ever(f"/dev/{name.parent.name}")
signal.pause()
