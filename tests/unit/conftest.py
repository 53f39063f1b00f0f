"""What several of the unit tests are given."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.drives import FakeKernel


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeKernel:
    """In the place of the kernel and of the programs; a test file with other needs has one of its own."""
    kernel = FakeKernel(tmp_path)
    kernel.install(monkeypatch)
    return kernel
