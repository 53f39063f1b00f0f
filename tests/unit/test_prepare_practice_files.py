"""The files of the rehearsal are such as people have, and a difference between two trees is seen."""

from __future__ import annotations

import os
import shutil

import pytest

from flashback.prepare import practice_files


@pytest.fixture(scope="module")
def pristine(tmp_path_factory):
    """Made once: it has 40 MB. Tests that change something work on hard links of their own."""
    master = tmp_path_factory.mktemp("practice") / "Documents"
    practice_files.make(master)
    return master


@pytest.fixture
def small(tmp_path):
    """Two equal trees."""
    one, other = tmp_path / "one", tmp_path / "other"
    (one / "folder").mkdir(parents=True)
    (one / "folder/file").write_text("content")
    (one / "link").symlink_to(one / "folder/file")
    (one / "dangling").symlink_to("nowhere")
    shutil.copytree(one, other, symlinks=False, ignore_dangling_symlinks=True)
    return one, other


def test_it_is_the_same_each_time(pristine, tmp_path) -> None:
    practice_files.make(tmp_path / "again")
    again = practice_files.census(tmp_path / "again")
    assert again == practice_files.census(pristine)


def test_it_holds_what_backups_stumble_over(pristine) -> None:
    names = {path.name for path in pristine.rglob("*")}
    assert {"two\nlines", "-dash", "#hash", "100% (final) [2].txt", "sparse.img", "dangling"} <= names


def test_it_holds_a_file_with_two_names(pristine) -> None:
    assert (pristine / "links/the same page.md").stat().st_nlink == 2


def test_the_precious_file_is_there(pristine) -> None:
    assert (pristine / practice_files.PRECIOUS).read_text()


def test_a_day_of_work_adds_changes_renames_and_deletes(tmp_path) -> None:
    master = tmp_path / "Documents"
    practice_files.make(master)
    before = {path.relative_to(master).as_posix() for path in master.rglob("*")}
    page = (master / "projects/bicycle/page 3.md").read_text()
    practice_files.a_day_of_work(master)
    after = {path.relative_to(master).as_posix() for path in master.rglob("*")}
    assert "projects/radio/page 20.md" in after - before
    assert "projects/boat/page 5.md" in before - after
    assert "letters/from 2023" in after - before
    assert (master / "projects/bicycle/page 3.md").read_text() != page


def test_equal_trees_do_not_differ(small) -> None:
    assert practice_files.differences(*small) == []


def owner(copy) -> None:
    os.chown(copy / "folder/file", 12, 12)


AS_ROOT = [pytest.param(owner, "folder/file", id="owner")] if os.geteuid() == 0 else []


def content(copy) -> None:
    status = (copy / "folder/file").stat()
    (copy / "folder/file").write_text("CONTENT")
    os.utime(copy / "folder/file", ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.mark.parametrize(
    ("change", "name"),
    [
        pytest.param(content, "folder/file", id="content"),
        pytest.param(lambda copy: (copy / "folder/file").chmod(0o600), "folder/file", id="mode"),
        pytest.param(lambda copy: os.utime(copy / "folder/file", (1, 1)), "folder/file", id="time"),
        *AS_ROOT,
        pytest.param(lambda copy: (copy / "folder/file").unlink(), "folder/file", id="missing"),
        pytest.param(lambda copy: (copy / "new").write_text(""), "new", id="too much"),
    ],
)
def test_a_difference_is_seen(small, change, name) -> None:
    one, other = small
    (one / "folder/file").chmod(0o644)
    (other / "folder/file").chmod(0o644)
    change(other)
    assert name in practice_files.differences(one, other)
