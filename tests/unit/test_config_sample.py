"""The first configuration, what is shown of one, and the page that explains it."""

from __future__ import annotations

import json
import os
import stat
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flashback.config.reader import read
from flashback.config.sample import first_configuration, first_exclusions, name_for, write_first
from flashback.config.settings import SETTINGS, Setting
from flashback.config.show import as_json, as_yaml
from flashback.config.values import Btrfs, Config, Guards, Keep, Master, Notify, OnPlug, Rotation, Symlinks

RUNTIME = Path("/run/flashback")
REPOSITORY = Path(__file__).parents[2]


def load(file: Path) -> Config:
    return read(file, runtime=RUNTIME, trusted=False)


def test_the_first_configuration_says_the_defaults(tmp_path: Path) -> None:
    write_first(tmp_path, masters={"documents": Path("/home/alice/Documents")})
    config = load(tmp_path / "flashback.yaml")
    (master,) = config.masters
    assert config == Config(file=tmp_path / "flashback.yaml", masters=(master,))
    assert master == Master(
        "documents", Path("/home/alice/Documents"), exclusion_files=(tmp_path / "exclusions.txt",), rules=master.rules
    )
    assert len(master.rules) > 100


def test_every_setting_is_in_the_first_configuration_with_a_comment() -> None:
    lines = first_configuration(masters={"a": Path("/a")}).splitlines()
    for setting in SETTINGS:
        if setting.name != "path":
            assert any(line.strip().startswith(f"{setting.name}: ") and setting.about in line for line in lines), (
                setting.path
            )


@pytest.mark.parametrize(
    "path",
    [
        "/home/a b",
        "/#x",
        "/a: b",
        '/"',
        "/\\n",
        "/\n",
        "/ü",
        "/\U0001f600",
        "/\udcff",
        "/{a}",
        "/'",
        "/a #b",
        "/\x85",
        "/%x",
    ],
)
def test_any_path_survives_the_first_configuration(tmp_path: Path, path: str) -> None:
    write_first(tmp_path, masters={"no": Path(path), "12": Path("/x")})
    config = load(tmp_path / "flashback.yaml")
    assert [(master.name, master.path) for master in config.masters] == [("no", Path(path)), ("12", Path("/x"))]


def test_the_first_files_are_readable_by_all_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        written = write_first(tmp_path / "etc" / "flashback", masters={"a": Path("/a")})
    finally:
        os.umask(before)
    assert [stat.S_IMODE(file.stat().st_mode) for file in written] == [0o644, 0o644]
    assert [stat.S_IMODE(folder.stat().st_mode) for folder in (tmp_path / "etc", tmp_path / "etc" / "flashback")] == [
        0o755,
        0o755,
    ]
    before = os.umask(0)
    try:
        write_first(tmp_path / "open", masters={"a": Path("/a")})
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "open").stat().st_mode) == 0o755


def test_a_directory_that_exists_keeps_its_mode(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    write_first(tmp_path, masters={"a": Path("/a")})
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o700


def test_what_exists_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "flashback.yaml").write_text("mine")
    (tmp_path / "exclusions.txt").symlink_to("nowhere")
    assert write_first(tmp_path, masters={"a": Path("/a")}) == ()
    assert (tmp_path / "flashback.yaml").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["exclusions.txt", "flashback.yaml"]


def test_a_file_that_appears_in_between_is_not_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "flashback.yaml").write_text("mine")
    monkeypatch.setattr("flashback.config.sample.os.path.lexists", lambda path: False)
    assert write_first(tmp_path, masters={"a": Path("/a")}) == (tmp_path / "exclusions.txt",)
    assert (tmp_path / "flashback.yaml").read_text() == "mine"


