"""A master's listing for a plan: read as its owner, by its rules, with a sentence for one that cannot be read."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from flashback.config.values import Master
from flashback.core.errors import ConfigError, NotFinished
from flashback.core.events import Remark
from flashback.walk.filter import Filter
from flashback.walk.listing import Item, Kept
from flashback.walk.narrow import Narrow
from flashback.walk.reader import Owner, reading_master
from flashback.walk.road import Looked


@contextmanager
def reading(
    master: Master,
    owner: Owner,
    avoid: Path,
    remark: Callable[[Remark], None],
    looked: Looked,
    narrow: Narrow | None,
    *,
    with_xattrs: bool,
) -> Iterator[Iterator[Item]]:
    """As `reader.reading_master`; `looked` is told what the walk was not sure of. Raises `FlashbackError`."""
    with reading_master(
        master.path,
        owner,
        filter=Filter(master.rules),
        symlinks=master.symlinks,
        avoid=avoid,
        remark=remark,
        with_xattrs=with_xattrs,
        narrow=narrow,
        linked=looked.add,
    ) as items:
        yield _told(items, master.path, owner, looked)


def _told(items: Iterator[Item], path: Path, owner: Owner, looked: Looked) -> Iterator[Item]:
    try:
        for item in items:
            if isinstance(item, Kept):
                looked.add(item.path)
            yield item
    except OSError as problem:
        why = os.strerror(problem.errno or 0)
        if problem.errno in {errno.EACCES, errno.EPERM}:
            raise ConfigError(
                f"{owner.name} cannot read {path}: {why}",
                hint="a master is read as its owner: name somebody who may as its `owner`, or change its mode",
            ) from problem
        raise NotFinished(f"{path} cannot be read: {why}", hint="look at it with ls, then run again") from problem
