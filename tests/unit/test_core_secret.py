"""A secret shows itself nowhere."""

from __future__ import annotations

import copy
import ctypes
import logging
import pickle
import resource

import pytest

from flashback.core.secret import Secret, without_final_newline

VALUE = b"tr0ub4dor&3"
PR_GET_DUMPABLE, PR_SET_DUMPABLE = 3, 4


@pytest.mark.parametrize("show", [str, repr, "{}".format, "{!r}".format, "%s".__mod__, ascii, lambda it: f"{[it]}"])
def test_no_text_of_a_secret_holds_its_value(show):
    assert show(Secret(VALUE)) in {"<secret>", "[<secret>]"}


def test_a_log_line_does_not_hold_it(caplog):
    logging.getLogger("test").error("opened with %s", Secret(VALUE))
    assert caplog.messages == ["opened with <secret>"]


@pytest.mark.parametrize("write", [pickle.dumps, copy.copy, copy.deepcopy])
def test_it_is_neither_written_nor_copied(write):
    with pytest.raises(TypeError, match="not written anywhere"):
        write(Secret(VALUE))


def test_it_has_no_dictionary_that_could_be_printed():
    with pytest.raises(TypeError):
        vars(Secret(VALUE))


def test_only_reveal_gives_the_bytes():
    assert Secret(VALUE).reveal() == VALUE


def test_secrets_compare_by_value_and_the_empty_one_is_false():
    assert Secret(VALUE) == Secret(VALUE)
    assert Secret(VALUE) != Secret(b"other")
    assert Secret(VALUE) != VALUE
    assert not Secret(b"")


def test_from_the_first_secret_on_a_crash_leaves_no_core_file():
    _soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
    Secret(VALUE)
    assert resource.getrlimit(resource.RLIMIT_CORE) == (0, hard)


def test_from_the_first_secret_on_nobody_but_root_can_look_into_the_process():
    """Also no core is then given to a program, for which the limit does not hold (core(5))."""
    libc = ctypes.CDLL(None)
    libc.prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)
    Secret(VALUE)
    assert libc.prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == 0
    libc.prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (b"a\n", b"a"),
        (b"a", b"a"),
        (b"a\n\n", b"a\n"),
        (b" a \r\n", b" a \r"),
        (b"\n", b""),
        (b"", b""),
        (b"\na", b"\na"),
    ],
)
def test_one_newline_at_the_end_is_dropped_and_nothing_else(given, kept):
    assert without_final_newline(given) == kept
