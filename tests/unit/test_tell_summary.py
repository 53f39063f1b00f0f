from __future__ import annotations

from typing import Any

import pytest

from flashback.core.errors import DriveState, Exit, HeldByGuard, NoSpace, NotFinished, StillHeld
from flashback.core.events import Finished, Remark, RemarkKind
from flashback.core.signals import Interrupted
from flashback.tell import Verbosity
from flashback.tell.counted import counts
from flashback.tell.explain import explain, finished
from flashback.tell.summary import closing, plan_lines, remark_text

GIB = 1024**3
DOCUMENTS = {
    "files_added": 1200,
    "bytes_added": 5 * GIB,
    "files_changed": 34,
    "bytes_changed": 600 * 1024**2,
    "files_deleted": 12,
    "bytes_deleted": 4711,
    "files_unchanged": 98766,
    "bytes_unchanged": 50 * GIB,
    "snapshot": "20260102T030405Z",
    "unread": 0,
}
SCRUB = {"bytes": 130 * GIB, "seconds": 1234.5, "csum_errors": 0, "read_errors": 0, "uncorrectable": 0, "corrected": 0}
FACTS: dict[str, Any] = {"seconds": 200.4, "masters": {"documents": DOCUMENTS}}
SAFE = "red is closed; safe to remove."


def ended(code: int = 0, result: str = "complete", **changed: Any) -> Finished:
    values: dict[str, Any] = {
        "drive": "red",
        "drive_state": DriveState.CLOSED,
        "safe_to_remove": True,
        "facts": FACTS,
        **changed,
    }
    return Finished(result, code, **values)


def lines(last: Finished, *remarks: Remark, verbosity: Verbosity = Verbosity.NORMAL) -> list[str]:
    return [line.plain() for line in closing(last, remarks, verbosity=verbosity)]


def test_a_complete_run_is_told_in_two_lines() -> None:
    assert lines(ended()) == [
        "red: backup complete. 1,234 files (5.6 GiB) copied, 12 deleted, 98,766 unchanged, in 3 min 20 s.",
        SAFE,
    ]


def test_a_success_says_what_comes_next_and_ends_with_the_drive() -> None:
    assert lines(ended(next_step="plug in blue"))[-2:] == ["Next: plug in blue", SAFE]


def test_several_masters_are_told_one_by_one() -> None:
    told = lines(ended(facts={"masters": {"a": DOCUMENTS, "b": {"files_unchanged": 3}}}))
    assert told[1:3] == [
        "  a: 1,234 files (5.6 GiB) copied, 12 deleted, 98,766 unchanged.",
        "  b: no file copied, 3 unchanged.",
    ]


RENAMED = {"files_moved": 12, "bytes_moved": GIB, "directories_moved": 3, "files_unchanged": 5}


def test_what_was_renamed_is_told_beside_what_was_copied() -> None:
    facts = {"seconds": 4.2, "masters": {"documents": RENAMED}}
    assert lines(ended(facts=facts))[0] == (
        "red: backup complete. no file copied, 12 files and 3 directories renamed, 5 unchanged, in 4.2 s."
    )


def test_the_plan_names_what_was_renamed() -> None:
    told = [line.plain() for line in plan_lines({"drive": "red", "masters": {"documents": RENAMED}})]
    assert told[1] == "  documents: 12 files and 3 directories renamed (nothing to copy), 5 unchanged"


def test_a_single_renamed_file_is_one() -> None:
    assert counts([{"files_moved": 1}]) == "no file copied, 1 file renamed"


def test_nothing_to_do_is_said_as_such() -> None:
    facts = {"seconds": 4.2, "masters": {"documents": {"files_unchanged": 98766}}}
    assert lines(ended(result="nothing-to-do", facts=facts)) == [
        "red: nothing to do: all 98,766 files are on the drive as in the master, in 4.2 s.",
        SAFE,
    ]


@pytest.mark.parametrize("state", list(DriveState))
@pytest.mark.parametrize("code", [0, 1, 10, 11, 12, 13, 14, 15, 130])
def test_safe_to_remove_is_never_said_when_it_is_not(code: int, state: DriveState) -> None:
    told = "\n".join(lines(ended(code, "failed", drive_state=state, safe_to_remove=False)))
    assert "safe to remove" not in told


@pytest.mark.parametrize("state", [DriveState.STILL_HELD, DriveState.UNKNOWN, DriveState.GONE])
def test_a_contradiction_is_resolved_to_not_safe(state: DriveState) -> None:
    assert "safe to remove" not in "\n".join(lines(ended(drive_state=state, safe_to_remove=True)))


def test_closed_but_unproven_asks_for_patience() -> None:
    told = lines(ended(10, "incomplete", safe_to_remove=False))
    assert "wait a minute" in told[-1]
    assert "can be unplugged" not in "\n".join(told)


def test_closed_beside_a_partition_in_use_says_why_it_is_not_safe() -> None:
    assert "in use otherwise" in lines(ended(safe_to_remove=False))[-1]


