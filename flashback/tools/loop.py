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


def devices_of(run: Runner, image: Path) -> tuple[str, ...]:
    """The devices that were made of this image file."""
    listing = run(Command(("losetup", "--noheadings", "--raw", "--output", "NAME", "--associated", str(image))))
    return tuple(listing.text.split())
