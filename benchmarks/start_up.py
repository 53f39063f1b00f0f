"""How long `flashback --help` and `flashback status` take from the shell, beside an empty Python: `make bench`.

Each is started in turn, so that what else the machine does falls on all alike; the fastest of each is what counts, the
middle is what people feel. The aim for --help is 150 ms more than nothing on a small machine. Nothing is judged here.
"""

from __future__ import annotations

import compileall
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROUNDS = 15
TOP = Path(__file__).resolve().parent.parent
PROGRAMS = {
    "python -c pass": ["-c", "pass"],
    "flashback --help": ["-m", "flashback", "--help"],
    "flashback status": ["-m", "flashback", "status"],
    "flashback run --help": ["-m", "flashback", "run", "--help"],
}


def seconds(argv: list[str], environment: dict[str, str]) -> float:
    begun = time.perf_counter()
    subprocess.run([sys.executable, *argv], env=environment, cwd=TOP, capture_output=True, check=False)
    return time.perf_counter() - begun


def main() -> None:
    compileall.compile_dir(TOP / "flashback", quiet=2)
    with tempfile.TemporaryDirectory() as folder:
        places = {name: f"{folder}/{name}" for name in ("FLASHBACK_STATE", "FLASHBACK_RUNTIME", "FLASHBACK_CONFIG")}
        environment = os.environ | places
        for argv in PROGRAMS.values():
            seconds(argv, environment)
        taken: dict[str, list[float]] = {name: [] for name in PROGRAMS}
        for _ in range(ROUNDS):
            for name, argv in PROGRAMS.items():
                taken[name].append(seconds(argv, environment))
    print(f"Python {sys.version.split()[0]}, {ROUNDS} rounds, milliseconds")
    for name, times in taken.items():
        print(f"  {name:22} fastest {min(times) * 1000:5.0f}   middle {statistics.median(times) * 1000:5.0f}")


if __name__ == "__main__":
    main()
