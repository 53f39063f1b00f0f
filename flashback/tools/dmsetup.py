"""dmsetup: the kernel's mappings by their names, whatever is in them."""

from __future__ import annotations

from typing import Final

REMOVE_DEFERRED: Final = ("dmsetup", "remove", "--deferred")
"""As `cryptsetup close --deferred`; and also where cryptsetup was killed after it had made the mapping and before it
had given it a table. That one /sys does not show, cryptsetup does not take it for active (exit code 4), and its name
stays taken (tried with cryptsetup 2.6.1)."""
