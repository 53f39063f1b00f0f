"""Block devices for tests: made-up answers of the programs, devices as values, and a disk in a made-up /sys."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from flashback.core import sysfs
from flashback.core.command import Command, CommandFailed, Result
from flashback.tools.block import BlockDevice


class Answers:
    """A runner that answers by the program's name; an integer is an exit code to fail with."""

    def __init__(self, by_program: Mapping[str, Any]) -> None:
        self.by_program = by_program
        self.asked: list[tuple[str, ...]] = []

    def __call__(self, command: Command) -> Result:
        self.asked.append(command.argv)
        answer = self.by_program[command.argv[0]]
        if isinstance(answer, int):
            raise CommandFailed(Result(command, answer, b"", b"program: it went wrong"))
        return Result(command, 0, answer if isinstance(answer, bytes) else json.dumps(answer).encode())

    def stream(self, *_args: Any, **_kwargs: Any) -> Result:
        raise AssertionError("nothing is streamed to find devices")

    def streams(self, *_args: Any, **_kwargs: Any) -> None:
        raise AssertionError("nothing is streamed to find devices")


def device(path: str = "/dev/sdx", **more: Any) -> BlockDevice:
    given_ = {"kind": "disk", "size": 1 << 30, **more}
    return BlockDevice(path=path, name=os.path.basename(path), **given_)


def a_disk(sys: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory of /dev/sdx, with one partition, in a /sys that is made up in `sys`."""
    monkeypatch.setattr(sysfs, "SYS", sys)
    monkeypatch.setattr(sysfs, "number", {"/dev/sdx": "8:16", "/dev/sdx1": "8:17"}.get)
    disk = sys / "devices/block/sdx"
    (disk / "sdx1/holders/dm-0").mkdir(parents=True)
    (disk / "diskseq").write_text("7")
    (disk / "ro").write_text("0\n")
    for path, text in (("partition", "1\n"), ("start", "8192\n"), ("dev", "8:17\n"), ("ro", "0\n")):
        (disk / "sdx1" / path).write_text(text)
    (sys / "dev/block").mkdir(parents=True)
    (sys / "dev/block/8:17").symlink_to(disk / "sdx1")
    (sys / "dev/block/8:16").symlink_to(disk)
    return disk
