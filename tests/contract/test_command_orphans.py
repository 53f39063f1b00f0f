"""A child that is to die with us, started in the very moment of our death."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from flashback.core import command


@pytest.mark.parametrize(("parent", "runs"), [("ours", True), ("another", False)])
def test_a_child_whose_parent_died_before_it_could_be_bound_does_nothing(
    parent: str, runs: bool, tmp_path: Path
) -> None:
    """The kernel passes on the death of a parent that was there when it was asked to: setpriv asks too late for one
    that is killed between fork and exec. The shell in between sees that its parent is not who it should be.
    """
    number = os.getpid() if parent == "ours" else os.getppid()
    argv = ["/bin/sh", "-c", command._IF_WE_LIVE, str(number), "touch", str(tmp_path / "ran")]
    subprocess.run(argv, check=False)
    assert (tmp_path / "ran").exists() is runs
