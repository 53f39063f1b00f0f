"""Flashback: back up to several encrypted drives that you rotate."""

__version__ = "0.1.0"
