"""The front door: every command goes through here, every error becomes sentences and an exit code here."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from flashback.core.events import Event, Note
from flashback.tell import Teller, Verbosity

if TYPE_CHECKING:
    from flashback.app import App
    from flashback.core.context import Context
    from flashback.drive.recognise import Candidate
    from flashback.rotation.ledger import Ledger

Config = Annotated[Path | None, typer.Option("--config", help="The configuration. [env: FLASHBACK_CONFIG]")]
State = Annotated[Path | None, typer.Option("--state", help="Where this machine's memory lies. [env: FLASHBACK_STATE]")]
Json = Annotated[bool, typer.Option("--json", help="Answer in JSON (docs/reference/json.md).")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Say more: every remark, the trace of an error.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say less: problems and the last line.")]
PassphraseFile = Annotated[
    str | None,
    typer.Option("--passphrase-file", metavar="FILE", help="Read the passphrase from FILE (- is standard input)."),
]
Drive = Annotated[str | None, typer.Argument(metavar="DRIVE", help="A drive's name, LUKS UUID or device.")]


def examples(*rows: tuple[str, str], then: str = "") -> str:
    """Return an epilogue for --help: commands with what they are for, in lines that click does not wrap anew."""
    lines = [line for command, what in rows for line in (f"  {command}", f"      {what}")]
    return "\b\n" + "\n".join(["Examples:", *lines]) + (f"\n\n{then}" if then else "")


def enter(
    work: Callable[[App], int],
    *,
    config: Path | None,
    state: Path | None,
    json: bool = False,
    verbose: bool = False,
    quiet: bool = False,
    passphrase_file: str | None = None,
) -> None:
    """Do the work in a wired world and end with its exit code; explain whatever it raises."""
    from flashback.app import App, Settings
    from flashback.core.errors import FlashbackError
    from flashback.core.signals import Interrupted

    verbosity = Verbosity.VERBOSE if verbose else Verbosity.QUIET if quiet else Verbosity.NORMAL
    settings = Settings(config, state, verbosity, json, passphrase_file)
    app = App(settings)
    try:
        with app.signals:
            code = work(app)
    except (FlashbackError, Interrupted) as error:
        code = explain(error, app)
    except typer.Exit:
        raise
    except BrokenPipeError:
        code = _nobody_listens()
    except Exception as error:  # noqa: BLE001 - the front door: what nobody expected is told as such
        code = explain(error, app)
    except KeyboardInterrupt as stopped:
        from signal import SIGINT

        interrupted = Interrupted(SIGINT)
        interrupted.__cause__ = stopped  # which may know the state of the drive
        code = explain(interrupted, app)
    raise typer.Exit(code)


def _nobody_listens() -> int:
    """Whoever read our answer has gone (`| head`): end without a word, as other programs do."""
    import os
    from signal import SIGPIPE

    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 128 + SIGPIPE


def explain(error: BaseException, app: App) -> int:
    """Tell a person on standard error, a script on standard output; return the exit code."""
    from flashback.tell.explain import explain as explained
    from flashback.tell.explain import finished
    from flashback.tell.jsonlines import JsonTeller

    verbose = app.settings.verbosity is Verbosity.VERBOSE
    explanation = explained(error, verbose=verbose)
    if app.settings.json:
        JsonTeller(sys.stdout, clock=app.clock)(finished(explanation, ""))
    else:
        from flashback.core.text import folded

        utf8 = (sys.stderr.encoding or "").lower().replace("-", "") == "utf8"
        for line in explanation.lines(utf8=utf8):
            print(folded(line, width(sys.stderr)), file=sys.stderr)  # noqa: T201 - this is where people are told
    return explanation.exit_code


def teller(app: App) -> Teller:
    """Who tells the events: JSON lines, a live terminal, or plain lines."""
    from flashback.app import wants_colour

    if app.settings.json:
        from flashback.tell.jsonlines import JsonTeller

        return JsonTeller(sys.stdout, clock=app.clock)
    if sys.stdout.isatty():
        from flashback.tell.terminal import TerminalTeller

        return TerminalTeller(sys.stdout, colour=wants_colour(), verbosity=app.settings.verbosity)
    from flashback.tell.plain import PlainTeller

    return PlainTeller(sys.stdout, verbosity=app.settings.verbosity)


def chosen(context: Context, app: App, ledger: Ledger, wanted: str | None) -> Candidate:
    """The drive that is meant: the one that was named, else the one that is plugged in; a person is asked."""
    from flashback.drive.choose import choose

    return choose(context, ledger.drives(), wanted, ask=_choice if app.interactive else None, wait=False)


def _choice(names: Sequence[str]) -> str:
    from flashback.prepare.ask import Terminal

    return Terminal(say).choose("Which drive?", names)


def notes(app: App) -> Callable[[Event], None]:
    """Who tells the notes of a command whose answer is its own text: standard error."""

    def tell(event: Event) -> None:
        if isinstance(event, Note) and not app.settings.json:
            print(event.text, file=sys.stderr)  # noqa: T201 - where people are told

    return tell


def say(text: str) -> None:
    """Print to standard output; what is not UTF-8 in a name goes out as the bytes it was."""
    print(text, flush=True)  # noqa: T201 - the one place where a command answers


def say_sentences(text: str) -> None:
    """The same for sentences: on a terminal lines are broken between words."""
    from flashback.core.text import folded

    say(folded(text, width()))


def width(stream: TextIO | None = None) -> int | None:
    """Columns of the terminal; `None` where `stream` (standard output) is none."""
    import os

    stream = stream or sys.stdout
    return (os.get_terminal_size(stream.fileno()).columns or None) if stream.isatty() else None


def say_json(kind: str, body: dict[str, Any]) -> None:
    """Answer a script with one object."""
    from flashback.tell.jsonlines import one_object

    say(one_object(kind, body))
