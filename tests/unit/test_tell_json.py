from __future__ import annotations

import io
import json
import re
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from flashback.config.show import as_json
from flashback.config.values import Config, Master
from flashback.core.errors import DriveState, NotFinished, StillHeld
from flashback.core.events import (
    Event,
    Finished,
    Note,
    Planned,
    Progress,
    Remark,
    Remarked,
    RemarkKind,
    Step,
    StepBegun,
    StepDone,
)
from flashback.core.signals import Interrupted
from flashback.tell.explain import explain, finished
from flashback.tell.jsonlines import JsonTeller, dumped, one_object

REFERENCE = Path(__file__).parents[2] / "docs/reference"
SCHEMAS = sorted((REFERENCE / "schemas").glob("*.json"))
MASTER = {f"{what}_{kind}": 1 for what in ("files", "bytes") for kind in ("added", "changed", "deleted", "unchanged")}
FACTS = {
    "action": "run",
    "dry_run": False,
    "begun": "2026-01-02T03:04:05Z",
    "ended": "2026-01-02T03:08:00Z",
    "seconds": 200.4,
    "masters": {"documents": {**MASTER, "snapshot": "20260102T030405Z", "unread": 0}},
    "bytes_written": 5,
    "sync_seconds": 0.5,
    "close_seconds": 0.5,
    "unread": [{"master": "documents", "path": "a\udcff", "why": "Permission denied"}],
    "scrub": {
        "bytes": 5,
        "seconds": 1.0,
        "csum_errors": 0,
        "read_errors": 0,
        "uncorrectable": 0,
        "corrected": 0,
        "damaged": [],
    },
    "space": {"size": 10, "free": 5},
}
LAST = Finished("complete", 0, "red", DriveState.CLOSED, safe_to_remove=True, facts=FACTS)
PLAN = {
    "drive": "red",
    "masters": {"documents": {**MASTER, "snapshot": None}},
    "largest": [{"master": "documents", "path": "a", "bytes": 5}],
    "scrub": False,
    "space": {"size": 10, "free": 5, "needed": 1},
}
EVENTS: list[Event] = [
    StepBegun(Step.COPY, "documents"),
    StepDone(Step.COPY, 2.0001, "1 file"),
    Progress(Step.COPY, 5, None, 1, None, b"a\xff"),
    Remarked(Remark(RemarkKind.VANISHED, "documents", b"a\xff", "gone")),
    Note("waiting"),
    Planned(PLAN),
    LAST,
    finished(explain(NotFinished("stopped"), state=DriveState.CLOSED), "red", FACTS),
    finished(explain(StillHeld(["a is still held: b"])), "red"),
    finished(explain(Interrupted(15)), "red"),
]


class Moment:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def clock() -> datetime:
    return datetime(2026, 1, 2, 4, 4, 5, tzinfo=timezone(timedelta(hours=1)))


def schema(name: str) -> Draft202012Validator:
    return Draft202012Validator(json.loads((REFERENCE / f"schemas/{name}.schema.json").read_text()))


def told(*events: Event, moment: Moment | None = None) -> list[dict[str, Any]]:
    stream = io.StringIO()
    with JsonTeller(stream, clock=clock, monotonic=moment or Moment()) as teller:
        for event in events:
            teller(event)
    return [json.loads(line) for line in stream.getvalue().splitlines()]


@pytest.mark.parametrize("path", SCHEMAS, ids=lambda path: path.name)
def test_every_schema_is_a_schema(path: Path) -> None:
    Draft202012Validator.check_schema(json.loads(path.read_text()))


def test_every_schema_is_named_in_the_reference() -> None:
    text = (REFERENCE / "json.md").read_text()
    assert [path.name for path in SCHEMAS if f"`{path.name}`" not in text] == []


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_every_event_is_as_the_schema_says(event: Event) -> None:
    schema("run-events").validate(told(event)[0])


def test_the_example_in_the_reference_is_as_the_schema_says() -> None:
    text = (REFERENCE / "json.md").read_text()
    (example,) = re.findall(r"```json\n(.*?)\n```", text, re.DOTALL)
    schema("run-events").validate(json.loads(example))


@pytest.mark.parametrize(
    "wrong",
    [{"exit_code": 99}, {"drive_state": "still-held"}, {"drive_state": "unknown"}, {"error": {}}, {"result": "great"}],
)
def test_the_schema_refuses_a_last_line_that_is_wrong(wrong: dict[str, Any]) -> None:
    assert not schema("run-events").is_valid({**told(LAST)[0], **wrong})


