"""What the machine runs on, as the kernel accounts for it (Documentation/ABI/testing/sysfs-class-power)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from flashback.core import sysfs

HOME: Final = Path("/sys/class/power_supply")
_OUTSIDE: Final = frozenset({"Mains", "USB", "Wireless"})


@dataclass(frozen=True, slots=True)
class Power:
    """`on_battery`: nothing else feeds the machine. `charge` is what its batteries hold, 0 to 1; `None`: not known."""

    on_battery: bool = False
    charge: float | None = None

    def too_low(self, least: float) -> str:
        """Words on a battery that holds less than `least` and is all there is; empty where all is well. Pure."""
        if not self.on_battery or self.charge is None or self.charge >= least:
            return ""
        return f"the battery holds {self.charge:.0%}"


def power(home: Path = HOME) -> Power:
    """What feeds this machine now. A mouse's battery does not count; a machine without a battery is on the mains."""
    supplies = [each for each in sorted(home.glob("*")) if sysfs.read(each / "scope") != "Device"]
    batteries = [each for each in supplies if sysfs.read(each / "type") == "Battery"]
    batteries = [each for each in batteries if sysfs.read(each / "present") != "0"]
    fed = any(sysfs.read(each / "type") in _OUTSIDE and sysfs.read(each / "online") == "1" for each in supplies)
    draining = any(sysfs.read(each / "status") == "Discharging" for each in batteries)
    charges = [charge for each in batteries if (charge := _charge(each)) is not None]
    return Power(draining and not fed, sum(charges) / len(charges) if charges else None)


def _charge(battery: Path) -> float | None:
    text = sysfs.read(battery / "capacity")
    return min(1.0, int(text) / 100) if text.isdecimal() else None
