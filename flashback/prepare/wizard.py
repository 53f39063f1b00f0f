"""The questions of `init`: at most six for a first drive, two for each further one; every answer is also an option."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from flashback.core.errors import UsageError
from flashback.core.secret import Secret
from flashback.core.text import shown
from flashback.prepare.ask import Ask
from flashback.prepare.examine import Examined
from flashback.prepare.names import suggestion
from flashback.prepare.passphrase import new_passphrase
from flashback.prepare.recovery import new_recovery_key
from flashback.prepare.request import InitRequest
from flashback.rotation.values import valid_name
from flashback.tools.cryptsetup import Kdf

WORD: Final = "erase"


@dataclass(frozen=True, slots=True)
class Given:
    """What the command line said already; `None`: not said. `asker` is `None` for a script: nothing may be asked.

    `likely_master` is what the question for the directory proposes.
    """

    name: str | None = None
    master: Path | None = None
    erase: bool = False
    passphrase: Secret | None = field(default=None, repr=False)
    recovery_key: bool | None = None
    whole_device: bool = False
    asker: Ask | None = None
    likely_master: Path | None = None


def settle(examined: Examined, given: Given, *, taken: Collection[str], configured: bool, kdf: Kdf) -> InitRequest:
    """Ask for what the command line left open. `taken`: names in use; `configured`: there is a configuration already.

    Raises `UsageError` for a bad answer on the command line, and where a script left something open.
    """
    if given.asker is not None:
        given.asker.show("\n".join(examined.lines()))
    master = None if configured else _master(given)
    name = _name(given, taken, first=not taken)
    _permission(examined, given)
    passphrase = _passphrase(given, name)
    wants_key = given.recovery_key if given.recovery_key is not None else given.asker is not None
    return InitRequest(
        examined=examined,
        name=name,
        passphrase=passphrase,
        recovery_key=new_recovery_key() if wants_key else None,
        first_master=master,
        whole_device=given.whole_device,
        kdf=kdf,
    )


def bad_master(path: str) -> str | None:
    """What is wrong with a directory that is to be backed up, or `None`."""
    place = Path(path).expanduser()
    if not place.is_absolute():
        return "please give the whole path, beginning with /"
    return None if place.is_dir() else f"there is no directory {shown(path)}"


def bad_name(name: str, taken: Collection[str]) -> str | None:
    """What is wrong with a name, or `None`."""
    if not valid_name(name):
        return "a name has 1 to 32 letters, digits, - and _, and begins with a letter or digit"
    if name.casefold() in {each.casefold() for each in taken}:
        return f"there is a drive called {name} already"
    return None


def _master(given: Given) -> Path:
    if given.master is not None:
        if problem := bad_master(str(given.master)):
            raise UsageError(f"--master {shown(str(given.master))}: {problem}")
        return given.master.expanduser()
    asker = _asker(given, "--master", "which directory is to be backed up")
    guess = str(given.likely_master) if given.likely_master is not None else ""
    return Path(asker.text("Which directory shall be backed up?", default=guess, check=bad_master)).expanduser()


def _name(given: Given, taken: Collection[str], *, first: bool) -> str:
    if given.name is not None:
        if problem := bad_name(given.name, taken):
            raise UsageError(f"--name {shown(given.name)}: {problem}")
        return given.name
    proposal = suggestion(taken)
    if given.asker is None or not first:
        if given.asker is not None:
            given.asker.show(f"It will be called {proposal} (another name: --name).")
        return proposal
    return given.asker.text("What shall this drive be called?", default=proposal, check=lambda n: bad_name(n, taken))


def _permission(examined: Examined, given: Given) -> None:
    """Nothing is erased unless the word was typed, or `--erase` said so."""
    if given.erase:
        return
    if given.asker is None:
        _refuse_script(examined)
        return
    if examined.known is not None:
        given.asker.show(f"This is {examined.known.name}, a drive of this machine's rotation, with its backups!")
    if not examined.carries_drive:
        given.asker.show("It does not look like a drive that is carried about. Look twice: is it the right one?")
    what = (
        "Nothing was found on it. To format it" if examined.is_blank else "EVERYTHING on it will be lost. To erase it"
    )
    answer = given.asker.text(f"{what}, type the word {WORD}:")
    if answer.strip().casefold() != WORD:
        raise UsageError(
            "the word was not typed, so nothing was changed", hint="run the same command again when you like"
        )


def _refuse_script(examined: Examined) -> None:
    """A script must say `--erase` where a person would look twice (DESIGN 7.1)."""
    if not examined.is_blank:
        raise UsageError(
            f"{examined.device.path} holds data: {'; '.join(examined.contents)}",
            hint="if all of it may be erased, say so with --erase",
        )
    if not examined.carries_drive:
        raise UsageError(
            f"{examined.device.path} does not look like a drive that is carried about",
            hint="if it is the right device, say so with --erase",
        )


def _passphrase(given: Given, name: str) -> Secret:
    if given.passphrase is not None:
        return given.passphrase
    asker = _asker(given, "--passphrase-file", "the passphrase")
    return new_passphrase(asker, about=(name, "flashback"))


def _asker(given: Given, option: str, what: str) -> Ask:
    if given.asker is None:
        raise UsageError(f"{what} was not said, and there is nobody to ask", hint=f"say it with {option}")
    return given.asker
