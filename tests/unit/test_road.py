"""By which road a master is read, and that every doubt takes the ordinary one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from flashback.config.values import Master, Rule, Symlinks
from flashback.walk import road
from flashback.walk.reader import Owner
from flashback.walk.road import Facts, Looked, Now, Remembered, doubt, obstacle

THEN = Remembered(
    subvolume="u", transaction=7, root=300, token="t", how="h", catalogue=(1, 2, 3), entries=10, unsure=[b"a"]
)
NOW = Now(subvolume="u", transaction=9, root=300, token="t", how="h", catalogue=(1, 2, 3))


def test_a_snapshot_is_taken_where_nothing_speaks_against_it() -> None:
    assert obstacle(Facts()) == ""


@pytest.mark.parametrize(
    ("facts", "why"),
    [
        (Facts(wanted=False), "`btrfs: never`"),
        (Facts(on_btrfs=False), "not on Btrfs"),
        (Facts(private=False), "mount namespace"),
        (Facts(whole=False), "top of its subvolume"),
        (Facts(writable=False), "cannot be written to"),
        (Facts(mounts=("/home/a/mnt",)), "mounted in it: /home/a/mnt"),
        (Facts(subvolumes=("cache",)), "another subvolume lies in it: cache"),
        (Facts(ours=("/var/lib/flashback",)), "its own files in it: /var/lib/flashback"),
        (Facts(masters=("photos",)), "another master lie in each other: photos"),
        (Facts(folder=False), "dry run"),
    ],
)
def test_whatever_a_snapshot_would_not_have_stands_against_one(facts: Facts, why: str) -> None:
    assert why in obstacle(facts)


def test_what_was_written_since_will_do_where_everything_fits() -> None:
    assert doubt(THEN, NOW) == ""


@pytest.mark.parametrize(
    "now",
    [
        replace(NOW, subvolume="other"),
        replace(NOW, root=301),
        replace(NOW, token=""),
        replace(NOW, token="other"),
        replace(NOW, transaction=6),
        replace(NOW, how="other"),
        replace(NOW, how=""),
        replace(NOW, catalogue=(1, 2, 4)),
    ],
)
def test_whatever_does_not_fit_has_the_whole_master_walked(now: Now) -> None:
    assert doubt(THEN, now)


@pytest.mark.parametrize(
    "then",
    [
        None,
        msgspec.structs.replace(THEN, v=0),
        msgspec.structs.replace(THEN, transaction=0),
        msgspec.structs.replace(THEN, token=""),
    ],
)
def test_a_memory_that_makes_no_sense_has_the_whole_master_walked(then) -> None:
    assert doubt(then, replace(NOW, token=""))


def test_rules_owner_links_place_and_program_each_change_what_a_walk_finds() -> None:
    master, owner = Master("docs", Path("/home/a")), Owner("root", 0, 0)
    said = [
        road.how(master, owner, b"a", "1"),
        road.how(replace(master, rules=(Rule(b"x"),)), owner, b"a", "1"),
        road.how(replace(master, rules=(Rule(b"x", include=True),)), owner, b"a", "1"),
        road.how(replace(master, symlinks=Symlinks.KEEP), owner, b"a", "1"),
        road.how(replace(master, path=Path("/home/b")), owner, b"a", "1"),
        road.how(master, Owner("nobody", 65534, 65534), b"a", "1"),
        road.how(master, owner, b"b", "1"),
        road.how(master, owner, b"a", "2"),
    ]
    assert len(set(said)) == len(said)
    assert all(said)


def test_what_is_remembered_is_recalled_and_nothing_else_is(tmp_path: Path) -> None:
    file = tmp_path / "docs.changes"
    assert road.recall(file) is None
    road.remember(file, THEN)
    assert road.recall(file) == THEN
    assert file.stat().st_mode & 0o777 == 0o600
    whole = file.read_bytes()
    for length in range(len(whole)):
        file.write_bytes(whole[:length])
        assert road.recall(file) is None


def test_too_many_uncertain_places_are_not_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(road, "MOST_UNSURE", 2)
    looked = Looked()
    for name in (b"a", b"b", b"b"):
        looked.add(name)
    assert not looked.too_many
    looked.add(b"c")
    looked.add(b"d")
    assert looked.too_many
