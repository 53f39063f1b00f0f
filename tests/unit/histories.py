"""Random histories of trees, and shelves that were filled with them by deltas, as runs do."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from hypothesis import strategies as st

from flashback.catalogue.file import Header
from flashback.catalogue.seen import Kind, Seen, difference, order
from flashback.catalogue.shelf import Note
from flashback.catalogue.shelves import Shelves
from flashback.core.text import stamp

Listing = dict[bytes, Seen]
NAMES = [b"a", b"b", b"a!", b"A b", b"n\nl", b"\xff\xfe", b"*[?\\", "Ünï".encode(), b"-", b"ab"]
DRIVES = ["11111111-aaaa", "22222222-bbbb", "33333333-cccc"]

leaves = st.builds(
    lambda kind, mode, size, mtime, target: Seen(
        b"",
        kind,
        mode,
        1000,
        1000,
        size if kind == Kind.FILE else 0,
        mtime,
        target if kind == Kind.SYMLINK else b"",
    ),
    st.sampled_from([Kind.FILE, Kind.FILE, Kind.FILE, Kind.SYMLINK, Kind.OTHER]).map(int),
    st.sampled_from([0o644, 0o600]),
    st.integers(0, 3),
    st.integers(-1, 2).map(lambda each: each * 10**18),
    st.sampled_from([b"x", b"../\xff"]),
)
trees = st.recursive(leaves, lambda below: st.dictionaries(st.sampled_from(NAMES), below, max_size=4), max_leaves=12)
roots = st.dictionaries(st.sampled_from(NAMES), trees, max_size=5)


def flat(tree, path=b"") -> Listing:
    """A nested dictionary as the listing of a state."""
    if isinstance(tree, Seen):
        return {path: tree._replace(path=path)}
    found = {path: Seen(path, int(Kind.DIRECTORY), 0o755, 0, 0, 0, len(tree))}
    for name, below in tree.items():
        found |= flat(below, path + b"/" + name if path else name)
    return dict(sorted(found.items(), key=lambda item: order(item[0])))


@dataclass
class World:
    """What was done to the drives, in full, beside the shelves that learnt it by deltas."""

    root: Path
    states: dict[tuple[str, str], dict[str, Listing]] = field(default_factory=dict)
    now: datetime = datetime(2026, 1, 1, tzinfo=UTC)

    @property
    def shelves(self) -> Shelves:
        return Shelves(self.root)

    def run(self, drive: str, master: str, tree) -> str:
        self.now += timedelta(hours=7)
        state, new = stamp(self.now), flat(tree)
        done = self.states.setdefault((drive, master), {})
        with self.shelves.shelf(drive, master) as shelf:
            chain = shelf.chain()
            base = chain[-1].header.stem if chain else ""
            with shelf.listing(chain) as old:
                delta = list(difference(old, new.values()))
            mark = f"{len(done) + 1:016x}"
            shelf.write(Header(master=master, state=state, mark=mark, base=base, run="r"), delta)
        done[state] = new
        self.note(drive, master)
        return state

    def prune(self, drive: str, master: str, state: str) -> None:
        self.states[drive, master].pop(state, None)
        self.note(drive, master)

    def note(self, drive: str, master: str) -> None:
        names = tuple(sorted(self.states[drive, master]))
        with self.shelves.shelf(drive, master) as shelf:
            shelf.tidy(shelf.chain(), frozenset(names))
            shelf.keep_note(Note(names, names[-1] if names else "", f"/home/{master}"))


@st.composite
def steps(draw):
    """What is done to the drives, one after another."""
    return draw(
        st.lists(
            st.one_of(
                st.tuples(st.just("run"), st.sampled_from(DRIVES), st.sampled_from(["docs", "pics"]), roots),
                st.tuples(st.just("prune"), st.integers(0, 50), st.just(""), st.just(None)),
                st.tuples(st.just("ask"), st.just(""), st.just(""), st.just(None)),
            ),
            min_size=1,
            max_size=14,
        )
    )


def lived(root: Path, done) -> World:
    """The world after these steps."""
    world = World(root)
    for verb, where, master, tree in done:
        if verb == "run":
            world.run(where, master, tree)
        elif verb == "ask":
            with world.shelves.index():
                pass
        elif verb == "prune":
            old = [(*key, state) for key, states in world.states.items() for state in sorted(states)[:-1]]
            if old:
                world.prune(*old[where % len(old)])
    return world
