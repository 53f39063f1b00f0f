"""How long it takes to list a master: Flashback's walk, as a table beside os.walk with stats and rsync's own list.

    python benchmarks/walk.py [FILES] [--keep DIR]      # 100,000 files in a temporary directory unless told

Each row is the best and the median of five rounds, warm; the rows take turns, so that a busy machine disturbs all.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from flashback.config.values import Rule, Symlinks
from flashback.walk.filter import Filter
from flashback.walk.master import walk_incumbent, walk_master
from flashback.walk.reader import Owner, reading_master

RULES = b"""
lock .parentlock Singleton* *.o *.a *.so *.pyc *.class *.tmp *.swp *~ .#* #*# .~lock.*# ~$* Thumbs.db .DS_Store
desktop.ini __pycache__/ node_modules/ .cache/ .tox/ .venv/ .mypy_cache/ .pytest_cache/ .ruff_cache/ target/debug/
target/release/ build/ dist/ .gradle/ .Trash-*/ .Trash/ /.local/share/Trash/ /.cache/ /.thumbnails/
/.mozilla/firefox/*/cache2/ /.config/google-chrome/*/Cache/ /.config/chromium/*/Cache/ **/GPUCache/ /.var/app/*/cache/
*.part *.crdownload .fuse_hidden* .nfs* lost+found/ .sass-cache/ bower_components/ *.egg-info/ .eggs/ .terraform/ *.vmem
core.[0-9]* nohup.out *.log.[0-9] .snapshots/ /snap/ .npm/_cacache/
""".split()


def plant(root: Path, files: int) -> None:
    """A home-like tree: directories of about twenty small files, three levels deep."""
    chance = random.Random(7)
    for number in range(0, files, 20):
        folder = root / f"topic {number // 2000:03d}" / f"year-{number // 200 % 10}" / f"part{number // 20 % 10}"
        folder.mkdir(parents=True, exist_ok=True)
        for each in range(min(20, files - number)):
            kind, ending = chance.choice(["IMG", "letter", "notes"]), chance.choice(["jpg", "txt", "pdf", "c"])
            (folder / f"{kind}_{number + each:07d}.{ending}").write_bytes(b"x" * chance.randrange(200))


def with_os_walk(root: Path) -> int:
    return sum(1 for top, _folders, names in os.walk(root) for name in names if os.lstat(os.path.join(top, name)))


def with_rsync(root: Path) -> int:
    subprocess.run(["rsync", "-a", "--list-only", f"{root}/"], stdout=subprocess.DEVNULL, check=True)
    return 0


def alone(root: Path, rules: Filter, *, with_xattrs: bool) -> int:
    fd = os.open(root, os.O_RDONLY)
    listed = walk_master(fd, filter=rules, symlinks=Symlinks.FOLLOW, remark=print, with_xattrs=with_xattrs)
    count = sum(1 for _item in listed)
    os.close(fd)
    return count


def incumbent(root: Path) -> int:
    fd = os.open(root, os.O_RDONLY)
    count = sum(1 for _item in walk_incumbent(fd))
    os.close(fd)
    return count


def piped(root: Path, rules: Filter, owner: Owner | None) -> int:
    with reading_master(root, owner, filter=rules, symlinks=Symlinks.FOLLOW, remark=print) as listed:
        return sum(1 for _item in listed)


def peak(work: Callable[[], int]) -> int:
    """The memory in MiB that a fresh child of this process, or one of its own, needs beyond what it starts with."""
    reading, writing = os.pipe()
    if os.fork() == 0:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        work()
        after = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        os.write(writing, str((after - before) // 1024).encode())
        os._exit(0)
    os.wait()
    return int(os.read(reading, 20))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="?", type=int, default=100_000)
    parser.add_argument("--keep", type=Path, help="make the tree here, once")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = asked.keep or Path(folder)
        if not any(root.iterdir()) if root.exists() else True:
            root.mkdir(exist_ok=True)
            plant(root, asked.files)
        os.chmod(root, 0o755)
        measure(root)


def measure(root: Path) -> None:
    none, rules = Filter([]), Filter([Rule(each) for each in RULES])
    nobody = Owner("nobody", 65534, 65534)
    rows: dict[str, Callable[[], int]] = {
        "os.walk and lstat": lambda: with_os_walk(root),
        "rsync -a --list-only": lambda: with_rsync(root),
        "walk, no rules, no xattrs": lambda: alone(root, none, with_xattrs=False),
        "walk, no rules": lambda: alone(root, none, with_xattrs=True),
        f"walk, {len(RULES)} rules": lambda: alone(root, rules, with_xattrs=True),
        "walk of a drive": lambda: incumbent(root),
        f"reader, {len(RULES)} rules": lambda: piped(root, rules, None),
        "reader as another user": lambda: piped(root, rules, nobody),
    }
    times: dict[str, list[float]] = {name: [] for name in rows}
    for _round in range(5):
        for name, work in rows.items():
            began = time.perf_counter()
            work()
            times[name].append(time.perf_counter() - began)
    files = with_os_walk(root)
    print(f"{files:,} files, Python {sys.version.split()[0]}\n")
    print(f"| {'how':28} | {'best':>7} | {'median':>7} | {'memory':>9} |\n|{'-' * 30}|{'-' * 9}|{'-' * 9}|{'-' * 11}|")
    for name, work in rows.items():
        memory = f"+{peak(work)} MiB" if "rsync" not in name else ""
        print(f"| {name:28} | {min(times[name]):5.2f} s | {statistics.median(times[name]):5.2f} s | {memory:>9} |")


if __name__ == "__main__":
    main()
