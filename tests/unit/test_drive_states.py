"""What a drive says that it holds of masters is a stranger's word, too."""

from __future__ import annotations

import os
from pathlib import Path

from flashback.drive import states

ODD = (b"\xff", b"--delete", b"a\nb", b"\x1b[2J", b"..x", b".flashback", b"lost+found", b"with blank")


def test_a_folder_that_no_master_can_be_called_is_none(tmp_path: Path) -> None:
    """Flashback never made it; a name that is no text would otherwise end in an error of its own."""
    for name in (b"documents", *ODD):
        os.makedirs(os.path.join(os.fsencode(tmp_path), name, b"current"))
    root = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        assert states.masters_on(root) == ("documents",)
    finally:
        os.close(root)


def test_a_folder_with_nothing_of_a_master_in_it_is_none(tmp_path: Path) -> None:
    (tmp_path / "documents").mkdir()
    root = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        assert states.masters_on(root) == ()
    finally:
        os.close(root)