def test_a_failed_write_leaves_no_half_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("flashback.config.sample.os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_first(tmp_path, masters={"a": Path("/a")})
    assert list(tmp_path.iterdir()) == []


def test_the_first_exclusions_are_the_example_of_the_repository() -> None:
    assert first_exclusions() == (REPOSITORY / "exclusions.example.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("directory", "taken", "name"),
    [
        ("/home/alice/Documents", (), "documents"),
        ("/home/alice/My Files", (), "my-files"),
        ("/home/alice/.config", (), "config"),
        ("/", (), "master"),
        ("/ü", (), "master"),
        ("/a/README.txt", (), "master"),
        ("/b/Documents", ("documents", "documents-2"), "documents-3"),
        ("/" + "x" * 200, (), "x" * 60),
    ],
)
def test_a_master_is_named_after_its_directory(directory: str, taken: tuple[str, ...], name: str) -> None:
    assert name_for(Path(directory), taken) == name


# --- show ------------------------------------------------------------------------------------------------------------

DURATIONS = st.integers(min_value=1, max_value=100_000).map(lambda minutes: timedelta(minutes=minutes))
COUNTS = st.integers(min_value=0, max_value=1_000_000)
PATHS = (
    st.binary(min_size=1, max_size=20)
    .filter(lambda name: b"\0" not in name and not any(part == b".." for part in name.split(b"/")))
    .map(lambda name: Path("/master/" + os.fsdecode(name)))
)
CONFIGS = st.builds(
    Config,
    file=st.just(Path("/x")),
    masters=st.dictionaries(
        st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,20}\Z").filter(lambda name: name != "README.txt"),
        st.tuples(PATHS, st.none() | st.just("root"), st.sampled_from(Symlinks), st.sampled_from(Btrfs)),
        min_size=1,
        max_size=3,
    )
    .map(
        lambda masters: tuple(
            Master(name, path, owner, symlinks, btrfs=btrfs) for name, (path, owner, symlinks, btrfs) in masters.items()
        )
    )
    .filter(lambda masters: len({master.path for master in masters}) == len(masters)),
    keep=st.builds(
        Keep, st.integers(min_value=1, max_value=99), COUNTS, COUNTS, COUNTS, COUNTS, COUNTS,
        st.floats(min_value=0, max_value=0.99) | st.integers(min_value=0, max_value=1 << 50),
    ),
    rotation=st.builds(lambda due, more: Rotation(due, due + more), DURATIONS, DURATIONS),
    guards=st.builds(
        Guards, st.floats(min_value=0, max_value=0.99), COUNTS, COUNTS, st.integers(0, 1 << 50), DURATIONS
    ),
    scrub_every=st.none() | DURATIONS,
    full_every=COUNTS,
    on_plug=st.sampled_from(OnPlug),
    answer_within=DURATIONS,
    min_battery=st.floats(min_value=0, max_value=0.99),
    power_off=st.booleans(),
    notify=st.builds(Notify, st.booleans()),
    compress=st.sampled_from(["no", "zstd:1", "zstd:15"]),
)  # fmt: skip


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=100)
@given(CONFIGS)
def test_what_is_shown_as_yaml_reads_back_as_the_same(tmp_path: Path, config: Config) -> None:
    file = tmp_path / "shown.yaml"
    file.write_text(as_yaml(config), encoding="utf-8")
    again = read(file, runtime=RUNTIME, trusted=False, users=lambda name: name == "root")
    assert as_json(again) | {"file": ""} == as_json(config) | {"file": ""}
    assert again.masters == config.masters
    assert type(again.keep.min_free) is type(config.keep.min_free)


def test_what_is_shown_as_json_has_every_setting_in_plain_units(tmp_path: Path) -> None:
    write_first(tmp_path, masters={"documents": Path("/home/alice/Documents")})
    config = load(tmp_path / "flashback.yaml")
    assert json.loads(json.dumps(as_json(config))) == {
        "file": str(tmp_path / "flashback.yaml"),
        "masters": {
            "documents": {
                "path": "/home/alice/Documents",
                "owner": None,
                "symlinks": "follow",
                "btrfs": "auto",
                "exclusions": [str(tmp_path / "exclusions.txt")],
            }
        },
        "keep": {
            "last": 3,
            "hourly": 0,
            "daily": 7,
            "weekly": 8,
            "monthly": 12,
            "yearly": 5,
            "min_free": {"share": 0.05},
        },
        "rotation": {"due_after": 604800, "overdue_after": 1209600},
        "guards": {
            "deleted_share": 0.3,
            "deleted_files": 20,
            "damaged_files": 20,
            "growth": 20 << 30,
            "min_interval": 3600,
        },
        "scrub_every": 2592000,
        "full_every": 10,
        "on_plug": "ask",
        "answer_within": 900,
        "min_battery": 0.3,
        "power_off": True,
        "notify": {"desktop": True},
        "compress": "zstd:3",
    }


# --- the pages -------------------------------------------------------------------------------------------------------


def described(setting: Setting) -> str:
    """The setting's row in docs/reference/configuration.md."""
    default = "required" if setting.default is None else f"`{setting.default}`"
    return f"| `{setting.path}` | {setting.kind} | {default} | {setting.about} |"


def test_the_reference_names_every_setting_with_its_default() -> None:
    page = (REPOSITORY / "docs/reference/configuration.md").read_text(encoding="utf-8").splitlines()
    assert [described(setting) for setting in SETTINGS if described(setting) not in page] == []


def test_the_reference_names_no_setting_that_does_not_exist() -> None:
    page = (REPOSITORY / "docs/reference/configuration.md").read_text(encoding="utf-8").splitlines()
    assert [line for line in page if line.startswith("| `") and line not in map(described, SETTINGS)] == []


def test_the_example_on_the_reference_page_can_be_read(tmp_path: Path) -> None:
    page = (REPOSITORY / "docs/reference/configuration.md").read_text(encoding="utf-8")
    (tmp_path / "flashback.yaml").write_text(page.split("```yaml\n")[1].split("```")[0])
    (tmp_path / "exclusions.txt").touch()
    config = read(tmp_path / "flashback.yaml", runtime=RUNTIME, trusted=False, users=lambda name: name == "alice")
    assert [master.name for master in config.masters] == ["documents", "photos"]
