"""A list of entries in a file says what went in."""

from __future__ import annotations

import stat

from hypothesis import given
from hypothesis import strategies as st

from flashback.drive.spool import Spool
from flashback.drive.tree import Item, unread

ITEMS = st.builds(
    Item,
    path=st.binary(min_size=1, max_size=300),
    mode=st.sampled_from([stat.S_IFREG | 0o640, stat.S_IFDIR | 0o2750, stat.S_IFLNK | 0o777]),
    uid=st.integers(0, 2**32 - 1),
    gid=st.integers(0, 2**32 - 1),
    size=st.integers(0, 2**63 - 1),
    mtime_ns=st.integers(-(2**63) * 10**9, (2**63 - 1) * 10**9 + 999_999_999),
    ino=st.integers(0, 2**64 - 1),
    links=st.integers(0, 2**32 - 1),
    blocks=st.integers(0, 2**63),
    changed=st.integers(0, 2**64 - 1),
)


@given(st.lists(ITEMS, max_size=50))
def test_what_went_in_comes_out_as_often_as_it_is_read(items: list[Item]) -> None:
    spool = Spool(items)
    assert (list(spool), list(spool), len(spool)) == (items, items, len(items))
    assert spool.files == sum(not each.is_directory for each in items)
    assert spool.bytes == sum(each.size for each in items)
    assert spool.holes == sum(each.has_holes for each in items)


def test_entries_lie_across_the_pieces_in_which_the_file_is_read() -> None:
    items = [Item(b"x" * 4000 + str(count).encode(), stat.S_IFREG, 0, 0, 1, 2, 3, 1, 8) for count in range(1000)]
    assert list(Spool(items)) == items


def test_what_whoever_reads_may_not_see_is_no_damage_of_the_drive() -> None:
    assert unread(b"a", PermissionError(13, "Permission denied")).damage is False
    assert unread(b"a", OSError(5, "Input/output error")).damage is True