def test_a_failure_tells_what_then_the_drive_then_what_next() -> None:
    error = NoSpace("no space left on the drive", findings=["5 GiB needed"])
    told = explain(error, drive="red", state=DriveState.CLOSED)
    assert lines(finished(told, "red", closed_for_sure=True)) == [
        "✗ red: no space left on the drive",
        "  5 GiB needed",
        f"  {SAFE}",
        f"  Next: {told.next_step}",
    ]


def test_still_held_is_the_first_line_with_the_process_in_the_way() -> None:
    error = NoSpace("no space left")
    error.held = ("mount of red is still held: vim (pid 7) has a.txt open", "mapping is still held: it is mounted")
    told = lines(finished(explain(error, drive="red"), "red", facts=FACTS))
    assert told[0] == "✗ STILL HELD: do not unplug red. In the way: vim (pid 7) has a.txt open"
    assert "  Cause: no space left" in told
    assert told[-2] == "  The drive is still mounted or open; do not unplug it."
    assert "`flashback close red`" in told[-1]


def test_still_held_alone_needs_no_cause() -> None:
    told = lines(finished(explain(StillHeld(["a is still held: b"]), drive="red"), "red"))
    assert not any("Cause" in line for line in told)


def test_a_guard_says_that_nothing_was_written() -> None:
    error = HeldByGuard("most files would be deleted", holds=["mass-deletion"])
    told = lines(finished(explain(error, drive="red", state=DriveState.CLOSED), "red"))
    assert told[0] == "✗ red: held by a guard, nothing was written: most files would be deleted"
    assert "--allow mass-deletion" in told[-1]


def test_an_unfinished_run_says_so() -> None:
    told = lines(finished(explain(NotFinished("rsync ended"), drive="red", state=DriveState.CLOSED), "red"))
    assert told[0] == "✗ red: not finished: rsync ended"
    assert "carries on" in told[-1]


def test_a_stop_by_ctrl_c_says_so() -> None:
    told = lines(finished(explain(Interrupted(2), state=DriveState.CLOSED), "red", closed_for_sure=True))
    assert told[:2] == ["✗ Stopped by SIGINT (Ctrl-C), everything was released.", f"  {SAFE}"]


def test_a_dry_run_with_unread_files_does_not_say_that_it_finished() -> None:
    last = ended(11, "incomplete", facts={"dry_run": True, "unread": [{"master": "d", "path": "x", "why": "no"}]})
    assert lines(last)[0] == "✗ red: dry run, nothing was written, but 1 file could not be read or written."


def test_unread_files_are_listed_by_name() -> None:
    facts = {**FACTS, "unread": [{"master": "documents", "path": "a\udcff", "why": "Permission denied"}]}
    told = lines(ended(11, "incomplete", facts=facts))
    assert told[0] == "✗ red: finished, but 1 file could not be read or written."
    assert "  documents/a\\xff: Permission denied" in told


def test_unread_files_are_taken_from_the_remarks_where_the_facts_have_none() -> None:
    told = lines(ended(11, "incomplete"), Remark(RemarkKind.UNREADABLE, "documents", b"a", "Permission denied"))
    assert "  documents/a: could not be read: Permission denied" in told


def test_damage_comes_first_and_names_the_files() -> None:
    scrub = {**SCRUB, "csum_errors": 1, "uncorrectable": 1, "damaged": ["documents/current/a.jpg"]}
    told = lines(ended(14, facts={**FACTS, "scrub": scrub}))
    assert told[0] == "✗ red: DAMAGE FOUND on the drive: 1 file damaged. The backup itself is complete."
    assert "  Scrub: 130 GiB read back in 20 min 34 s, 1 checksum error, 1 not correctable." in told
    assert "  damaged: documents/current/a.jpg" in told


def test_a_clean_scrub_is_one_line() -> None:
    assert "  Scrub: 130 GiB read back in 20 min 34 s, no errors." in lines(ended(facts={**FACTS, "scrub": SCRUB}))


def test_a_dry_run_says_that_nothing_was_written() -> None:
    assert lines(ended(facts={"dry_run": True})) == ["red: dry run, nothing was written.", SAFE]


def links(count: int) -> list[Remark]:
    return [Remark(RemarkKind.DANGLING_LINK, "documents", b"%d" % each) for each in range(count)]


def test_the_first_ten_remarks_are_shown_and_the_rest_counted() -> None:
    told = lines(ended(), *links(22))
    assert told[1] == "  22 remarks:"
    assert told[2] == "    documents/0: link to nothing, left out"
    assert told[12] == "    … and 12 more: flashback run red --verbose"


def test_ten_remarks_need_no_more() -> None:
    assert not any("more" in line for line in lines(ended(), *links(10)))


def test_remarks_do_not_stand_between_a_failure_and_what_to_do() -> None:
    error = finished(explain(NoSpace("full"), drive="red", state=DriveState.CLOSED), "red")
    assert "  22 remarks so far: flashback run red --verbose" in lines(error, *links(22))


def test_quiet_leaves_only_the_last_line_of_a_success() -> None:
    assert lines(ended(next_step="plug in blue"), *links(3), verbosity=Verbosity.QUIET) == [SAFE]


