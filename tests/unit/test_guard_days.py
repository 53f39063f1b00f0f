"""Ten encryptors and wipers that must be held, thirty normal days that must not be: trees in memory, judged as a run does.

The trees are made up, their contents are not: text that people write, noise, and files with the beginnings and ends of
their kinds. Each day is a change of the same home.
"""

from __future__ import annotations

import base64
import random
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from flashback.compare.changes import ChangeSet
from flashback.compare.comparison import compare
from flashback.compare.guard import HoldName, MasterFacts, holds_for, worth_inspecting
from flashback.compare.inspect import Inspection, _starts, concluded
from flashback.compare.tally import Tally
from flashback.config.values import Guards
from flashback.walk.content import BLOCK, Look, look
from flashback.walk.listing import Entry, Kind, order

DAY = 86_400 * 10**9
WORDS = (
    b"the boat came back to the harbour before the rain and nobody had asked where it had been all summer long while "
    b"letters lay unopened on the table by the window that faces the sea and the garden behind the old school house"
).split()


@dataclass(frozen=True)
class File:
    content: bytes
    mtime: int = 0


Tree = dict[str, File]


def text(size: int, seed: int) -> bytes:
    chance = random.Random(seed)
    return b" ".join(chance.choices(WORDS, k=size // 4))[:size]


def noise(size: int, seed: int) -> bytes:
    return random.Random(seed).randbytes(size)


def jpeg(size: int, seed: int) -> bytes:
    return b"\xff\xd8\xff\xe1" + noise(size - 6, seed) + b"\xff\xd9"


def docx(size: int, seed: int) -> bytes:
    return b"PK\3\4" + noise(size - 26, seed) + b"PK\5\6" + bytes(18)


def pdf(size: int, seed: int) -> bytes:
    return b"%PDF-1.7\n" + text(size // 4, seed) + noise(size // 2, seed) + text(size // 4, seed) + b"\n%%EOF\n"


def mp4(size: int, seed: int) -> bytes:
    return b"\0\0\0\x20ftypisom" + noise(size - 12, seed)


def elf(size: int, seed: int) -> bytes:
    return b"\x7fELF\2\1\1" + text(size, seed) + bytes(64)


def home() -> Tree:
    """2,060 files: letters, photos, papers, films, a project, a container of noise."""
    tree = {f"letters/{year}/{n}.txt": File(text(6000, n)) for year in (2024, 2025) for n in range(300)}
    tree |= {f"photos/2025/IMG_{n}.jpg": File(jpeg(20_000, n)) for n in range(600)}
    tree |= {f"papers/{n}.pdf": File(pdf(16_000, n)) for n in range(150)}
    tree |= {f"papers/{n}.docx": File(docx(14_000, n)) for n in range(150)}
    tree |= {f"films/{n}.mp4": File(mp4(30_000, n)) for n in range(40)}
    tree |= {f"project/src/m{n}.py": File(text(5000, 7000 + n)) for n in range(400)}
    tree |= {f"project/notes/{n}.md": File(text(300, 9000 + n)) for n in range(100)}
    tree |= {f"vault/{n}.bin": File(noise(16_000, n)) for n in range(20)}
    return tree


HOME = home()


def listing(tree: Tree) -> Iterator[Entry]:
    paths = {part for path in tree for part in _above(path)} | set(tree) | {""}
    for path in sorted((path.encode() for path in paths), key=order):
        file = tree.get(path.decode())
        kind = Kind.DIRECTORY if file is None else Kind.FILE
        size, mtime = (0, 0) if file is None else (len(file.content), file.mtime)
        number = zlib.crc32(path)
        yield Entry(path, kind, 0o644, 1, 1, size, mtime, mtime, 1, number, 1, blocks=-(-size // 512))


def _above(path: str) -> Iterator[str]:
    while "/" in path:
        path = path.rpartition("/")[0]
        yield path


def seen(tree: Tree, path: bytes) -> Look:
    content = tree[path.decode()].content
    return look(path, len(content), *(content[start : start + BLOCK] for start in _starts(len(content))))


def facts(before: Tree, after: Tree, folder) -> MasterFacts:
    """What a run over `after`, with a copy of `before` on the drive, would know."""
    tally = Tally()
    changes = ChangeSet.collect(
        compare(listing(after), listing(before), gone=tally.gone), directory=folder, tally=tally.change
    )
    counts, inspection = tally.counts(), Inspection()
    if worth_inspecting(counts, changes.files_on_drive, Guards()):
        pairs = [pair for sample in counts.samples for pair in sample.pairs]
        new = {path: seen(after, path) for _, path in (*pairs, *counts.additions.pairs)}
        inspection = concluded(counts, {path: seen(before, path) for path, _ in pairs}, new)
    return MasterFacts(
        name="documents",
        path="/home/alice",
        missing=False,
        files=changes.files_in_master,
        files_before=changes.files_on_drive,
        bytes=changes.bytes_in_master,
        bytes_before=changes.on_drive.bytes,
        counts=counts,
        inspection=inspection,
    )


def held(before: Tree, after: Tree, folder) -> set[str]:
    return {str(hold.name) for hold in holds_for([facts(before, after, folder)], limits=Guards())}


# --- attacks and accidents


def some(tree: Tree, share: float, seed: int = 1) -> list[str]:
    chance = random.Random(seed)
    return sorted(chance.sample(sorted(tree), round(len(tree) * share)))


def each(tree: Tree, change: Callable[[bytes, int], bytes], share: float = 1.0, later: int = DAY) -> Tree:
    """The same tree with the content of so many files changed."""
    return tree | {
        path: File(change(tree[path].content, seed), tree[path].mtime + later)
        for seed, path in enumerate(some(tree, share))
    }


def encrypted(content: bytes, seed: int) -> bytes:
    return noise(len(content) + 32, 10_000 + seed)


def renamed(tree: Tree, name: Callable[[str], str], change: Callable[[bytes, int], bytes], share: float = 1.0) -> Tree:
    chosen = set(some(tree, share))
    return {
        (name(path) if path in chosen else path): (
            File(change(file.content, number), file.mtime + DAY) if path in chosen else file
        )
        for number, (path, file) in enumerate(tree.items())
    }


def notes(tree: Tree) -> Tree:
    folders = {path.rpartition("/")[0] for path in tree}
    return {f"{folder}/README_RESTORE.txt": File(b"pay " * 200, DAY) for folder in folders}


def half_encrypted(content: bytes, seed: int) -> bytes:
    return content[:BLOCK] + noise(len(content) - BLOCK, seed) if len(content) > BLOCK else content


def in_turns(content: bytes, seed: int) -> bytes:
    """Every second stretch of 1 KiB."""
    found, other = bytearray(content), noise(len(content), seed)
    for start in range(0, len(found), 2048):
        found[start : start + 1024] = other[start : start + 1024]
    return bytes(found)


def beheaded(content: bytes, seed: int) -> bytes:
    """The first 512 bytes alone."""
    return noise(min(512, len(content)), seed) + content[512:]


def _armoured(content: bytes, seed: int) -> bytes:
    return base64.b64encode(noise(len(content), seed))


ATTACKS: dict[str, Callable[[Tree], Tree]] = {
    "encrypts in place": lambda tree: each(tree, encrypted),
    "encrypts and adds an extension": lambda tree: renamed(tree, lambda path: path + ".locked", encrypted),
    "encrypts under a new extension": lambda tree: renamed(
        tree, lambda path: path.rpartition(".")[0] + ".crypt", encrypted
    ),
    "encrypts under names that nobody can read": lambda tree: renamed(
        tree, lambda path: f"{path.rpartition('/')[0]}/{zlib.crc32(path.encode()):x}", encrypted
    ),
    "encrypts and leaves a note in every folder": lambda tree: each(tree, encrypted, 0.8) | notes(tree),
    "encrypts all but the first block": lambda tree: each(tree, half_encrypted),
    "encrypts, with size and time as before, and renames": lambda tree: {
        path + ".x": File(noise(len(file.content), number), file.mtime)
        for number, (path, file) in enumerate(tree.items())
    },
    "encrypts a twentieth each day": lambda tree: each(tree, encrypted, 0.05),
    "encrypts a twentieth each day, and renames": lambda tree: renamed(
        tree, lambda path: path + ".enc", encrypted, 0.05
    ),
    "encrypts and writes it as text": lambda tree: each(tree, _armoured),
    "overwrites with zeros": lambda tree: each(tree, lambda content, _seed: bytes(len(content))),
    "overwrites with one and the same noise": lambda tree: each(tree, lambda _content, _seed: noise(9000, 1)),
    "overwrites with one and the same words": lambda tree: each(tree, lambda _content, _seed: b"you were here " * 400),
    "empties files": lambda tree: each(tree, lambda _content, _seed: b""),
    "cuts files short": lambda tree: each(tree, lambda content, _seed: content[: len(content) // 3]),
    "deletes all but one": lambda tree: dict(list(tree.items())[:1]),
    "deletes half": lambda tree: {path: file for path, file in tree.items() if path not in set(some(tree, 0.5))},
    "deletes the photos and films": lambda tree: {
        path: file for path, file in tree.items() if not path.startswith(("photos", "films"))
    },
    "encrypts during a build": lambda tree: (
        each(tree, encrypted, 0.1) | {f"project/build/o{n}.o": File(elf(3000, n), DAY) for n in range(3000)}
    ),
    "encrypts every second KiB": lambda tree: each(tree, in_turns),
    "encrypts nothing but the beginning of each file": lambda tree: each(tree, beheaded),
    "encrypts what is compressed already": lambda tree: (
        each({path: file for path, file in tree.items() if path.endswith((".jpg", ".docx", ".mp4"))}, encrypted)
        | {path: file for path, file in tree.items() if not path.endswith((".jpg", ".docx", ".mp4"))}
    ),
    "encrypts nothing but letters, in turns": lambda tree: (
        tree | each({path: file for path, file in tree.items() if path.startswith("letters")}, in_turns)
    ),
    "overwrites with noise that differs": lambda tree: each(tree, lambda content, seed: noise(len(content), seed)),
    "overwrites the first bytes with zeros": lambda tree: each(
        tree, lambda content, _seed: bytes(min(8192, len(content))) + content[8192:]
    ),
    "deletes, and writes other files under other names": lambda tree: {
        f"{zlib.crc32(path.encode()):x}.dat": File(noise(len(file.content), number), DAY)
        for number, (path, file) in enumerate(tree.items())
    },
    "removes a directory that holds a third": lambda tree: without(tree, "letters", "project/notes"),
    "encrypts a tiny master": lambda _tree: each(TINY, encrypted),
    "deletes nearly all of a tiny master": lambda _tree: dict(list(TINY.items())[:1]),
}


TINY: Tree = {f"{n}.txt": File(text(2000, n)) for n in range(10)}


@pytest.mark.parametrize("attack", ATTACKS)
def test_it_is_held_when_something(attack, tmp_path) -> None:
    before = TINY if "tiny" in attack else HOME
    assert held(before, ATTACKS[attack](HOME), tmp_path) & {HoldName.MASS_DELETION, HoldName.MASS_CHANGE}


# --- normal days


def moved(tree: Tree, old: str, new: str, later: int = 0) -> Tree:
    return {
        new + path.removeprefix(old) if path.startswith(old) else path: (
            File(file.content, file.mtime + later) if path.startswith(old) else file
        )
        for path, file in tree.items()
    }


def without(tree: Tree, *prefixes: str) -> Tree:
    return {path: file for path, file in tree.items() if not path.startswith(prefixes)}


def rewritten(tree: Tree, prefix: str, make: Callable[[int, int], bytes]) -> Tree:
    return tree | {
        path: File(make(len(file.content) + number % 900, 50_000 + number), file.mtime + DAY)
        for number, (path, file) in enumerate(tree.items())
        if path.startswith(prefix)
    }


def many(prefix: str, make: Callable[[int, int], bytes], count: int, size: int = 3000, mtime: int = DAY) -> Tree:
    suffix = prefix.rpartition("*")[2]
    return {prefix.partition("*")[0] + f"{n // 50}/{n}" + suffix: File(make(size, n), mtime) for n in range(count)}


BUILT = HOME | many("project/build/*.o", elf, 5000)
MODULES = HOME | many("site/node_modules/*.js", text, 5000, 400)
CHECKED_OUT = HOME | many("kernel/*.c", text, 5000)
PRETTY = HOME | many("web/assets/*.svg", text, 500)
SYSTEM = (
    many("usr/lib/*.so", elf, 1500)
    | many("usr/share/man/*.gz", lambda size, seed: b"\x1f\x8b\x08" + noise(size, seed), 1500)
    | many("usr/share/doc/*", text, 1500)
    | many("lib/modules/6.1.0-10/*.ko", elf, 800)
    | many("etc/*.conf", text, 300, 900)
)
LOGS: Tree = HOME | {f"logs/{n}.log": File(text(9000, n)) for n in range(12)}
MIXED = many("mail/cur/*.eml", text, 3000, 1500)


DAYS: dict[str, tuple[Tree, Callable[[Tree], Tree]]] = {
    "nothing happens": (HOME, lambda tree: tree),
    "a build of 5,000 files": (HOME, lambda tree: tree | many("project/build/*.o", elf, 5000)),
    "a build is made over": (BUILT, lambda tree: rewritten(tree, "project/build", elf)),
    "a build directory is deleted": (BUILT, lambda tree: without(tree, "project/build")),
    "node_modules is deleted": (MODULES, lambda tree: without(tree, "site/node_modules")),
    "node_modules is installed": (HOME, lambda tree: tree | many("site/node_modules/*.js", text, 5000, 400)),
    "a checkout of 5,000 files": (HOME, lambda tree: tree | many("kernel/*.c", text, 5000)),
    "another branch, 5,000 files changed": (CHECKED_OUT, lambda tree: rewritten(tree, "kernel", text)),
    "another branch, where everything lies elsewhere": (
        CHECKED_OUT,
        lambda tree: moved(tree, "kernel/", "kernel/drivers/", later=DAY),
    ),
    "a repository is packed": (
        HOME | many("project/.git/objects/*", lambda size, seed: zlib.compress(text(size, seed)), 4000),
        lambda tree: (
            without(tree, "project/.git") | {"project/.git/objects/pack/a.pack": File(b"PACK" + noise(90_000, 3), DAY)}
        ),
    ),
    "500 photos are imported": (HOME, lambda tree: tree | many("photos/2026/*.jpg", jpeg, 500, 20_000)),
    "photos are tagged, which shifts what is in them": (
        HOME,
        lambda tree: each_under(tree, "photos", lambda c, s: c[:40] + b"<rating>%d</rating>" % (s % 5 * 111) + c[40:]),
    ),
    "photos are turned": (HOME, lambda tree: rewritten(tree, "photos", jpeg)),
    "photos are renamed by date": (HOME, lambda tree: moved(tree, "photos/2025/IMG_", "photos/2025/2025-07-")),
    "every .jpg becomes a .JPG": (
        HOME,
        lambda tree: {path.replace(".jpg", ".JPG"): file for path, file in tree.items()},
    ),
    "a folder is renamed": (HOME, lambda tree: moved(tree, "photos/", "pictures/")),
    "everything moves into one folder": (HOME, lambda tree: moved(tree, "", "old computer/")),
    "a year is put in order": (
        HOME,
        lambda tree: moved(moved(tree, "letters/2024/1", "letters/archive/2024/1"), "letters/2025/2", "post/2"),
    ),
    "old letters are packed into an archive": (
        HOME,
        lambda tree: without(tree, "letters/2024/") | {"letters/2024.zip": File(docx(400_000, 1), DAY)},
    ),
    "text is compressed file by file": (
        HOME,
        lambda tree: {
            (path + ".gz" if path.startswith("letters/2024") else path): (
                File(b"\x1f\x8b\x08" + noise(3000, n), DAY) if path.startswith("letters/2024") else file
            )
            for n, (path, file) in enumerate(tree.items())
        },
    ),
    "all papers are saved in a newer format": (HOME, lambda tree: rewritten(tree, "papers", docx)),
    "a system upgrade": (
        SYSTEM,
        lambda tree: rewritten(
            rewritten(tree, "usr/lib", elf),
            "usr/share/man",
            lambda size, seed: b"\x1f\x8b\x08" + noise(size, seed),
        ),
    ),
    "a new kernel, and the old one goes": (
        SYSTEM,
        lambda tree: without(tree, "lib/modules") | many("lib/modules/6.1.0-11/*.ko", elf, 800, 3100),
    ),
    "logs are rotated and emptied": (
        LOGS,
        lambda tree: tree | {f"logs/{n}.log": File(b"", DAY) for n in range(12)},
    ),
    "a tenth of the mail is deleted": (
        MIXED,
        lambda tree: {path: file for path, file in tree.items() if path not in set(some(tree, 0.1))},
    ),
    "the mail is sorted into folders": (
        MIXED,
        lambda tree: {
            (path.replace("cur", "sorted", 1) if path in set(some(tree, 0.02)) else path): file
            for path, file in tree.items()
        },
    ),
    "three of ten files are deleted": (TINY, lambda tree: dict(list(tree.items())[3:])),
    "four of ten files are written anew": (
        TINY,
        lambda tree: tree | {f"{n}.txt": File(text(2500, n + 90), DAY) for n in range(4)},
    ),
    "a mailbox is compacted to two thirds": (
        HOME | {"mail/inbox.mbox": File(text(90_000, 5))},
        lambda tree: tree | {"mail/inbox.mbox": File(text(60_000, 6), DAY)},
    ),
    "databases are vacuumed": (
        HOME | {f"apps/{n}.sqlite": File(b"SQLite format 3\0" + text(40_000, n)) for n in range(30)},
        lambda tree: each_under(tree, "apps", lambda c, s: c[:100] + text(20_000, s)),
    ),
    "films are cut": (
        HOME,
        lambda tree: tree | {f"films/{n}.mp4": File(mp4(15_000 + n, 900 + n), DAY) for n in range(30)},
    ),
    "films are rendered anew beside the old ones": (
        HOME,
        lambda tree: tree | {f"films/{n}-final.mp4": File(mp4(45_000, 800 + n), DAY) for n in range(40)},
    ),
    "an archive of 2,000 files is unpacked": (HOME, lambda tree: tree | many("downloads/src/*.c", text, 2000)),
    "the encrypted vault is written": (HOME, lambda tree: rewritten(tree, "vault", noise)),
    "five letters are encrypted on purpose": (
        HOME,
        lambda tree: (
            without(tree, *(f"letters/2024/{n}.txt" for n in (11, 12, 13)))
            | {f"letters/2024/{n}.txt.gpg": File(noise(3000, n), DAY) for n in (11, 12, 13)}
        ),
    ),
    "icons are drawn anew from one template": (PRETTY, lambda tree: rewritten(tree, "web/assets", text)),
    "a project is thrown away": (HOME, lambda tree: without(tree, "project")),
    "times change and nothing else": (
        HOME,
        lambda tree: {path: File(file.content, file.mtime + DAY) for path, file in tree.items()},
    ),
    "line ends are converted": (
        HOME,
        lambda tree: each_under(tree, "project", lambda c, _s: c.replace(b" ", b"\r\n")),
    ),
    "a library is tidied: a quarter of the photos goes": (
        HOME,
        lambda tree: without(tree, *(f"photos/2025/IMG_{n}" for n in (1, 2))),
    ),
}


def each_under(tree: Tree, prefix: str, change: Callable[[bytes, int], bytes]) -> Tree:
    return tree | {
        path: File(change(file.content, number), file.mtime + DAY)
        for number, (path, file) in enumerate(tree.items())
        if path.startswith(prefix)
    }


def test_there_are_enough_of_both() -> None:
    assert len(ATTACKS) >= 10
    assert len(DAYS) >= 30


@pytest.mark.parametrize("day", DAYS)
def test_it_is_not_held_when(day, tmp_path) -> None:
    before, change = DAYS[day]
    assert held(before, change(before), tmp_path) == set()
