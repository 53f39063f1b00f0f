"""A drive's configuration on a machine that has none: shown, asked about, and never written where a drive says."""

from __future__ import annotations

from pathlib import Path

import pytest

from flashback.drive.configuration import Index
from flashback.prepare.take_over import Taken, plan, take_over
from tests.unit.test_prepare_adopt import Asker

YAML = b"masters: {documents: {path: /home/alice/Documents}}\n"
FILES = {"flashback.yaml": YAML, "exclusions.txt": b"*.o\n*.tmp\n"}
INDEX = Index(
    "flashback.yaml",
    {"flashback.yaml": "/etc/flashback/flashback.yaml", "exclusions.txt": "/etc/flashback/exclusions.txt"},
)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "etc/flashback.yaml"


def take(
    config: Path, *, asker: Asker | None = None, yes: bool = False, files=FILES, index: Index | None = INDEX
) -> Taken:
    return take_over(config, "red", files, index, asker=asker, yes=yes)


def names(config: Path) -> list[str]:
    return sorted(str(each.relative_to(config.parent)) for each in config.parent.rglob("*") if each.is_file())


def test_a_person_sees_all_of_it_before_they_are_asked(config: Path) -> None:
    asker = Asker(yes=True)
    take(config, asker=asker)
    assert "/home/alice/Documents" in asker.shown[0]
    assert "exclusions.txt: 2 lines of exclusions" in asker.shown[0]


def test_after_yes_it_is_in_force(config: Path) -> None:
    taken = take(config, asker=Asker(yes=True))
    assert taken.in_force == (config, config.with_name("exclusions.txt"))
    assert config.read_bytes() == YAML
    assert config.stat().st_mode & 0o777 == 0o644


def test_after_no_it_lies_beside(config: Path) -> None:
    assert take(config, asker=Asker(yes=False)).in_force == ()
    assert names(config) == ["exclusions.txt.from-red", "flashback.yaml.from-red"]


def test_a_script_has_to_say_so(config: Path) -> None:
    assert take(config).in_force == ()
    assert take(config, yes=True).in_force[0] == config


def test_what_exists_is_not_replaced(config: Path) -> None:
    config.parent.mkdir()
    config.write_bytes(b"mine")
    assert take(config, yes=True) == Taken()
    config.unlink()
    config.with_name("exclusions.txt").write_bytes(b"mine")
    assert take(config, yes=True).in_force == (config,)
    assert config.with_name("exclusions.txt").read_bytes() == b"mine"


def test_the_drives_version_of_a_file_that_exists_is_put_beside_it(config: Path) -> None:
    config.parent.mkdir()
    config.with_name("exclusions.txt").write_bytes(b"mine")
    taken = take(config, yes=True)
    assert taken == Taken((config,), (config.with_name("exclusions.txt.from-red"),))
    assert taken.beside[0].read_bytes() == FILES["exclusions.txt"]


def test_one_that_exists_and_is_the_same_is_not_put_beside(config: Path) -> None:
    config.parent.mkdir()
    config.with_name("exclusions.txt").write_bytes(FILES["exclusions.txt"])
    assert take(config, yes=True) == Taken((config,))


def test_a_link_in_the_place_of_the_configuration_is_not_followed(config: Path, tmp_path: Path) -> None:
    config.parent.mkdir()
    config.symlink_to(tmp_path / "elsewhere")
    take(config, yes=True)
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize(
    "origin", ["/etc/cron.d/exclusions.txt", "/etc/flashback/../cron.d/x", "/etc/flashback/.ssh/x", "/etc/flashback"]
)
def test_a_file_from_elsewhere_is_put_beside_whatever_the_drive_says(config: Path, origin: str) -> None:
    index = Index("flashback.yaml", {**INDEX.origins, "exclusions.txt": origin})
    assert take(config, yes=True, index=index).beside == (config.with_name("exclusions.txt.from-red"),)
    assert names(config) == ["exclusions.txt.from-red", "flashback.yaml"]


def test_a_folder_below_the_configurations_is_kept(config: Path) -> None:
    index = Index("flashback.yaml", {**INDEX.origins, "exclusions.txt": "/etc/flashback/rules/photos.txt"})
    take(config, yes=True, index=index)
    assert names(config) == ["flashback.yaml", "rules/photos.txt"]


def test_a_drive_of_an_older_flashback_has_no_index(config: Path) -> None:
    assert len(take(config, yes=True, index=None).in_force) == 2


def test_without_a_configuration_among_the_files_nothing_comes_into_force() -> None:
    assert plan(Path("/etc/flashback/flashback.yaml"), {"exclusions.txt": b""}, None) is None


def test_what_the_index_does_not_name_is_left_where_it_is(config: Path) -> None:
    take(config, yes=True, files={**FILES, "old.txt": b"old"})
    assert names(config) == ["exclusions.txt", "flashback.yaml"]
