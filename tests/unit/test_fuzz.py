"""The targets of the fuzzer, without it: their seeds, changes of these by a dice, and all that was ever found."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.fuzz.targets import TARGETS

FOUND = Path(__file__).resolve().parents[1] / "fuzz/found"
CHANGES = 150


def changed(seed: bytes, words: tuple[bytes, ...], dice: random.Random) -> bytes:
    """A few bytes otherwise, gone, doubled, or words put in."""
    data = bytearray(seed)
    for _ in range(dice.randrange(1, 5)):
        at = dice.randrange(len(data) + 1)
        match dice.randrange(4):
            case 0:
                data[at : at + 1] = bytes([dice.randrange(256)])
            case 1:
                del data[at : at + dice.randrange(1, 9)]
            case 2:
                data[at:at] = dice.choice([*words, b"\0", b"\xff", b"9" * 20])
            case _:
                data[at:at] = data[at : at + dice.randrange(1, 40)]
    return bytes(data)


@pytest.mark.parametrize("name", TARGETS)
def test_hostile_bytes_are_refused_or_harmless(name: str) -> None:
    target, dice = TARGETS[name], random.Random(name)
    seeds = target.seeds()
    for seed in (b"", *seeds):
        target.run(seed)
    for _ in range(CHANGES):
        data = changed(dice.choice(seeds), target.words, dice)
        try:
            target.run(data)
        except BaseException as problem:
            problem.add_note(f"with {data!r}")
            raise


@pytest.mark.parametrize("file", sorted(FOUND.glob("*/*")), ids=lambda file: f"{file.parent.name}/{file.name}")
def test_what_was_found_once_does_no_harm_any_more(file: Path) -> None:
    TARGETS[file.parent.name].run(file.read_bytes())
