"""losetup: image files as block devices, for rehearsals."""

from __future__ import annotations

from pathlib import Path

from flashback.core.command import Command, CommandFailed, Runner


def attach(run: Runner, image: Path) -> str:
    """Make a block device of an image file and return its path; its partitions get device nodes of their own."""
    return run(Command(("losetup", "--find", "--show", "--partscan", "--", str(image)))).text.strip()


def detach(run: Runner, device: str) -> None:
    """Give the device back; harmless when that was done already."""
    if device in attached(run):
        run(Command(("losetup", "--detach", device)))


def attached(run: Runner) -> tuple[str, ...]:
    """The paths of all loop devices in use."""
    try:
        listing = run(Command(("losetup", "--noheadings", "--raw", "--output", "NAME")))
    except CommandFailed:
        return ()
    return tuple(listing.text.split())


def images(run: Runner, folder: Path) -> tuple[str, ...]:
    """The devices whose image lies in `folder`: what an earlier rehearsal may have left."""
    listing = run(Command(("losetup", "--noheadings", "--raw", "--output", "NAME,BACK-FILE")))
    rows = [line.split(maxsplit=1) for line in listing.text.splitlines()]
    return tuple(row[0] for row in rows if len(row) > 1 and Path(row[1]).parent == folder)
