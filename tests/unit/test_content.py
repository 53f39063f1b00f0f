"""Whether a file is still what it was, by a few blocks of it."""

from __future__ import annotations

import base64
import os
import random
import zlib
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flashback.compare import inspect
from flashback.compare.inspect import ENOUGH, _starts, concluded
from flashback.compare.tally import Counts, Sample
from flashback.walk.content import BLOCK, SHORTEST, Damage, Look, damage, damages, is_noise, is_sound, look


def noise(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


TEXT = b"the boat came back to the harbour before the rain, and nobody had asked. " * 400
JPEG = b"\xff\xd8\xff\xe1" + noise(29_994) + b"\xff\xd9"


def seen(content: bytes, path: bytes = b"a") -> Look:
    return look(path, len(content), *(content[start : start + BLOCK] for start in _starts(len(content))))


@given(st.integers(256, BLOCK), st.integers(0, 2**32))
def test_random_bytes_of_any_length_are_noise(size, seed) -> None:
    assert is_noise(noise(size, seed))


@given(st.integers(0, len(TEXT) - BLOCK), st.integers(0, BLOCK))
def test_text_is_never_noise(start, size) -> None:
    assert not is_noise(TEXT[start : start + size])


def test_compressed_bytes_are_noise_and_their_kind_is_what_tells() -> None:
    packed = zlib.compress(b"".join(b"%d" % (n * n * 7919) for n in range(9000)))
    assert seen(packed).noise[0]
    assert seen(packed).kind


def test_noise_written_as_base64_is_noise_and_a_letter_in_base64_lines_is_not() -> None:
    assert is_noise(base64.b64encode(noise(3000)))
    assert not is_noise(b"QUFBQUFBQUFB\n" * 90)


@pytest.mark.parametrize("size", [0, 1, SHORTEST - 1])
def test_of_a_few_bytes_nothing_is_said(size) -> None:
    assert not is_noise(noise(size))
    assert damage(seen(noise(size)), seen(noise(size, 2))) is None


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        (TEXT, noise(len(TEXT)), Damage.SCRAMBLED),
        (JPEG, noise(len(JPEG)), Damage.SCRAMBLED),
        (TEXT, TEXT[:BLOCK] + noise(len(TEXT) - BLOCK), Damage.SCRAMBLED),
        (JPEG, JPEG[:-20] + noise(500, 3), Damage.SCRAMBLED),
        (JPEG, JPEG[:BLOCK] + noise(len(JPEG) - BLOCK, 4), Damage.SCRAMBLED),
        (TEXT, base64.b64encode(noise(9000)), Damage.SCRAMBLED),
        (TEXT, bytes(len(TEXT)), Damage.BLANKED),
        (JPEG, b"\xff" * 100, Damage.BLANKED),
        (TEXT, TEXT[: len(TEXT) // 3], Damage.CUT),
        (JPEG, JPEG[: len(JPEG) // 2], Damage.CUT),
    ],
)
def test_damage_is_seen(old, new, what) -> None:
    assert damage(seen(old), seen(new)) is what


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (TEXT, TEXT),
        (TEXT, TEXT[::-1]),
        (TEXT, TEXT + b"and more"),
        (TEXT, JPEG),
        (JPEG, b"\xff\xd8\xff\xe0" + noise(20_000, 5) + b"\xff\xd9"),
        (JPEG, JPEG[:40] + b"<rating>5</rating>" + JPEG[40:]),
        (noise(9000), noise(9000, 2)),
        (noise(9000), TEXT),
        (bytes(9000), noise(9000)),
        (TEXT, b"quite another, shorter letter " * 40),
        (TEXT[:2000], TEXT[:500]),
    ],
)
def test_what_people_and_programs_do_is_no_damage(old, new) -> None:
    assert damage(seen(old), seen(new)) is None


@given(st.binary(max_size=3 * BLOCK), st.binary(max_size=3 * BLOCK))
def test_any_two_contents_are_judged_without_an_error_and_what_is_equal_is_sound(old, new) -> None:
    damage(seen(old), seen(new))
    assert damage(seen(old), seen(old)) is None


def test_files_that_all_become_the_same_are_seen_together() -> None:
    pairs = [(seen(TEXT[n:]), seen(b"you were here " * 99)) for n in range(5)]
    assert damages(pairs) == [Damage.SAME] * 5


def test_files_that_were_the_same_and_still_are_have_not_been_replaced() -> None:
    assert damages([(seen(TEXT), seen(TEXT + b"x"))] * 5) == [None] * 5


def sample_of(bad: int, good: int, count: int) -> tuple[Counts, dict[bytes, Look], dict[bytes, Look]]:
    paths = [b"%d" % n for n in range(bad + good)]
    old = {path: seen(TEXT[n:], path) for n, path in enumerate(paths)}
    new = {path: seen(noise(9000, n) if n < bad else TEXT[n + 9 :], path) for n, path in enumerate(paths)}
    sample = Sample(count, tuple((path, path) for path in paths))
    return Counts(samples=(sample, Sample(), Sample(), Sample())), old, new


def test_the_share_of_a_sample_is_taken_for_the_share_of_all() -> None:
    found = concluded(*sample_of(10, 10, 5000))
    assert (found.damaged, found.how, len(found.examples)) == (2500, (Damage.SCRAMBLED,), 3)


@pytest.mark.parametrize(("bad", "good"), [(ENOUGH - 1, 0), (7, 33)])
def test_from_a_few_nothing_is_concluded(bad, good) -> None:
    assert concluded(*sample_of(bad, good, 5000)).damaged == 0


def test_what_could_not_be_read_says_nothing() -> None:
    counts, old, _new = sample_of(10, 0, 10)
    assert concluded(counts, old, {}).damaged == 0
    assert concluded(counts, {}, {}).sound == 1.0


SEALED = [JPEG, JPEG[:9000], JPEG[:-20], JPEG[: 3 * BLOCK] + noise(9000), b"PK\3\4" + TEXT]
OTHERS = [TEXT, TEXT[:9000], TEXT[:4000], TEXT[:BLOCK] + noise(9000), noise(9000), noise(300), bytes(9000), b""]
CONTENTS = st.sampled_from([*SEALED, *OTHERS, base64.b64encode(noise(9000))])


@given(CONTENTS, CONTENTS)
def test_what_is_sound_was_not_damaged_whatever_it_was_before(old, new) -> None:
    if is_sound(seen(new), len(old)):
        assert damage(seen(old), seen(new)) is None


def test_the_drive_is_read_only_where_what_the_master_has_leaves_doubt(tmp_path) -> None:
    contents = {b"plain": TEXT, b"noise": noise(9000), b"cut": TEXT[:5000], b"picture": JPEG, b"gone": TEXT}
    for name in contents:
        (tmp_path / name.decode()).write_bytes(TEXT)
    (tmp_path / "gone").unlink()
    same = {b"same %d" % number: TEXT[:20_000] for number in range(ENOUGH)}
    for name in same:
        (tmp_path / name.decode()).write_bytes(TEXT)
    new = {path: seen(content, path) for path, content in {**contents, **same}.items()}
    counts = Counts(samples=(Sample(len(new), tuple((path, path) for path in new)),))
    current = os.open(tmp_path, os.O_RDONLY)
    try:
        with patch.object(inspect, "_looked", side_effect=inspect._looked) as read:
            found = inspect._old(counts, new, current)
    finally:
        os.close(current)
    assert {call.args[1] for call in read.call_args_list} == {b"noise", b"cut", b"picture", *same}
    assert found.keys() == new.keys() - {b"gone"}
    assert found[b"plain"] is new[b"plain"]
