"""Drives that were put off and are still plugged in: their units are started anew when the time has come."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from datetime import datetime

from flashback.core.command import Runner
from flashback.core.errors import FlashbackError
from flashback.rotation.ledger import Ledger
from flashback.rotation.plugs import PlugOutcome, PlugRecord
from flashback.tools import systemctl, udev
from flashback.trigger.plug import LABEL
from flashback.trigger.watch import unit_of


def due(plugs: Iterable[PlugRecord | None], now: datetime) -> Iterator[str]:
    """The LUKS UUIDs of those that were put off until now or earlier. Pure."""
    for last in plugs:
        if last is not None and last.outcome is PlugOutcome.LATER and last.until is not None and last.until <= now:
            yield last.drive_uuid


def ask_again(run: Runner, ledger: Ledger, now: datetime) -> None:
    """Start their units. What is put off in a person's session is asked there by `flashback watch`; a unit that has
    asked already decides that by itself.
    """
    here = {drive.uuid for drive in ledger.drives()} & set(udev.luks_uuids(LABEL))
    for uuid in due((ledger.last_plug(each) for each in sorted(here)), now):
        with contextlib.suppress(FlashbackError):
            systemctl.start(run, unit_of(uuid))
