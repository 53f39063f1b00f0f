"""Reading a master as its owner: what a forked child that has given up root finds there. See `flashback.walk.child`."""

from __future__ import annotations

import contextlib
import os
import pwd
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

from flashback.config.values import Symlinks
from flashback.core.errors import ConfigError
from flashback.core.events import Remark
from flashback.core.text import shown
from flashback.core.way import Link, walked
from flashback.walk.ahead import LEAST, walking_ahead
from flashback.walk.child import Children, Owner
from flashback.walk.filter import Filter
from flashback.walk.frames import Frame, ReadingFailed, received
from flashback.walk.listing import Entry, Item
from flashback.walk.master import Produce, Said, walking
from flashback.walk.narrow import Narrow

__all__ = ["Owner", "ReadingFailed", "owner_of", "reading_as", "reading_master"]

PIPE_SIZE: Final = 1024 * 1024


def owner_of(path: Path, name: str | None) -> Owner:
    """The user called `name`, or else whoever owns `path`.

    Raises `ConfigError` for a name that this machine does not know, `OSError` when `path` cannot be looked at. An
    owner without a name on this machine is read as with the group of `path`. Where nobody is named, a link on the way
    must be root's or the owner's own, or whoever made it could choose as whom the master is read: root, by a link to /.
    """
    if name is not None:
        try:
            known = pwd.getpwnam(name)
        except KeyError:
            raise ConfigError(f"there is no user {shown(name)} on this machine", hint="correct `owner`") from None
        return Owner(known.pw_name, known.pw_uid, known.pw_gid)
    at = _found(path)
    place = (at.st_dev, at.st_ino)
    try:
        known = pwd.getpwuid(at.st_uid)
    except KeyError:
        return Owner(str(at.st_uid), at.st_uid, at.st_gid, place)
    return Owner(known.pw_name, known.pw_uid, known.pw_gid, place)


def _found(path: Path) -> os.stat_result:
    """The directory at `path`, found step by step, so that nothing can be exchanged behind our back. See `owner_of`."""
    here, links = walked(path)
    try:
        at = os.fstat(here)
    finally:
        os.close(here)
    _refuse_links_of_others(path, links, at.st_uid)
    return at


def _refuse_links_of_others(path: Path, links: list[Link], owner: int) -> None:
    for name, maker in links:
        if maker not in {0, owner}:
            raise ConfigError(
                f"{path} leads through the link {shown(os.fsencode(name))}, which another user made (uid {maker})",
                hint="correct `path`, or say with `owner` as whom it is to be read",
            )


@contextlib.contextmanager
def reading_master(
    path: Path,
    owner: Owner | None,
    *,
    filter: Filter,  # noqa: A002 - it is what it is
    symlinks: Symlinks,
    remark: Callable[[Remark], None],
    avoid: Path | None = None,
    with_xattrs: bool = True,
    narrow: Narrow | None = None,
    linked: Callable[[bytes], object] = lambda _path: None,
) -> Iterator[Iterator[Item]]:
    """Walk the master at `path` as its owner. `avoid` is a directory of ours that is never entered, if it exists.

    `narrow`: see `walking`; `linked` is told the links that were followed.

    Raises `OSError` (with the errno that the owner met) when `path` cannot be opened or listed, and `ReadingFailed`.
    """
    barred: frozenset[tuple[int, int]] = frozenset()
    if avoid is not None:
        with contextlib.suppress(FileNotFoundError):
            at = os.stat(avoid)
            barred = frozenset({(at.st_dev, at.st_ino)})
    produce = walking(path, filter=filter, symlinks=symlinks, avoid=barred, with_xattrs=with_xattrs, narrow=narrow)
    other = walking_ahead(path, filter=filter, symlinks=symlinks, avoid=barred, narrow=narrow)
    with _reading(owner, produce, ahead=other) as frames:
        yield _items(frames, remark, linked, owner.place if owner is not None else None)


def _items(
    frames: Iterator[Frame],
    remark: Callable[[Remark], None],
    linked: Callable[[bytes], object],
    place: tuple[int, int] | None,
) -> Iterator[Item]:
    for frame in frames:
        for each in frame.said():
            remark(each)
        for path in frame.linked:
            linked(path)
        if place is not None and frame.items:
            _refuse_another(frame.items[0], place)
            place = None
        yield from frame.items


def _refuse_another(first: Item, place: tuple[int, int]) -> None:
    if isinstance(first, Entry) and (first.dev, first.ino) != place:
        raise ReadingFailed("the master was exchanged while it was looked at", hint="start the run again")


@contextlib.contextmanager
def reading_as(owner: Owner | None, produce: Produce, *, keep: int | None = None) -> Iterator[Iterator[Said]]:
    """Run `produce` in a child that is `owner`, and iterate over what it gives away. `keep` is a descriptor that it
    has besides.

    Leaving the block kills the child; see `Children`. An error in `produce` is raised here when everything
    before it was taken: an `OSError` as such, any other as `ReadingFailed`. Remarks keep no exact place among items.
    """
    with _reading(owner, produce, keep) as frames:
        yield (said for frame in frames for said in (*frame.said(), *frame.items, *frame.looks))


@contextlib.contextmanager
def _reading(
    owner: Owner | None, produce: Produce, keep: int | None = None, ahead: Iterable[Produce] = ()
) -> Iterator[Iterator[Frame]]:
    reading, writing = os.pipe2(os.O_CLOEXEC)
    with open(reading, "rb", buffering=PIPE_SIZE) as pipe, Children(owner) as children:
        try:
            children.fork(produce, writing, keep)
        finally:
            os.close(writing)
        frames = received(pipe)
        yield _helped(frames, children, ahead)


def _helped(frames: Iterator[Frame], children: Children, ahead: Iterable[Produce]) -> Iterator[Frame]:
    """The same frames. Where they say that a disk is read, those of `ahead` are started besides, once."""
    for frame in frames:
        if frame.blocks >= LEAST and frame.end is None:
            with contextlib.suppress(OSError):  # no room for more processes: then there are fewer
                for each in ahead:
                    _start(children, each)
            yield frame
            break
        yield frame
    yield from frames


def _start(children: Children, ahead: Produce) -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    try:
        children.fork(ahead, nowhere)
    finally:
        os.close(nowhere)
