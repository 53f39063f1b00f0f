"""The paper kit of a drive: one page with what it is, how it is read without Flashback, and the recovery key.

Flashback keeps the recovery key nowhere. So it is on the page only when it was made a moment ago or typed; else there
is a line to write it on.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from flashback.core.errors import UsageError
from flashback.core.secret import Secret
from flashback.core.text import shown
from flashback.prepare.recovery import ALPHABET, GROUPS, LETTERS, as_lines

if TYPE_CHECKING:
    from segno import QRCode

QUIET: Final = 4
"""Modules of white around a QR code (ISO/IEC 18004, 6.3.8)."""
WARNING: Final = "Whoever holds this page and the drive can read all that is on it. Keep them apart."
TO_FILL_IN: Final = "_" * 40
PULLED: Final = (
    'If mount says "can\'t read superblock", the drive was unplugged while it was in use.',
    "Then write -o ro,rescue=nologreplay instead of -o ro.",
)
_KEY: Final = re.compile(f"[{ALPHABET}]{{{LETTERS}}}(?:-[{ALPHABET}]{{{LETTERS}}}){{{GROUPS - 1}}}")


@dataclass(frozen=True, slots=True)
class Kit:
    """What goes on the page. `made` is the day on which it was made out, `place` where the drive is kept."""

    name: str
    uuid: str
    made: str
    place: str = ""
    masters: tuple[str, ...] = ()
    filesystem: str = ""
    key: Secret | None = field(default=None, repr=False)

    @property
    def title(self) -> str:
        """The first line."""
        return f"Flashback recovery key of the drive {self.name}" if self.key is not None else f"Flashback: {self.name}"

    @property
    def facts(self) -> tuple[tuple[str, str], ...]:
        """Names and values of what identifies the drive."""
        rows = (
            ("LUKS UUID", self.uuid),
            ("Btrfs UUID", self.filesystem),
            ("Kept at", self.place),
            ("Holds", ", ".join(self.masters)),
            ("Made on", self.made),
        )
        return tuple((name, shown(value)) for name, value in rows if value)

    @property
    def commands(self) -> tuple[tuple[str, str], ...]:
        """Six commands with what each is for: any Linux, as root, without Flashback."""
        master = self.masters[0] if self.masters else "NAME"
        return (
            (f"cryptsetup open --readonly /dev/disk/by-uuid/{self.uuid} flashback", "asks for the key above"),
            ("mkdir -p /mnt/flashback", ""),
            ("mount -o ro /dev/mapper/flashback /mnt/flashback", "README.txt there says more"),
            (f"cp -a /mnt/flashback/{master}/current/. /home/you/", "or what you need of it"),
            ("umount /mnt/flashback", ""),
            ("cryptsetup close flashback", "now it can be unplugged"),
        )


def typed_key(text: bytes) -> Secret:
    """A recovery key as it was typed: in one line or two, in capitals or not. Raises `UsageError` for what is none."""
    joined = re.sub(r"-+", "-", re.sub(r"\s+", "-", text.decode("utf-8", "replace").strip().lower()))
    if not _KEY.fullmatch(joined):
        raise UsageError(
            "that is no recovery key of Flashback's",
            hint=f"it has {GROUPS} groups of {LETTERS} letters with dashes between; only the letters {ALPHABET} occur",
        )
    return Secret(joined.encode("ascii"))


def text(kit: Kit) -> str:
    """The page as text, with a QR code made of blocks."""
    key = [f"    {line}" for line in as_lines(kit.key)] if kit.key is not None else [f"    {TO_FILL_IN}"] * 2
    code = _blocks(_matrix(kit.key)) if kit.key is not None else ()
    return "\n".join(
        [
            kit.title,
            "",
            "The recovery key opens the drive when the passphrase is lost: type it, both lines as one, with the",
            "dashes, where the passphrase is asked for.",
            "",
            *key,
            "",
            *code,
            *(f"{name:<10}  {value}" for name, value in kit.facts),
            "",
            "To read the drive on any Linux system with cryptsetup, as root:",
            "",
            *(f"    {command}" for command, _what in kit.commands),
            "",
            *PULLED,
            "",
            WARNING if kit.key is not None else "With the key written in: " + WARNING[0].lower() + WARNING[1:],
            "",
        ]
    )


def page(kit: Kit) -> str:
    """The same as one HTML page that needs nothing else, to be printed."""
    said: Callable[[str], str] = html.escape
    lines = as_lines(kit.key) if kit.key is not None else (TO_FILL_IN, TO_FILL_IN)
    code = _svg(kit.key) if kit.key is not None else ""
    facts = "".join(f"<tr><th>{said(name)}</th><td>{said(value)}</td></tr>" for name, value in kit.facts)
    steps = "".join(
        f"<li><code>{said(command)}</code>{f'<br><small>{said(what)}</small>' if what else ''}</li>"
        for command, what in kit.commands
    )
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{said(kit.title)}</title><style>
@page {{ size: A4; margin: 18mm }}
body {{ font: 11pt/1.4 sans-serif; color: #000; background: #fff; max-width: 174mm; margin: auto }}
code {{ font: 10pt monospace; white-space: pre-wrap; overflow-wrap: anywhere }}
.key {{ font: bold 13pt/1.7 monospace; border: 1pt solid #000; padding: 3mm; display: inline-block }}
th {{ text-align: left; padding-right: 6mm; font-weight: normal }} svg {{ width: 45mm; height: auto }}
</style></head><body>
<h1>{said(kit.title)}</h1>
<p>The recovery key opens the drive when the passphrase is lost: type it, both lines as one, with the dashes,
where the passphrase is asked for.</p>
<p class="key">{"<br>".join(map(said, lines))}</p>
<p>{code}</p>
<h2>The drive</h2>
<table>{facts}</table>
<h2>To read it without Flashback</h2>
<p>On any Linux system with cryptsetup, as root:</p>
<ol>{steps}</ol>
<p>{said(" ".join(PULLED))}</p>
<p><strong>{said(WARNING)}</strong></p>
</body></html>
"""


def _code(key: Secret) -> QRCode:
    import segno

    return segno.make(key.reveal().decode("ascii"), error="m", micro=False)


def _matrix(key: Secret) -> tuple[Sequence[int], ...]:
    """The modules of the QR code with the white around it; 1 is dark."""
    return tuple(tuple(row) for row in _code(key).matrix_iter(scale=1, border=QUIET))


def _blocks(matrix: Sequence[Sequence[int]]) -> tuple[str, ...]:
    """Two rows of modules in one line of text, as ink on paper."""
    rows = [*matrix, [0] * len(matrix[0])] if len(matrix) % 2 else list(matrix)
    signs = {(0, 0): " ", (1, 0): "▀", (0, 1): "▄", (1, 1): "█"}
    pairs = zip(rows[::2], rows[1::2], strict=True)
    return tuple(
        "".join(signs[int(bool(up)), int(bool(down))] for up, down in zip(above, below, strict=True)).rstrip()
        for above, below in pairs
    )


def _svg(key: Secret) -> str:
    return str(_code(key).svg_inline(scale=4, border=QUIET, dark="#000", light="#fff"))
