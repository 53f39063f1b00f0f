"""Look for bytes that break a parser, by the code that they reach: `python -m tests.fuzz [--seconds N] [TARGET...]`

Needs atheris (the dependency group `fuzz`). Each target has a process of its own, with a limit of memory and of time
for one input. What was tried and reached something new is kept in build/fuzz/TARGET; what broke lies in
tests/fuzz/found/TARGET and is from then on part of tests/unit/test_fuzz.py.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
CORPUS = TOP / "build/fuzz"
FOUND = TOP / "tests/fuzz/found"
MEMORY = 1024
"""MiB that a target may take."""
SLOW = 10
"""Seconds within which an input is dealt with; the fuzzer itself slows everything some ten times."""


def main() -> int:
    from tests.fuzz.targets import TARGETS

    words = argparse.ArgumentParser(prog="python -m tests.fuzz", description="fuzz the parsers by coverage")
    words.add_argument("targets", nargs="*", metavar="TARGET", help=f"all, or some of: {', '.join(TARGETS)}")
    words.add_argument("--seconds", type=int, default=60, help="for each target (default: 60)")
    words.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    given = words.parse_args()
    if unknown := set(given.targets) - set(TARGETS):
        words.error(f"no such target: {', '.join(sorted(unknown))}")
    if given.one:
        _fuzz(given.targets[0], given.seconds)
        return 0
    broken = [name for name in given.targets or TARGETS if _apart(name, given.seconds)]
    for name in broken:
        print(f"{name}: something was found, see {FOUND / name}")
    return 1 if broken else 0


def _apart(name: str, seconds: int) -> int:
    print(f"--- {name}, {seconds} s", flush=True)
    argv = [sys.executable, "-m", "tests.fuzz", "--one", "--seconds", str(seconds), name]
    return subprocess.run(argv, cwd=TOP, check=False).returncode


def _fuzz(name: str, seconds: int) -> None:
    import atheris  # type: ignore[import-not-found, unused-ignore]

    with atheris.instrument_imports(include=["flashback", "yaml", "json"]):
        for room in [each for each in sys.modules if each.split(".")[0] in {"flashback", "yaml"}]:
            del sys.modules[room]
        del sys.modules["tests.fuzz.targets"]
        from tests.fuzz.targets import TARGETS
    target = TARGETS[name]
    corpus, found = CORPUS / name, FOUND / name
    for folder in (corpus, found):
        folder.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(target.seeds()):
        (corpus / f"seed-{number}").write_bytes(seed)
    dictionary = corpus.with_suffix(".words")
    dictionary.write_text("".join(f'"{_hex(word)}"\n' for word in target.words))
    atheris.Setup(
        [
            sys.argv[0],
            str(corpus),
            f"-max_total_time={seconds}",
            f"-rss_limit_mb={MEMORY}",
            f"-timeout={SLOW}",
            "-max_len=65536",
            "-print_final_stats=1",
            "-verbosity=0",
            *([f"-dict={dictionary}"] if target.words else []),
            f"-artifact_prefix={found}/",
        ],
        target.run,
    )
    atheris.Fuzz()


def _hex(word: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in word)


if __name__ == "__main__":
    sys.exit(main())
