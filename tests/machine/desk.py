"""The person at the machine: sees notices and dialogs, clicks, types. And the journal, for what nobody sees."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from typing import Any

from tests.machine.conftest import PASSPHRASE, Machine
from tests.machine.vm import Process, until

RUN = "/run/user/1000"
NOTICES, DIALOGS, ANSWER = f"{RUN}/notifications.jsonl", f"{RUN}/dialogs", f"{RUN}/answer"
AGENT = f"{RUN}/flashback-agent"
SHOWN, GONE = "Notify", "CloseNotification"
PINENTRY = f"""#!/bin/bash
# Stands in for pinentry: says in {DIALOGS} that it asks, waits for an answer from the pipe {ANSWER}.DRIVE and speaks Assuan.
echo 'OK Pleased to meet you'
while read -r word rest; do
    case $word in
    SETTITLE) drive=${{rest#*: }} ;;
    SETDESC) said=$rest ;;
    SETERROR) said="$rest $said" ;;
    GETPIN)
        said=${{said//\\\\/}}
        echo "{{\\"dialog\\": \\"${{said//\\"/}}\\"}}" >> {DIALOGS}
        [ -p {ANSWER}.$drive ] || mkfifo -m 600 {ANSWER}.$drive
        IFS= read -r answer < {ANSWER}.$drive
        if [ "$answer" = CLOSE ]; then echo 'ERR 83886179 Operation cancelled <Pinentry>'; continue; fi
        echo "D $answer" ;;
    BYE) echo OK; exit ;;
    esac
    echo OK
done
"""


def stop(process: Process | None) -> None:
    if process is not None and process.code is None:
        process.kill()
        process.wait()


class Desk:
    """Alice, who is logged in at a desktop. `begin()` starts a new day: nothing was shown, nothing logged.

    What she sees and what is logged is streamed here, so that waiting for it costs the slow machine nothing.
    """

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self._seen: Process | None = None
        self._logged: Process | None = None
        self._begun = 0.0

    def begin(self) -> None:
        self.end()
        self.machine.run(f": > {NOTICES}; : > {DIALOGS}; rm -f {ANSWER}.*", user="alice")
        self.watch()

    def watch(self) -> None:
        """Begin to look (again, after a start of the machine)."""
        now, up = self.machine.run("date +%s.%N; cut -d' ' -f1 /proc/uptime").out.split()
        self._begun = float(up) * 1_000_000
        follow = ["journalctl", "-b", "-q", "--follow", "--no-tail", "-o", "json", "-t", "flashback"]
        self._logged = self.machine.spawn([*follow, f"--since=@{now}"])
        self._look()

    def _look(self) -> None:
        self._seen = self.machine.spawn(["tail", "-q", "-n", "+1", "-F", NOTICES, DIALOGS])

    def end(self) -> None:
        """Look no more."""
        for each in (self._seen, self._logged):
            stop(each)
        self._seen = self._logged = None

    def story(self) -> str:
        """For somebody who asks why a test failed."""
        seen = "\n".join(map(str, self._calls())) if self._seen else "(nobody looked)"
        return f"{seen}\n{self.machine.story()}"

    # --- what is seen

    def _calls(self) -> list[dict[str, Any]]:
        """What was said to the desktop, and the dialogs (without a `method`)."""
        assert self._seen is not None
        return [json.loads(line) for line in bytes(self._seen.out).splitlines(keepends=True) if line.endswith(b"\n")]

    def shown(self, text: str = "") -> list[dict[str, Any]]:
        """The notices that came, oldest first, whose summary or body contains `text`."""
        calls = [each for each in self._calls() if each.get("method") == SHOWN]
        return [each for each in calls if text in f"{each['summary']}\n{each['body']}"]

    def sees(self, text: str) -> dict[str, Any]:
        """The newest such notice; waited for."""
        return until(f"a notice with {text!r}", lambda: self.shown(text))[-1]

    def sees_withdrawn(self, notice: dict[str, Any]) -> None:
        def is_closed() -> bool:
            return any(each.get("method") == GONE and each["id"] == notice["id"] for each in self._calls())

        until("the notice to be withdrawn", is_closed)

    def dialogs(self) -> list[str]:
        """What the passphrase dialogs of the day say."""
        return [each["dialog"] for each in self._calls() if "dialog" in each]

    def dialog(self, number: int = 1) -> str:
        """What the `number`th says; waited for."""
        until(f"dialog {number}", lambda: len(self.dialogs()) >= number)
        return self.dialogs()[number - 1]

    def dialogs_open(self) -> int:
        """How many there are now."""
        return int(self.machine.run("pgrep -cx pinentry", check=False).out)

    # --- what is done

    def click(self, notice: dict[str, Any], action: str) -> None:
        self._desktop("Invoke", "us", str(notice["id"]), action)

    def close(self, notice: dict[str, Any]) -> None:
        self._desktop("Close", "u", str(notice["id"]))

    def _desktop(self, *words: str) -> None:
        names = ("org.freedesktop.Notifications", "/org/freedesktop/Notifications", "tests.User")
        self.machine.run(["busctl", "--user", "call", *names, *words], user="alice")

    def type(self, text: str = PASSPHRASE, drive: str = "red") -> None:
        """Answer the dialog that is open."""
        line = f"until [ -p {ANSWER}.{drive} ]; do sleep 0.1; done; cat > {ANSWER}.{drive}"
        self.machine.run(line, given=f"{text}\n", user="alice")

    def close_dialog(self) -> None:
        self.type("CLOSE")

    def says_yes(self, drive: str) -> None:
        """Click "Back up now", and type the passphrase."""
        self.click(self.sees(f"{drive}: back up now?"), "now")
        self.dialog()
        self.type()

    def log_out(self) -> None:
        """Nobody is logged in any more."""
        stop(self._seen)
        self.machine.run("systemctl stop tests-desktop; loginctl terminate-user alice", check=False)
        until("alice to be gone", lambda: not self.machine.run("loginctl list-sessions --no-legend").out, pause=0.3)

    def log_in(self) -> None:
        """Return once what runs in her session can be asked."""
        self.machine.run("systemctl start tests-desktop")
        self.is_ready()
        self._look()

    def is_ready(self) -> None:
        until("the agent", lambda: self.machine.run(f"test -S {AGENT}", check=False).code == 0, pause=0.3)

    def asked_on_console(self) -> str:
        """The question for whoever sits at a console, as systemd's agents read it; empty if there is none."""
        return self.machine.run("cat /run/systemd/ask-password/ask.* || true").out

    def says_yes_somehow(self, drive: str) -> None:
        """The same; where the console was asked first, what appears here is the dialog alone."""

        until("a question", lambda: self.dialogs() or self.shown(f"{drive}: back up now?"))
        if not self.dialogs():
            self.click(self.sees(f"{drive}: back up now?"), "now")
        self.dialog()
        self.type()

    # --- what is logged

    def journal(self, event: str = "") -> list[dict[str, Any]]:
        """Flashback's entries of the day, as fields; with `event`, those alone."""
        assert self._logged is not None
        lines = bytes(self._logged.out).splitlines(keepends=True)
        entries = [json.loads(line) for line in lines if line.endswith(b"\n")]
        # a test may have set the clock: what is of this day is told by the time since the start of the machine
        entries = [each for each in entries if int(each["__MONOTONIC_TIMESTAMP"]) >= self._begun]
        return [each for each in entries if not event or each.get("FLASHBACK_EVENT") == event]

    def logs(self, event: str, **fields: str) -> dict[str, Any]:
        """The newest such entry; waited for. `answer="later"` is the field FLASHBACK_ANSWER."""
        wanted = {f"FLASHBACK_{name.upper()}": value for name, value in fields.items()}

        def found() -> list[dict[str, Any]]:
            return [each for each in self.journal(event) if wanted.items() <= each.items()]

        return until(f"an entry {event} {fields}", found)[-1]

    def rests(self) -> None:
        """No unit for a drive is at work."""
        line = "systemctl list-units --no-legend --state=active,activating,deactivating 'flashback-plug@*'"
        until("the units to end", lambda: not self.machine.run(line).out, pause=0.3)

    @contextlib.contextmanager
    def timed(self) -> Iterator[list[float]]:
        """Host seconds that the body took."""
        took: list[float] = []
        begun = time.monotonic()
        yield took
        took.append(time.monotonic() - begun)
