"""Managing the rotation: what a person decides about a drive is written into the ledger; no drive is opened."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

from flashback.config.findings import did_you_mean, quoted
from flashback.config.masters import valid_name
from flashback.config.values import OnPlug
from flashback.core.command import Runner
from flashback.core.errors import UsageError
from flashback.core.text import rfc3339, shown, size
from flashback.drive import source
from flashback.drive.recognise import known_by_name, named, on_device
from flashback.rotation.ledger import Changes, Ledger
from flashback.rotation.values import LONGEST_PLACE, KnownDrive, Standing, valid_place
from flashback.tell.tables import Cell, render
from flashback.tools import block, secret_service

Masters = Callable[[], Sequence[str] | None]
"""The names of the configuration's masters; `None` where there is no configuration. Asked only when needed."""
HEADERS: Final = (
    *("drive", "standing", "place", "here", "size", "model"),
    *("serial", "enrolled", "masters", "on plug", "LUKS UUID"),
)
ALL: Final = "all"
DEFAULT: Final = "default"
MEANING: Final = {
    Standing.ACTIVE: "{name} is active: it counts as a backup, is backed up to, and may be advised next.",
    Standing.RETIRED: "{name} is retired: it no longer counts as a backup and is not backed up to any more; what is on "
    "it stays there. To take it back: flashback drive set {name} standing=active",
    Standing.LOST: "{name} is lost: it no longer counts as a backup, and if it turns up that is said before anything "
    "else; whoever found it needs its passphrase to read it. To take it back: flashback drive set {name} "
    "standing=active",
}
"""What each standing means, in one sentence."""


# --- the list


@dataclass(frozen=True, slots=True)
class Entry:
    """A drive, and the devices with its LUKS UUID that are plugged in: none, one, or (with a copy of it) several."""

    drive: KnownDrive
    devices: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """For scripts (docs/reference/json.md)."""
        drive = self.drive
        return {
            "name": drive.name,
            "uuid": drive.uuid,
            "standing": drive.standing.value,
            "place": drive.place,
            "size": drive.size,
            "model": drive.model,
            "serial": drive.serial,
            "enrolled": rfc3339(drive.enrolled),
            "masters": None if drive.masters is None else list(drive.masters),
            "on_plug": None if drive.on_plug is None else drive.on_plug.value,
            "passphrase": drive.passphrase,
            "plugged_in": bool(self.devices),
            "devices": list(self.devices),
        }


def inventory(run: Runner, drives: Sequence[KnownDrive]) -> tuple[Entry, ...]:
    """These drives, each with where it is plugged in. Nothing is opened."""
    volumes = block.luks_volumes(run) if drives else ()
    return tuple(Entry(drive, tuple(each.path for each in volumes if each.uuid == drive.uuid)) for drive in drives)


def as_json(entries: Sequence[Entry]) -> dict[str, Any]:
    """The body of what `drive list --json` and the commands that change something answer."""
    return {"drives": [each.as_json() for each in entries]}


def table(entries: Sequence[Entry], *, colour: bool = False, width: int | None = None) -> str:
    """The same for a person."""
    if not entries:
        return "No drive is known here yet. Prepare one: sudo flashback init /dev/sdX (`lsblk` shows which it is)."
    return render(HEADERS, [_row(each) for each in entries], colour=colour, width=width).rstrip()


def _row(entry: Entry) -> tuple[Cell, ...]:
    drive = entry.drive
    return (
        Cell(shown(drive.name)),
        Cell(drive.standing.value),
        Cell(shown(drive.place)),
        Cell(" and ".join(entry.devices)),
        Cell(size(drive.size) if drive.size else "", right=True),
        Cell(shown(drive.model)),
        Cell(shown(drive.serial)),
        Cell(rfc3339(drive.enrolled)[:10]),
        Cell(masters_text(drive)),
        Cell(on_plug_text(drive)),
        Cell(drive.uuid),
    )


def masters_text(drive: KnownDrive) -> str:
    """`all`, or the names."""
    return ALL if drive.masters is None else shown(", ".join(drive.masters))


def on_plug_text(drive: KnownDrive) -> str:
    """`default`, or what this drive has of its own."""
    return DEFAULT if drive.on_plug is None else drive.on_plug.value


# --- changing


def meant(run: Runner, known: Sequence[KnownDrive], wanted: str) -> KnownDrive:
    """The drive of this name, UUID or device; it need not be plugged in. Raises `DriveError`, `UsageError`."""
    if named(known, wanted) is None and "/" in wanted:
        return on_device(run, known, wanted).known
    return known_by_name(known, wanted)


def rename(ledger: Ledger, drive: KnownDrive, name: str) -> tuple[KnownDrive, str]:
    """The drive under its new name, and one line that says so. Raises `UsageError` for a bad or taken name."""
    if name == drive.name:
        return drive, f"{name} is called that already."
    changed = ledger.change(drive.uuid, name=name)
    return changed, (
        f"{drive.name} is called {name} from now on. The drive itself says {drive.name} until its next run; "
        "its LUKS label (what other programs show) keeps the old name."
    )


