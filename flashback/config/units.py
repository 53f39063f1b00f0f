"""Durations, sizes, shares and counts as people write them in the configuration.

Each reader needs the text and returns the value; each raises `ValueError` whose text completes the sentence
"SETTING: …". Each writer gives the shortest text that reads back as the same value. YAML's own ideas of numbers
(octal `010`, `12:30` in base 60, `1_000`) do not count here: only what these readers accept is a number.
"""

from __future__ import annotations

import re
from datetime import timedelta
from decimal import Decimal, InvalidOperation
from typing import Final

from flashback.config.findings import quoted

_DURATION_UNITS: Final = {
    "w": timedelta(weeks=1),
    "d": timedelta(days=1),
    "h": timedelta(hours=1),
    "min": timedelta(minutes=1),
}
_SIZE_UNITS: Final = {"TiB": 1 << 40, "GiB": 1 << 30, "MiB": 1 << 20, "KiB": 1 << 10, "B": 1}
_LONGEST_DURATION: Final = timedelta(days=36_525)
_LARGEST_SIZE: Final = 1 << 60
_LARGEST_COUNT: Final = 1_000_000

_LOOSE_DURATIONS: Final = {
    "m": "min", "mins": "min", "minute": "min", "minutes": "min", "hour": "h", "hours": "h", "hr": "h", "hrs": "h",
    "day": "d", "days": "d", "week": "w", "weeks": "w", "": "d",
}  # fmt: skip
_LOOSE_SIZES: Final = {
    "k": "KiB", "kb": "KiB", "kib": "KiB", "m": "MiB", "mb": "MiB", "mib": "MiB", "g": "GiB", "gb": "GiB", "gib": "GiB",
    "t": "TiB", "tb": "TiB", "tib": "TiB", "b": "B", "bytes": "B", "percent": "%", "": "%",
}  # fmt: skip

_COUNT: Final = re.compile(r"0|[1-9][0-9]{0,17}", re.ASCII)
_AMOUNT: Final = re.compile(r"(0|[1-9][0-9]{0,17})([A-Za-z]+)", re.ASCII)
_PERCENT: Final = re.compile(r"((?:0|[1-9][0-9]{0,2})(?:\.[0-9]{1,400})?)%", re.ASCII)
_LOOSE: Final = re.compile(r"0*([0-9]{1,18})\s*([A-Za-z]*)", re.ASCII)


def read_count(text: str) -> int:
    """A whole number that is not negative, in plain decimal digits."""
    if _COUNT.fullmatch(text):
        if int(text) <= _LARGEST_COUNT:
            return int(text)
        raise ValueError(f"{text} is too large; at most {_LARGEST_COUNT}")
    if re.fullmatch(r"-[0-9]+", text, re.ASCII):
        raise ValueError(f"must not be negative, found {quoted(text)}")
    if re.fullmatch(r"0[0-9]{1,17}", text, re.ASCII):
        raise ValueError(
            f"expected a whole number without leading zeros, found {quoted(text)}; did you mean {int(text)}?"
        )
    raise ValueError(f"expected a whole number, found {quoted(text)}")


def read_duration(text: str) -> timedelta:
    """`30min`, `12h`, `7d`, `2w`: more than nothing, at most a hundred years."""
    match = _AMOUNT.fullmatch(text)
    if match is None or match[2] not in _DURATION_UNITS:
        near = _suggestion(text, _LOOSE_DURATIONS)
        raise ValueError(f"expected a duration such as 30min, 12h, 7d or 2w, found {quoted(text)}{near}")
    unit = _DURATION_UNITS[match[2]]
    if not 0 < int(match[1]) <= _LONGEST_DURATION // unit:
        raise ValueError(f"expected a duration of more than nothing and at most 100 years, found {quoted(text)}")
    return int(match[1]) * unit


def write_duration(value: timedelta) -> str:
    """The largest unit that needs no fraction: `7d`, not `1w` (a week is written from two weeks on), not `168h`."""
    for name, unit in _DURATION_UNITS.items():
        if value % unit == timedelta() and not (name == "w" and value < 2 * unit):
            return f"{value // unit}{name}"
    raise ValueError(f"{value} is not a whole number of minutes")


def read_space(text: str) -> float | int:
    """`5%` as a share (0.05, a float) or `10GiB` as bytes (an int)."""
    if percent := _PERCENT.fullmatch(text):
        return _share(percent[1], text)
    match = _AMOUNT.fullmatch(text)
    if match is None or match[2] not in _SIZE_UNITS:
        near = _suggestion(text, _LOOSE_SIZES) if not text.isdecimal() or int(text) < 100 else ""  # else a share
        raise ValueError(f"expected a share such as 5% or a size such as 10GiB, found {quoted(text)}{near}")
    size = int(match[1]) * _SIZE_UNITS[match[2]]
    if size > _LARGEST_SIZE:
        raise ValueError(f"{quoted(text)} is larger than any drive")
    return size


def _share(number: str, text: str) -> float:
    try:
        share = float(Decimal(number).scaleb(-2))
    except InvalidOperation:
        share = 1.0
    if not 0 <= share < 1:
        raise ValueError(f"expected a share from 0% to less than 100%, found {quoted(text)}")
    return share


def write_space(value: float) -> str:
    """A float is a share (`5%`), an int bytes in the largest unit that needs no fraction (`10GiB`)."""
    if isinstance(value, int):
        return next(
            (f"{value // unit}{name}" for name, unit in _SIZE_UNITS.items() if value and value % unit == 0), "0B"
        )
    percent = format(Decimal(repr(value)).scaleb(2), "f")
    return f"{percent.rstrip('0').rstrip('.') if '.' in percent else percent}%"


def _suggestion(text: str, loose: dict[str, str]) -> str:
    match = _LOOSE.fullmatch(text.strip())
    if match is None or match[2].lower() not in loose:
        return ""
    return f"; did you mean {match[1]}{loose[match[2].lower()]}?"
