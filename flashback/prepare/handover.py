"""The recovery key is given away, once: to a file, a printer, the eyes of the person. Flashback keeps it nowhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from flashback.core.command import Runner
from flashback.core.errors import FlashbackError
from flashback.core.secret import Secret
from flashback.prepare import recovery
from flashback.prepare.ask import Ask
from flashback.tools.printer import print_page

PRINT: Final = "print"


@dataclass(frozen=True, slots=True)
class Handover:
    """Where the key goes: to `file` alone, or else to `show`; then `asker`, if any, is asked where else.

    Without `show` (a script that wants JSON) only a file will do.
    """

    show: Callable[[str], None] | None
    file: Path | None = None
    asker: Ask | None = None

    def check(self) -> None:
        """Raise `UsageError` when the key could not be saved; asked before anything is erased."""
        if self.file is not None:
            recovery.refuse_existing(self.file)

    def give(self, run: Runner, page: str, html: str = "") -> None:
        """Give the page away; a file whose name ends in .html gets `html`."""
        show = self.show or _say_nothing
        if self.file is not None:
            try:
                recovery.save(self.file, _for(self.file, page, html))
            except FlashbackError as problem:
                if self.show is None:
                    raise
                show(f"The recovery key could not be saved: {problem.what}.")
            else:
                show(f"The recovery key is in {self.file}. Keep it away from the drive.")
                return
        show("\nWrite this down and keep it away from the drive. It is not shown again.\n\n" + page)
        if self.asker is not None:
            _keep_elsewhere(run, self.asker, page, html)


def _for(file: Path, page: str, html: str) -> str:
    return html if html and file.suffix.lower() in {".html", ".htm"} else page


def _say_nothing(_text: str) -> None:
    """Standard output belongs to JSON, and is often kept in a log."""


def _keep_elsewhere(run: Runner, asker: Ask, page: str, html: str) -> None:
    """Print or save the page until it went well or the person wants neither."""
    while answer := asker.text(f"Keep it elsewhere as well? A file to write, {PRINT}, or just Enter:").strip():
        try:
            if answer == PRINT:
                print_page(run, Secret(page.encode()))
                return
            file = Path(answer).expanduser()
            recovery.refuse_existing(file)
            recovery.save(file, _for(file, page, html))
        except FlashbackError as problem:
            asker.show(f"That did not work: {problem.what}.")
        else:
            return
