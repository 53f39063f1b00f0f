"""Restore as an ordinary user, from drives that `flashback mount` has opened for them: they get what they may read."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from flashback.config.values import Master
from flashback.core.context import Context
from flashback.core.errors import Missing
from flashback.drive.visible import Visible
from flashback.recover.errand import RestoreRequest
from flashback.recover.service import restore_from
from flashback.recover.source import Shown

NOTHING: Final = "flashback restore needs root, unless a drive has been opened for you to look around in"
_LONG_AGO: Final = datetime.min.replace(tzinfo=UTC)


def restore_as_user(
    context: Context,
    seen: Sequence[Visible],
    drive: str | None,
    masters: Sequence[Master],
    request: RestoreRequest,
    *,
    again: str,
) -> int:
    """Restore from those of `seen`, or the one that is called `drive`; `again` is the same command by way of sudo.

    Raises `Missing` where none of them is meant, or where another user is to own it; else as `restore`.
    """
    meant = [each for each in seen if drive is None or drive.lower() in {each.name.lower(), each.uuid}]
    if not meant:
        which = drive or "DRIVE"
        hint = f"the same with sudo: {again}; or open it for yourself first: sudo flashback mount {which}"
        raise Missing(NOTHING if not seen else f"{drive} is not open for you to look around in", hint=hint)
    if request.owner is not None:
        raise Missing("giving files to another user needs root", hint=f"the same with sudo: {again}")
    meant.sort(key=_newest, reverse=True)
    return restore_from(context, [Shown(each) for each in meant], masters, request, elsewhere="")


def _newest(drive: Visible) -> datetime:
    return max((each.state.moment for each in drive.folders if each.state.moment), default=_LONG_AGO)