def test_the_last_line_of_an_init_is_as_its_schema_says() -> None:
    last = Finished("complete", 0, "red", DriveState.CLOSED, safe_to_remove=True, facts={"action": "init"})
    schema("init").validate(told(last)[0])


def test_the_facts_lie_flat_and_do_not_hide_the_fixed_fields() -> None:
    last = Finished(
        "complete", 0, "red", DriveState.CLOSED, safe_to_remove=False, facts={"safe_to_remove": True, "a": 1}
    )
    line = told(last)[0]
    assert (line["safe_to_remove"], line["a"]) == (False, 1)


def test_the_last_line_counts_the_remarks() -> None:
    remark = Remarked(Remark(RemarkKind.VANISHED))
    assert told(remark, remark, LAST)[-1]["remarks"] == 2


def test_the_time_is_utc() -> None:
    assert told(Note("a"))[0]["time"] == "2026-01-02T03:04:05Z"


def test_names_that_are_not_utf8_come_back_byte_for_byte() -> None:
    name = told(EVENTS[3])[0]["path"]
    assert name.encode("utf-8", "surrogateescape") == b"a\xff"


def test_the_output_is_ascii() -> None:
    stream = io.StringIO()
    JsonTeller(stream, clock=clock)(Remarked(Remark(RemarkKind.VANISHED, "Büro", b"\xff\n\x1b")))
    assert stream.getvalue().isascii()
    assert stream.getvalue().count("\n") == 1


def test_progress_comes_twice_a_second_at_most() -> None:
    moment, stream = Moment(), io.StringIO()
    teller = JsonTeller(stream, clock=clock, monotonic=moment)
    for tenth in range(11):
        moment.now = tenth / 10
        teller(Progress(Step.COPY, tenth, 100))
    assert [json.loads(line)["bytes_done"] for line in stream.getvalue().splitlines()] == [0, 5, 10]


def test_the_last_progress_of_a_step_is_never_lost() -> None:
    events = [Progress(Step.COPY, done, 3) for done in range(4)]
    lines = told(*events, StepDone(Step.COPY, 1))
    assert [line.get("bytes_done") for line in lines] == [0, 3, None]


def test_one_object_has_version_and_kind() -> None:
    assert one_object("status", {"a": 1}) == '{"version":1,"kind":"status","a":1}'


def test_bytes_moments_paths_and_sets_have_a_form() -> None:
    value = {"a": b"\xff", "b": datetime(2026, 1, 2, tzinfo=UTC), "c": Path("/x"), "d": {2, 1}}
    assert dumped(value) == '{"a":"\\udcff","b":"2026-01-02T00:00:00Z","c":"/x","d":[1,2]}'


def test_anything_else_is_refused() -> None:
    with pytest.raises(TypeError):
        dumped({"a": object()})


def test_not_a_number_is_refused() -> None:
    with pytest.raises(ValueError):
        dumped({"a": float("nan")})


def test_the_configuration_is_as_its_schema_says() -> None:
    config = Config(Path("/etc/flashback/flashback.yaml"), (Master("documents", Path("/home/alice")),))
    schema("config-show").validate(json.loads(one_object("config", as_json(config))))


SAMPLES = {
    "status": {
        "now": "2026-01-02T03:04:05Z",
        "drives": [
            {
                "name": "red",
                "uuid": "u",
                "place": "home",
                "state": "never",
                "plugged_in": True,
                "open": False,
                "last_complete": None,
                "missing": ["documents"],
                "size": 5,
                "free": None,
                "snapshots": 0,
                "oldest_snapshot": None,
                "last_result": None,
            }
        ],
        "next": {"drive": "red", "why": "it holds nothing yet"},
        "exposure": [{"disaster": "fire", "since": None, "survivors": []}],
    },
    "snapshots": {
        "snapshots": [
            {
                "drive": "red",
                "master": "a",
                "name": "20260102T030405Z",
                "completed": "2026-01-02T03:04:05Z",
                "pinned": False,
            }
        ]
    },
    "doctor": {
        "ready": False,
        "findings": [
            {"what": "rsync", "verdict": "missing", "detail": "not installed", "remedy": "apt-get install rsync"},
        ],
    },
}


@pytest.mark.parametrize("kind", SAMPLES)
def test_the_answers_of_other_commands_have_a_schema(kind: str) -> None:
    schema(kind).validate(json.loads(one_object(kind, SAMPLES[kind])))
