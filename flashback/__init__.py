"""Flashback: back up to several encrypted drives that you rotate."""

__version__ = "0.1.0"

BUILT = "2026-11-01T00:00:00Z"
"""No run can truly take place before this: a clock that says so is wrong."""
