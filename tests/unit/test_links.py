"""Links that leave the master; tests/tools/test_walk_against_rsync.py asks rsync itself."""

import pytest

from flashback.walk.links import leaves


@pytest.mark.parametrize(
    ("target", "path"),
    [
        (b"/etc", b"l"),
        (b"", b"l"),
        (b"..", b"l"),
        (b"../x", b"l"),
        (b"../../x", b"d/l"),
        (b"a/../b", b"l"),
        (b"a/..", b"d/l"),
    ],
)
def test_a_link_leads_out(target, path):
    assert leaves(target, path)


@pytest.mark.parametrize(
    ("target", "path"),
    [(b"x", b"l"), (b"./x", b"l"), (b"..", b"d/l"), (b"../x/y", b"d/l"), (b"..//../x", b"d/e/l"), (b"..a", b"l")],
)
def test_a_link_stays_inside(target, path):
    assert not leaves(target, path)
