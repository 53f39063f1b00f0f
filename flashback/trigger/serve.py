"""What the unit for one plugging in does: wire the journal and those who are asked, and do the work."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from typing import Final

from flashback.config.values import Config
from flashback.core.context import Context
from flashback.core.errors import FlashbackError, UsageError
from flashback.core.events import Tell
from flashback.core.signals import Interrupted
from flashback.core.text import shown
from flashback.rotation.ledger import Ledger
from flashback.tools.journald import Journal
from flashback.tools.loginctl import people_here
from flashback.trigger.asking import Console, Everywhere
from flashback.trigger.links import Links
from flashback.trigger.logged import NOTICE, JournalTeller
from flashback.trigger.plug import Plug
from flashback.trigger.telling import PlugTeller

UUID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
"""As LUKS2 writes it; what udev made of a device's own words is not more than a claim."""


def serve(
    context_for: Callable[[Tell], Context],
    config: Callable[[], Config],
    ledger: Callable[[], Ledger],
    uuid: str,
    credentials: str = "",
) -> int:
    """Do everything for the drive with this LUKS UUID; return the exit code. Raises `UsageError`, `ConfigError`."""
    if UUID.fullmatch(uuid) is None:
        raise UsageError(f"{shown(uuid)} is not the UUID of a LUKS volume")
    log = JournalTeller(Journal(), {"FLASHBACK_UUID": uuid})
    code: int | None = None
    try:
        with contextlib.ExitStack() as last:
            code = _serve(context_for(log), config, ledger, uuid, log, credentials, last)
    except Interrupted:
        if code is None:
            raise
    return int(code or 0)


def _serve(
    context: Context,
    config: Callable[[], Config],
    ledger: Callable[[], Ledger],
    uuid: str,
    log: JournalTeller,
    credentials: str,
    last: contextlib.ExitStack,
) -> int:
    with ledger() as memory:
        drive = memory.drive(uuid)
        name = drive.name if drive else uuid
        links = Links(lambda: people_here(context.run), {"uuid": uuid, "drive": name})
        asker = Everywhere(links, Console(context.run, uuid, name), name)
        teller = PlugTeller(log, asker, name)
        try:
            fresh = drive is None and not context.paths.config.exists()
            settings = Config(context.paths.config, ()) if fresh else config()
            asker.stands_for(int(settings.answer_within.total_seconds()))
            if not settings.notify.desktop:
                links.people = frozenset
            work = Plug(context.telling(teller), settings, memory, asker, log, credentials, last)
            return work.execute(uuid)
        except Interrupted:
            log.entry(f"{name}: unplugged or stopped before anything was done; it was not opened", priority=NOTICE)
            raise
        except FlashbackError as problem:
            if not teller.ended:  # no run was begun, so nobody has been told yet
                asker.notice("trouble", f"{name}: not backed up", f"{problem.what}. {problem.hint}")
            raise
        except Exception as problem:
            if not teller.ended:
                from flashback.tell import explain

                teller(explain.finished(explain.explain(problem, drive=name), name))
            raise
        finally:
            links.hang_up()
