"""wipefs and sfdisk on real loop devices and image files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from flashback.core.command import Programs
from flashback.core.errors import DriveError
from flashback.tools import partition
from tests.conftest import run
from tests.tools.conftest import UUID, with_luks


def test_nothing_is_recognised_on_a_blank_device(loop: str, programs: Programs) -> None:
    assert partition.contents(programs, loop) == ()


def test_contents_name_every_signature(loop: str, programs: Programs) -> None:
    with_luks(loop)
    assert {(each.kind, each.label, each.uuid, each.offset) for each in partition.contents(programs, loop)} == {
        ("crypto_LUKS", "flashback-red", UUID, 0),
        ("crypto_LUKS", "flashback-red", UUID, 0x4000),
    }


def test_the_gpt_that_is_written_is_what_other_tools_read(tmp_path: Path, programs: Programs) -> None:
    """On an image file: this kernel may not know partitions, so the waiting is left to the guest floor."""
    image = tmp_path / "disk.img"
    image.touch()
    os.truncate(image, 64 << 20)
    partition.APPEARS_WITHIN, before = 0.0, partition.APPEARS_WITHIN
    try:
        with pytest.raises(DriveError, match="did not show itself"):
            partition.partition(programs, str(image), name="flashback-red")
    finally:
        partition.APPEARS_WITHIN = before
    dumped = run("sfdisk", "--dump", image)
    assert "label: gpt" in dumped
    assert "start=        8192" in dumped
    assert "type=CA7D7CCB-63ED-4C53-861C-1742536059CC" in dumped
    assert 'name="flashback-red"' in dumped
