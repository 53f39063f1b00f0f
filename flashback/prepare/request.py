"""What a person decided about a new drive, and what will be done then, as values."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flashback.core.secret import Secret
from flashback.prepare.examine import Examined
from flashback.tools.cryptsetup import Kdf


@dataclass(frozen=True, slots=True)
class InitRequest:
    """Everything that `init` needs; no question is open any more.

    `first_master` is the directory for a first configuration, where there is none yet. `recovery_key` is the key that
    gets the second slot, `None` for no second slot.
    """

    examined: Examined
    name: str
    passphrase: Secret = field(repr=False)
    recovery_key: Secret | None = field(repr=False)
    first_master: Path | None
    whole_device: bool
    kdf: Kdf

    @property
    def label(self) -> str:
        """The LUKS label, by which udev sees at first sight that it is a drive of Flashback's."""
        return f"flashback-{self.name}"

    @property
    def partitions(self) -> bool:
        """A whole disk gets a partition table unless told otherwise; a partition is used as it is."""
        return not self.whole_device and self.examined.device.kind != "part"

    def steps(self) -> tuple[str, ...]:
        """What will be done, in order."""
        device = self.examined.device.path
        where = "its partition" if self.partitions else device
        steps = [
            *([f"write a GPT partition table with one partition on {device}"] if self.partitions else []),
            f"format {where} with LUKS2 (argon2id, 256 MiB at most), label {self.label}",
            *(["add a recovery key in a second key slot"] if self.recovery_key is not None else []),
            "keep a copy of the LUKS header in the state directory",
            "make a Btrfs file system with blake2 checksums and doubled metadata",
            "write README.txt, the drive's identity and a copy of the configuration",
            f"make the drive known here as {self.name}",
        ]
        if self.first_master is not None:
            steps.insert(0, f"write a first configuration that backs up {self.first_master}")
        return tuple(steps)

    def as_json(self) -> dict[str, Any]:
        """The plan for scripts; no secret is in it."""
        return {
            **self.examined.as_json(),
            "name": self.name,
            "partition_table": self.partitions,
            "recovery_key": self.recovery_key is not None,
            "first_master": str(self.first_master) if self.first_master else None,
            "steps": list(self.steps()),
        }