def stand(ledger: Ledger, drive: KnownDrive, standing: Standing) -> tuple[KnownDrive, str]:
    """The drive with this standing, and what that means."""
    changed = ledger.change(drive.uuid, standing=standing)
    return changed, MEANING[standing].format(name=changed.name)


def configure(ledger: Ledger, drive: KnownDrive, words: Sequence[str], masters: Masters) -> tuple[KnownDrive, str]:
    """The drive with `key=value` settings changed, and one line on how it is now.

    Raises `UsageError` with every finding; nothing is changed then.
    """
    changes = settings(words, masters)
    changed = ledger.change(drive.uuid, **changes)
    said = {
        "place": f"place is {shown(changed.place)}" if changed.place else "no place is known",
        "masters": f"it carries {masters_text(changed)} masters"
        if changed.masters is None
        else f"it carries {masters_text(changed)}",
        "on_plug": f"on_plug is {on_plug_text(changed)}",
        "passphrase": passphrase_text(changed),
    }
    lines = [text for key, text in said.items() if key in changes]
    told = f"{changed.name}: {'; '.join(lines)}." if lines else ""
    meaning = MEANING[changed.standing].format(name=changed.name) if "standing" in changes else ""
    return changed, " ".join(part for part in (told, meaning) if part)


def passphrase_text(drive: KnownDrive) -> str:
    """Where a drive's passphrase comes from, in words."""
    if drive.passphrase == source.ASK:
        return "its passphrase is asked for"
    if drive.passphrase == source.Way.KEYRING:
        return "its passphrase is kept in the desktop's keyring once it was typed there and has opened the drive"
    return f"its passphrase comes from {shown(drive.passphrase)}"


def settings(words: Sequence[str], masters: Masters) -> Changes:
    """What `key=value` words ask for. Raises `UsageError` with every finding at once."""
    changes: dict[str, Any] = {}
    findings = []
    for word in words:
        key, is_, value = word.partition("=")
        try:
            if not is_ or key not in KEYS:
                raise _Wrong(_no_setting(key, is_))
            if key in changes:
                raise _Wrong("given twice")
            changes[key] = KEYS[key](value, masters)
        except _Wrong as problem:
            findings.append(f"{shown(word)}: {problem}")
    if findings:
        raise UsageError(
            "nothing was changed", findings=findings, hint="for instance: flashback drive set red place=pocket"
        )
    return cast("Changes", changes)


class _Wrong(ValueError):
    """What is wrong with one word."""


def _no_setting(key: str, is_: str) -> str:
    if not is_ and key in KEYS:
        return f"the form is {key}=VALUE"
    near = did_you_mean(key, KEYS) or f"; there are {', '.join(KEYS)}"
    return f"there is no setting {quoted(key)}{near}"


def _place(value: str, _masters: Masters) -> str:
    if not valid_place(value):
        raise _Wrong(f"a place is one short line, up to {LONGEST_PLACE} characters, such as: home, pocket, offsite")
    return value


def _masters(value: str, masters: Masters) -> tuple[str, ...] | None:
    if value == ALL:
        return None
    bare = value[1:-1] if value.startswith("[") and value.endswith("]") else value
    names = tuple(dict.fromkeys(part.strip() for part in bare.split(",") if part.strip()))
    if not names:
        raise _Wrong("which masters? masters=all, or names with commas between them")
    known = masters()
    wrong = [problem for name in names if (problem := _no_master(name, known))]
    if wrong:
        raise _Wrong("; ".join(wrong))
    return names


def _no_master(name: str, known: Sequence[str] | None) -> str:
    if known is None:
        return "" if valid_name(name) else f"{quoted(name)} cannot be a master's name"
    if name in known:
        return ""
    near = did_you_mean(name, known) or f" (it has {', '.join(known)})"
    return f"the configuration has no master {quoted(name)}{near}"


def _on_plug(value: str, _masters: Masters) -> OnPlug | None:
    return None if value == DEFAULT else OnPlug(_one_of(value, [*OnPlug, DEFAULT]))


def _passphrase(value: str, _masters: Masters) -> str:
    try:
        parsed = source.parse(value)
    except ValueError as problem:
        raise _Wrong(str(problem)) from problem
    if parsed.way is source.Way.KEYRING and not secret_service.installed():
        raise secret_service.needed()
    return value


def _standing(value: str, _masters: Masters) -> Standing:
    return Standing(_one_of(value, list(Standing)))


def _one_of(value: str, known: Sequence[str]) -> str:
    if value not in known:
        raise _Wrong(f"expected {', '.join(known[:-1])} or {known[-1]}{did_you_mean(value, known)}")
    return value


KEYS: Final[dict[str, Callable[[str, Masters], object]]] = {
    "place": _place,
    "masters": _masters,
    "on_plug": _on_plug,
    "passphrase": _passphrase,
    "standing": _standing,
}
"""What `drive set` takes, and how each value is read."""
