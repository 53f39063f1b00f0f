"""Extended attributes and ACLs: whether what is there has those that a restore (`rsync -AX`) puts there.

The label that a machine's policy gives each file by itself (`security.selinux` and its like) is none of them.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import Final

from flashback.core.text import shown
from flashback.walk.places import in_proc

_ACLS: Final = frozenset({"system.posix_acl_access", "system.posix_acl_default"})
_CAPABILITY: Final = "security.capability"
_TRUSTED: Final = "trusted."
_OF_RSYNC: Final = "user.rsync.%"
"""Rsync keeps notes of its own in these, and carries them only with `-XX` (rsync(1))."""


def differing(source: tuple[int, bytes], place: tuple[int, bytes], *, given: bool, forgive: bool = True) -> str:
    """The name of an attribute that is not as on the drive, fit to be shown; empty where all are.

    Both sides are an open directory and a name in it. What whoever restores may not read or set is not looked at;
    where all is `given` to another owner no ACL, in which rsync 3.5.0 puts that owner for everybody who is named;
    with `forgive` neither what the file system of the place does not keep: it would be missing again and again.
    """
    drive, here = (in_proc(parent) + name for parent, name in (source, place))
    on_drive = _names(drive)
    names = on_drive | {each for each in _names(here) if not each.startswith(_TRUSTED)}
    for name in sorted(names - _ACLS if given else names):
        wanted, found = _value(drive, name), _value(here, name)
        if found is None and not forgive and wanted and _is_unsupported(here, name):
            return shown(name)
        if wanted is not None and found is not None and wanted != found:
            return shown(name)
    return ""


def dress(source: int, target: int) -> None:
    """Give an open directory the mode and attributes of another one, and take those away which that has not.

    The mode after what takes an ACL away, and before what sets one, which has rights in it, too. Raises `OSError`.
    """
    given = os.listxattr(source)
    for name in _names(target) - set(given):
        if not name.startswith(_TRUSTED):
            os.removexattr(target, name)
    os.fchmod(target, stat.S_IMODE(os.fstat(source).st_mode))
    for name in given:
        os.setxattr(target, name, os.getxattr(source, name))


def _names(where: bytes | int) -> set[str]:
    """The attributes that count. A backup that reads as the owner of the files does not see `trusted.*`: what has
    one of those more than the drive is as good as that.
    """
    try:
        found = os.listxattr(where, follow_symlinks=isinstance(where, int))
    except OSError:
        return set()
    return {each for each in found if _counts(each)}


def _counts(name: str) -> bool:
    if name.startswith("user."):
        return not name.startswith(_OF_RSYNC)
    return name in _ACLS or (os.geteuid() == 0 and (name == _CAPABILITY or name.startswith(_TRUSTED)))


def _value(path: bytes, name: str) -> bytes | None:
    """The value with a byte before it; nothing where there is none, and `None` where that cannot be known."""
    try:
        value = os.getxattr(path, name, follow_symlinks=False)
    except OSError as problem:
        return b"" if problem.errno == errno.ENODATA else None
    return b"=" + value


def _is_unsupported(path: bytes, name: str) -> bool:
    try:
        os.getxattr(path, name, follow_symlinks=False)
    except OSError as problem:
        return problem.errno == errno.ENOTSUP
    return False
