"""For scripts: one JSON object per line (docs/reference/json.md). Always ASCII, whatever the names are."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final, TextIO, assert_never

from flashback.core.events import Event, Finished, Note, Planned, Progress, Remarked, StepBegun, StepDone
from flashback.core.text import rfc3339
from flashback.tell import Teller
from flashback.tell.plain import Output

VERSION: Final = 1
PROGRESS_EVERY: Final = 0.5
"""Seconds between two lines of progress."""


def one_object(kind: str, body: Mapping[str, Any]) -> str:
    """The one line that a command with `--json` prints: `body` with `version` and `kind` before it."""
    return dumped({"version": VERSION, "kind": kind, **body})


def dumped(value: Mapping[str, Any]) -> str:
    """One line of ASCII. Bytes are file names; a moment becomes RFC 3339. Raises `TypeError` for anything unknown."""
    return json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"), default=_default)


def _default(value: object) -> object:
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    if isinstance(value, datetime):
        return rfc3339(value)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, set | frozenset):
        return sorted(value)
    raise TypeError(f"{type(value).__name__} has no form in JSON")


class JsonTeller(Teller):
    """Prints each event as an object with `version`, `event` and `time`; progress at most twice a second."""

    def __init__(
        self, stream: TextIO, *, clock: Callable[[], datetime], monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._out = Output(stream)
        self._clock = clock
        self._monotonic = monotonic
        self._told_progress = float("-inf")
        self._kept_back: Progress | None = None
        self._remarks = 0

    def __call__(self, event: Event) -> None:
        """Tell one event."""
        if isinstance(event, Progress):
            self._progress(event)
            return
        if self._kept_back is not None:
            self._say(self._kept_back)
            self._kept_back = None
        if isinstance(event, StepBegun):
            self._told_progress = float("-inf")
        elif isinstance(event, Remarked):
            self._remarks += 1
        self._say(event)

    def _progress(self, event: Progress) -> None:
        now = self._monotonic()
        self._kept_back = event
        if now - self._told_progress >= PROGRESS_EVERY:
            self._told_progress = now
            self._kept_back = None
            self._say(event)

    def _say(self, event: Event) -> None:
        name, body = _body(event, self._remarks)
        self._out.line(dumped({"version": VERSION, "event": name, "time": rfc3339(self._clock()), **body}))


def _body(event: Event, remarks: int) -> tuple[str, dict[str, Any]]:
    """The event's published name and fields."""
    match event:
        case StepBegun():
            return "step-begun", {"step": event.step, "detail": event.detail}
        case StepDone():
            return "step-done", {"step": event.step, "seconds": round(event.seconds, 3), "detail": event.detail}
        case Progress():
            return "progress", _progress(event)
        case Remarked(remark):
            fields = {"master": remark.master, "path": remark.path, "detail": remark.detail}
            return "remark", {"kind": remark.kind, **fields}
        case Note():
            return "note", {"text": event.text}
        case Planned():
            return "planned", {"plan": event.plan}
        case Finished():
            return "finished", _finished(event, remarks)
    assert_never(event)


def _progress(event: Progress) -> dict[str, Any]:
    return {
        "step": event.step,
        "bytes_done": event.bytes_done,
        "bytes_total": event.bytes_total,
        "files_done": event.files_done,
        "files_total": event.files_total,
        "current": event.current,
    }


def _finished(event: Finished, remarks: int) -> dict[str, Any]:
    """The facts lie flat beside the fixed fields, which win."""
    fixed = {
        "result": event.result,
        "exit_code": int(event.exit_code),
        "drive": event.drive,
        "safe_to_remove": event.safe_to_remove,
        "drive_state": event.drive_state,
        "error": event.error,
        "next": event.next_step,
        "remarks": remarks,
    }
    return {**fixed, **{key: value for key, value in event.facts.items() if key not in fixed}}