def test_quiet_still_tells_all_of_a_failure() -> None:
    last = finished(explain(NoSpace("full"), drive="red", state=DriveState.CLOSED), "red")
    assert lines(last, *links(3), verbosity=Verbosity.QUIET) == lines(last)


def test_names_cannot_draw_on_the_terminal() -> None:
    facts = {
        "masters": {"a\x1b": DOCUMENTS, "b": {}},
        "scrub": {"damaged": ["\x1b[2J"]},
        "unread": [{"master": "m\r", "path": "\x07", "why": "\x1b"}],
    }
    error = {"what": "\x1b", "findings": ["\x1b"], "held": []}
    last = ended(14, drive="r\x1b", facts=facts, error=error, next_step="\x1b")
    told = "".join(lines(last, Remark(RemarkKind.GENERAL, "\x1b", b"\x1b", "\x1b")))
    assert "\x1b" not in told
    assert "\r" not in told


def test_a_remark_names_master_path_and_reason() -> None:
    remark = Remark(RemarkKind.UNREADABLE, "documents", b"a/\xff", "Input/output error")
    assert remark_text(remark) == "documents/a/\\xff: could not be read: Input/output error"


def test_counts_leave_out_what_did_not_happen() -> None:
    assert counts([{"files_added": 1, "bytes_added": 5}]) == "1 file (5 B) copied"


PLAN = {
    "drive": "red",
    "masters": {"documents": DOCUMENTS, "photos": {}},
    "largest": [{"master": "documents", "path": "video", "bytes": 4 * GIB}],
    "prune": ["documents/20250101T000000Z"],
    "snapshots": [
        {
            "master": "documents",
            "name": "20250101T000000Z",
            "keep": False,
            "rule": "none",
            "reasons": ["not among the last 3", "older than the newest 7 days"],
            "bytes": 12_900_000,
        }
    ],
    "holds": [{"name": "mass-deletion", "why": "most files would go"}],
    "scrub": True,
    "space": {"size": 931 * GIB, "free": 400 * GIB, "needed": 6 * GIB},
}


def test_a_plan_is_told_whole() -> None:
    assert [line.plain() for line in plan_lines(PLAN)] == [
        "Plan for red:",
        "  documents: 1,200 files (5.0 GiB) new, 34 files (600 MiB) changed, 12 files (4.6 KiB) to delete, 98,766 unchanged",
        "    what is on the drive now is kept as snapshot 20260102T030405Z",
        "  photos: nothing to do",
        "  most of it is in:",
        "     4.0 GiB  documents/video",
        "  1 old snapshot makes way, 12.3 MiB come free:",
        "    documents/20250101T000000Z  12.3 MiB  not among the last 3; older than the newest 7 days",
        "  then everything on the drive is read back (scrub)",
        "  space: about 6.0 GiB needed, 400 GiB free of 931 GiB",
        "! held by the guard mass-deletion: most files would go (to allow it: --allow mass-deletion)",
    ]


def test_a_hold_that_was_allowed_is_not_said_to_hold() -> None:
    (said,) = [line.plain() for line in plan_lines(PLAN | {"allowed": ["mass-deletion"]}) if "guard" in line.plain()]
    assert said == "! allowed, what the guard mass-deletion says: most files would go"


def test_an_empty_plan_does_not_fail() -> None:
    assert [line.plain() for line in plan_lines({})] == ["Plan:"]


def test_the_plan_of_an_init_numbers_its_steps() -> None:
    plan = {"drive": "red", "device": "/dev/sdb", "model": "SanDisk", "serial": "", "size": GIB, "steps": ["a", "b"]}
    assert [line.plain() for line in plan_lines(plan)] == [
        "Plan for red:",
        "  on /dev/sdb, SanDisk, 1.0 GiB",
        "  1. a",
        "  2. b",
    ]


def test_a_close_of_what_was_not_open_says_so() -> None:
    assert lines(ended(result="nothing-to-do", facts={"action": "close"})) == ["red: it was not open here.", SAFE]


def test_a_failure_after_which_the_drive_was_closed_says_that_it_can_be_unplugged() -> None:
    told = explain(NotFinished("odd"), drive="red", state=DriveState.CLOSED)
    assert f"  {SAFE}" in lines(finished(told, "red", closed_for_sure=True))


def test_a_dry_run_that_is_held_speaks_of_nothing_as_done() -> None:
    facts = {
        "action": "run",
        "dry_run": True,
        "masters": {"documents": {"files_added": 0, "bytes_added": 0, "files_deleted": 40}},
    }
    error = {"what": "held by the guard mass-deletion, nothing was written", "findings": []}
    last = Finished("held", Exit.HELD_BY_GUARD, "red", DriveState.CLOSED, safe_to_remove=True, facts=facts, error=error)
    lines = [line.plain() for line in closing(last)]
    assert lines[0] == "✗ red: held by the guard mass-deletion, nothing was written."
    assert "40 deleted" not in "\n".join(lines)
