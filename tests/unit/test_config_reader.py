"""The configuration file: every kind of mistake is found, with its place, and all of them at once."""

from __future__ import annotations

import os
import re
import stat
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flashback.config.reader import read, user_exists
from flashback.config.settings import SETTINGS
from flashback.config.values import Config, Guards, Keep, Master, Notify, OnPlug, Rotation, Symlinks
from flashback.core.errors import ConfigError, Exit

RUNTIME = Path("/run/flashback")
MASTERS = "masters: {documents: {path: /home/alice/Documents}}\n"


def load(directory: Path, text: str | bytes) -> Config:
    file = directory / "flashback.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read(file, runtime=RUNTIME, trusted=False, users=lambda name: name in {"alice", "bob"})


def findings(directory: Path, text: str | bytes) -> list[str]:
    """The findings without the name of the file."""
    with pytest.raises(ConfigError) as caught:
        load(directory, text)
    assert caught.value.exit_code is Exit.USAGE
    prefix = f"{directory / 'flashback.yaml'}:"
    return [line.removeprefix(prefix) for line in caught.value.findings]


def test_a_path_is_all_that_is_needed(tmp_path: Path) -> None:
    assert load(tmp_path, MASTERS) == Config(
        file=tmp_path / "flashback.yaml", masters=(Master("documents", Path("/home/alice/Documents")),)
    )


def test_every_setting_is_read(tmp_path: Path) -> None:
    (tmp_path / "exclusions.txt").write_text("*.o\n")
    config = load(
        tmp_path,
        """
masters:
  documents:
    path: "/home/alice/My: Documents/"
    owner: alice
    symlinks: external
    exclusions: [exclusions.txt]
  "2024": {path: /srv}
keep: {last: 1, hourly: 2, daily: 3, weekly: 4, monthly: 5, yearly: 6, min_free: 10GiB}
rotation: {due_after: 12h, overdue_after: 2w}
scrub_every: 90d
on_plug: always
notify: {desktop: false}
compress: zstd:15
""",
    )
    documents, year = config.masters
    assert (documents.path, documents.owner, documents.symlinks) == (
        Path("/home/alice/My: Documents"),
        "alice",
        Symlinks.EXTERNAL,
    )
    assert documents.exclusion_files == (tmp_path / "exclusions.txt",)
    assert [(rule.pattern, rule.origin) for rule in documents.rules] == [(b"*.o", f"{tmp_path}/exclusions.txt:1")]
    assert year.name == "2024"
    assert config.keep == Keep(1, 2, 3, 4, 5, 6, 10 << 30)
    assert config.rotation == Rotation(timedelta(hours=12), timedelta(days=14))
    assert (config.scrub_every, config.on_plug, config.notify) == (
        timedelta(days=90),
        OnPlug.ALWAYS,
        Notify(desktop=False),
    )
    assert config.compress == "zstd:15"


def test_all_findings_are_told_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    text = """\
masters:
  documents:
    paht: /home/alice
    owner: mallory
keep: {last: 0, daily: monthly, dailly: 3}
on_plug: askk
on_plug: ask
"""
    assert findings(tmp_path, text) == [
        "2:3: masters.documents.path: required, but missing",
        "3:5: masters.documents.paht: unknown setting; did you mean path?",
        "4:12: masters.documents.owner: there is no user 'mallory' on this machine",
        "5:14: keep.last: must be at least 1: the newest snapshot is always kept",
        "5:24: keep.daily: expected a whole number, found 'monthly'",
        "5:33: keep.dailly: unknown setting; did you mean daily?",
        "6:10: on_plug: expected ask, always or never, found 'askk'; did you mean ask?",
        "7:1: 'on_plug' is given twice; the first is in line 6",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"", "1:1: the file is empty"),
        (b"# only a comment\n", "1:1: the file is empty"),
        (b"---\n", "1:1: the file is empty"),
        (b"masters:\n\tdocuments:\n", "2:1: a tab; YAML wants blanks"),
        (b"masters:\tdocuments: {}\n", "1:9: a tab; YAML wants blanks"),
        (b"a: b\nc: \xc3\xbc\xff\n", "2:5: not UTF-8: byte 0xff"),
        ("masters: x".encode("utf-16"), "1:1: not UTF-8"),
        (b"a: \x07\n", "1:4: a character that YAML forbids: '\\x07'"),
        (b"a: b: c\n", "1:5: a second ':' in one line"),
        (b"a: 'b\n", "2:1: a quote or bracket that is opened is never closed"),
        (b"a: [b\n", "2:1: a bracket that is opened is never closed"),
        (b'a: "\\UFFFFFFFF"\n', "1:7: not YAML: a character or number that does not exist"),
        (b"%YAML 1" + b"9" * 5000 + b".1\n---\na\n", "1:7: not YAML: a character or number"),
        (b"- masters\n", "1:1: expected settings such as 'masters:', found a list"),
        (b"masters\n", "1:1: expected settings such as 'masters:', found 'masters'"),
        (b"a: " + b"[" * 40, "1:14: nested too deeply"),
        (b"#" * 200_000, "1:1: the file is larger than 128 KiB"),
        (b"? [a, b]\n: c\n", "1:3: expected a name, found a list or a section"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_configuration_is_refused_at_the_place(tmp_path: Path, text: bytes, expected: str) -> None:
    assert any(line.startswith(expected) for line in findings(tmp_path, text))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("scrub_every: &a 7d\n", "2:14: an anchor ('&a')"),
        ("scrub_every: *a\n", "2:14: an alias ('*a')"),
        ("on_plug: *a\n", "2:10: an alias ('*a')"),
        ("scrub_every: !!python/name:os.system 7d\n", "2:14: a tag ("),
        ("<<: {scrub_every: 7d}\n", "2:1: merge keys (<<)"),
        ("---\nscrub_every: 7d\n", "2:1: a second document"),
    ],
)
def test_yaml_tricks_are_refused(tmp_path: Path, text: str, expected: str) -> None:
    assert [line[: len(expected)] for line in findings(tmp_path, MASTERS + text)] == [expected]


def test_a_billion_laughs_are_not_laughed(tmp_path: Path) -> None:
    laughs = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"{after}: &{after} [{','.join(['*' + before] * 9)}]\n"
        for before, after in zip("abcdefgh", "bcdefghi", strict=True)
    )
    assert any("an alias" in line for line in findings(tmp_path, laughs))


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("keep: {daily: '7'}", "2:15: keep.daily: expected a whole number, found the text '7' in quotes"),
        ("keep: {daily: 010}", "2:15: keep.daily: expected a whole number without leading zeros, found '010'; did you mean 10?"),
        ("keep: {daily: 12:30}", "2:15: keep.daily: expected a whole number, found '12:30'"),
        ("keep: {daily: -1}", "2:15: keep.daily: must not be negative, found '-1'"),
        ("keep: {daily: [7]}", "2:15: keep.daily: expected a whole number, found a list"),
        ("keep: {daily: }", "2:14: keep.daily: expected a whole number, found nothing"),
        ("keep: 7", "2:7: keep: expected settings, one 'name: value' in a line, found '7'"),
        ("notify: {desktop: yes}", "2:19: notify.desktop: expected true or false, found 'yes'; did you mean true?"),
        ("notify: {desktop: 'true'}", "2:19: notify.desktop: expected true or false, found the text 'true' in quotes"),
        ("guards: {deleted_share: 5GiB}", "2:25: guards.deleted_share: expected a share such as 30%, found '5GiB'"),
        ("guards: {growth: 30%}", "2:18: guards.growth: expected a size such as 20GiB, found '30%'"),
        ("guards: {growht: 1GiB}", "2:10: guards.growht: unknown setting; did you mean growth?"),
        ("on_plug: on", "2:10: on_plug: expected ask, always or never, found 'on'"),
        ("compress: zstd:16", "2:11: compress: expected zstd:1 to zstd:15, or no, found 'zstd:16'"),
        ("compress: true", "2:11: compress: expected zstd:1 to zstd:15, or no, found 'true'; did you mean zstd:3?"),
        ("scrub_every: monthly", "2:14: scrub_every: expected a duration"),
        ("rotation: {due_after: 3w}", "2:23: rotation.due_after: due_after (3w) must not be longer than overdue_after (2w)"),
        ("rotation: {overdue_after: 6d}", "2:27: rotation.overdue_after: due_after (7d) must not be longer"),
        ("scrub_evry: 7d", "2:1: scrub_evry: unknown setting; did you mean scrub_every?"),
        ("daily: 7", "2:1: daily: unknown setting; did you mean keep.daily?"),
        ('"ow\\x1bner": 7', "2:1: ow\\x1bner: unknown setting"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_named_with_what_was_found(tmp_path: Path, setting: str, expected: str) -> None:
    assert [line[: len(expected)] for line in findings(tmp_path, MASTERS + setting + "\n")] == [expected]


@pytest.mark.parametrize(
    ("master", "expected"),
    [
        ("documents: /home/alice", "2:14: masters.documents: expected settings, found '/home/alice'; did you mean documents: {path: /home/alice}?"),
        ("documents: {}", "2:3: masters.documents.path: required, but missing"),
        ("documents:", "2:3: masters.documents.path: required, but missing"),
        ("documents: {path: Documents}", "2:21: masters.documents.path: expected an absolute path"),
        ("documents: {path: ~/Documents}", "2:21: masters.documents.path: '~' and '$NAME' are not replaced here"),
        ("documents: {path: /home/../etc}", "2:21: masters.documents.path: expected a path without '..'"),
        ("documents: {path: alice@host:/home}", "2:21: masters.documents.path: 'alice@host:/home' is on another host; pulling over ssh is not yet there"),
        ("documents: {path: host:Documents}", "2:21: masters.documents.path: 'host:Documents' is on another host"),
        ('documents: {path: "/a\\0b"}', "2:21: masters.documents.path: '/a\\x00b' cannot be a path"),
        ('documents: {path: "/a\\uD800"}', "2:21: masters.documents.path: '/a\\ud800' has a character"),
        ("documents: {path: /run/flashback}", "2:21: masters.documents.path: lies in /run/flashback, where drives are mounted"),
        ("documents: {path: /run/flashback/red/x}", "2:21: masters.documents.path: lies in /run/flashback"),
        (".flashback: {path: /a}", "2:3: masters..flashback: this name is taken"),
        ("README.txt: {path: /a}", "2:3: masters.README.txt: this name is taken"),
        ("a b: {path: /a}", "2:3: masters.a b: a name has up to 64 letters"),
        ("../x: {path: /a}", "2:3: masters.../x: a name has up to 64 letters"),
        ("x" * 65 + ": {path: /a}", "2:3: masters." + "x" * 60),
        ("a: {path: /a, symlinks: copy}", "2:27: masters.a.symlinks: expected follow, external or keep, found 'copy'"),
        ("a: {path: /a, exclusions: e.txt}", "2:29: masters.a.exclusions: expected a list of files, found 'e.txt'; did you mean [e.txt]?"),
        ("a: {path: /a, exclusions: [e.txt]}", "2:30: masters.a.exclusions[0]: "),
    ],
)  # fmt: skip
def test_a_wrong_master_is_named_with_the_right_form(tmp_path: Path, master: str, expected: str) -> None:
    assert [line[: len(expected)] for line in findings(tmp_path, f"masters:\n  {master}\n")] == [expected]


def test_two_masters_may_not_be_the_same_directory(tmp_path: Path) -> None:
    text = "masters:\n  a: {path: /srv/x}\n  b: {path: //srv/./x/}\n"
    assert findings(tmp_path, text) == ["3:13: masters.b.path: is the same directory as that of masters.a"]


def test_a_runtime_directory_reached_by_a_link_is_seen_through(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    file = tmp_path / "flashback.yaml"
    file.write_text(f"masters: {{a: {{path: {tmp_path}/real/red}}}}\n")
    with pytest.raises(ConfigError):
        read(file, runtime=tmp_path / "link", trusted=False)


@pytest.mark.parametrize("text", ["masters:\n", "masters: {}\n", "keep: {last: 3}\n"])
def test_masters_are_required(tmp_path: Path, text: str) -> None:
    assert "masters: required, but missing" in findings(tmp_path, text)[0]


@pytest.mark.parametrize("word", ["null", "~", "never", ""])
def test_scrubbing_can_be_switched_off(tmp_path: Path, word: str) -> None:
    assert load(tmp_path, f"{MASTERS}scrub_every: {word}\n").scrub_every is None


def test_compression_can_be_switched_off_with_a_bare_no(tmp_path: Path) -> None:
    assert load(tmp_path, MASTERS + "compress: no\n").compress == "no"


def test_empty_sections_and_a_byte_order_mark_change_nothing(tmp_path: Path) -> None:
    assert load(tmp_path, "\ufeff" + MASTERS + "keep:\nrotation:\nnotify:\n") == load(tmp_path, MASTERS)


def test_bad_lines_of_an_exclusion_file_are_told_once_with_the_rest(tmp_path: Path) -> None:
    (tmp_path / "e.txt").write_bytes(b"good\n[bad\n")
    text = "masters:\n  a: {path: /a, exclusions: [e.txt]}\n  b: {path: /b, exclusions: [e.txt]}\non_plug: x\n"
    first, second = findings(tmp_path, text)
    assert first.startswith("4:10: on_plug")
    assert second.startswith(f"{tmp_path}/e.txt:2:1: '[' is never closed")


def test_an_exclamation_mark_forgets_the_files_before(tmp_path: Path) -> None:
    (tmp_path / "one.txt").write_bytes(b"a\n")
    (tmp_path / "two.txt").write_bytes(b"!\nb\n")
    config = load(tmp_path, "masters: {a: {path: /a, exclusions: [one.txt, two.txt]}}\n")
    assert [rule.pattern for rule in config.masters[0].rules] == [b"b"]


@pytest.mark.parametrize("trusted", [True, False])
@pytest.mark.parametrize("name", ["none.yaml", "folder/none.yaml"])
def test_where_there_is_no_configuration_the_command_that_writes_one_is_named(tmp_path: Path, name, trusted) -> None:
    with pytest.raises(ConfigError, match=r"there is no configuration .*none\.yaml") as problem:
        read(tmp_path / name, runtime=RUNTIME, trusted=trusted)
    assert "flashback init DEVICE" in problem.value.hint
    assert problem.value.__cause__ is None


def test_a_pipe_is_refused_without_waiting_for_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "flashback.yaml")
    with pytest.raises(ConfigError, match="is not a file"):
        read(tmp_path / "flashback.yaml", runtime=RUNTIME, trusted=False)


def test_the_users_of_this_machine_are_known() -> None:
    assert user_exists("root")
    assert not user_exists("nobody-of-that-name")
    assert not user_exists("a\0b")
    assert not user_exists("\ud800")


def test_the_defaults_in_the_table_are_those_of_the_values(tmp_path: Path) -> None:
    lines = {"": [], "masters.NAME": ["    path: /home/alice/Documents"]}
    for setting in SETTINGS:
        if setting.default is not None:
            indent = {"": "", "masters.NAME": "    "}.get(setting.section, "  ")
            lines.setdefault(setting.section, []).append(f"{indent}{setting.name}: {setting.default}")
    text = ["masters:", "  documents:", *lines.pop("masters.NAME"), *lines.pop("")]
    for name, rest in lines.items():
        text += [f"{name}:", *rest]
    assert load(tmp_path, "\n".join(text)) == load(tmp_path, MASTERS)


def test_every_field_of_the_values_is_in_the_table() -> None:
    fields = {f"keep.{name}" for name in Keep.__slots__} | {f"rotation.{name}" for name in Rotation.__slots__}
    fields |= {f"notify.{name}" for name in Notify.__slots__} | {f"guards.{name}" for name in Guards.__slots__}
    fields |= set(Config.__slots__) - {"file", "masters", "keep", "rotation", "guards", "notify"}
    fields |= {
        "masters.NAME.path",
        "masters.NAME.owner",
        "masters.NAME.symlinks",
        "masters.NAME.exclusions",
        "masters.NAME.btrfs",
    }
    assert {setting.path for setting in SETTINGS} == fields


WORDS = [b"masters", b"path", b"keep", b"last", b": ", b"\n", b"  ", b"{", b"}", b"[", b"]", b"- ", b"/a", b"5%", b"\t", b"#", b"&a",
         b"*a", b"!!", b'"', b"'", b"|", b">", b"?", b",", b"---", b"%YAML 1.1", b"<<", b"\\U", b"FFFFFFFF", b"\xff", b"\xef\xbb\xbf",
         b"7d", b"null", b"exclusions", b"owner", b"0", b"\0", b"\r", b"\xe2\x80\xa8"]  # fmt: skip


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=300)
@given(
    st.binary(max_size=60)
    | st.lists(st.sampled_from(WORDS), max_size=25).map(b"".join)
    | st.text(max_size=60).map(lambda text: text.encode("utf-8", "surrogatepass"))
)
def test_no_bytes_do_anything_but_give_a_configuration_or_findings(tmp_path: Path, text: bytes) -> None:
    refused = None
    try:
        load(tmp_path, text)
    except ConfigError as error:
        refused = error.findings
    assert refused is None or refused
    for line in refused or ():
        assert re.fullmatch(r".*/flashback\.yaml:[1-9]\d*:[1-9]\d*: .+", line)
        assert line.isprintable()


# --- trust ---------------------------------------------------------------------------------------------------------


def trusted(file: Path) -> Config:
    return read(file, runtime=RUNTIME, trusted=True)


@pytest.fixture
def safe(tmp_path: Path) -> Path:
    file = tmp_path / "flashback.yaml"
    file.write_text(MASTERS)
    file.chmod(0o644)
    return file


def test_a_file_in_a_sticky_directory_is_fine_where_it_is_ours(safe: Path) -> None:
    safe.parent.chmod(0o1777)
    assert trusted(safe).masters


@pytest.mark.parametrize("mode", [0o664, 0o646, 0o666])
def test_a_file_that_others_can_write_is_refused_with_the_repair(safe: Path, mode: int) -> None:
    safe.chmod(mode)
    with pytest.raises(ConfigError) as caught:
        trusted(safe)
    assert caught.value.hint.endswith(f"sudo chmod go-w {safe}")


@pytest.mark.parametrize("mode", [0o775, 0o757, 0o777])
def test_a_directory_that_others_can_write_is_refused_with_the_repair(safe: Path, mode: int) -> None:
    safe.parent.chmod(mode)
    with pytest.raises(ConfigError) as caught:
        trusted(safe)
    assert caught.value.hint.endswith(f"sudo chmod go-w {safe.parent}")


def test_a_directory_high_above_counts_too(safe: Path, tmp_path: Path) -> None:
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    file = deep / "f.yaml"
    file.write_text(MASTERS)
    (tmp_path / "a").chmod(0o777)
    with pytest.raises(ConfigError, match="can replace it"):
        trusted(file)


def test_what_a_link_leads_to_is_looked_at(safe: Path, tmp_path: Path) -> None:
    open_to_all = tmp_path / "open"
    open_to_all.mkdir()
    (open_to_all / "real.yaml").write_text(MASTERS)
    open_to_all.chmod(0o777)
    safe.unlink()
    safe.symlink_to(open_to_all / "real.yaml")
    with pytest.raises(ConfigError, match=r"real\.yaml lies in"):
        trusted(safe)


def test_an_exclusion_file_that_others_can_write_is_a_finding_at_its_place(safe: Path) -> None:
    exclusions = safe.parent / "e.txt"
    exclusions.write_text("a\n")
    exclusions.chmod(0o666)
    safe.write_text("masters:\n  a:\n    path: /a\n    exclusions: [e.txt]\n")
    with pytest.raises(ConfigError) as caught:
        trusted(safe)
    (line,) = caught.value.findings
    assert line.startswith(f"{safe}:4:18: masters.a.exclusions[0]: {exclusions} can be changed by other users")
    assert f"chmod go-w {exclusions}" in line


needs_chown = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")


@needs_chown
def test_a_file_of_somebody_else_is_refused_even_in_a_sticky_directory(safe: Path) -> None:
    safe.parent.chmod(0o1777)
    os.chown(safe, 12345, 12345)
    with pytest.raises(ConfigError) as caught:
        trusted(safe)
    assert caught.value.hint.endswith(f"sudo chown root {safe}")


@needs_chown
def test_a_directory_of_somebody_else_is_not_taken_away_from_them(safe: Path) -> None:
    os.chown(safe.parent, 12345, 12345)
    with pytest.raises(ConfigError) as caught:
        trusted(safe)
    assert "belongs to another user (uid 12345)" in caught.value.what
    assert "install -D -o root" in caught.value.hint
    assert "chown" not in caught.value.hint


@needs_chown
@pytest.mark.parametrize("place", ["file", "folder"])
def test_a_link_that_somebody_else_made_is_not_followed(safe: Path, tmp_path: Path, place: str) -> None:
    """What it leads to is root's alone; but they could have it lead to another file of root's."""
    link = tmp_path / "link"
    link.symlink_to(safe if place == "file" else safe.parent)
    wanted = link if place == "file" else link / safe.name
    assert trusted(wanted)
    os.chown(link, 12345, 12345, follow_symlinks=False)
    with pytest.raises(ConfigError, match=r"through the link link, which another user made \(uid 12345\)"):
        trusted(wanted)


@pytest.mark.parametrize("what", ["configuration", "exclusions"])
def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(safe: Path, what: str) -> None:
    exclusions = safe.parent / "e.txt"
    safe.write_text("masters:\n  a:\n    path: /a\n    exclusions: [e.txt]\n")
    exclusions.write_text("a\n")
    pipe = safe if what == "configuration" else exclusions
    pipe.unlink()
    os.mkfifo(pipe, 0o600)
    with pytest.raises(ConfigError) as caught:
        trusted(safe)
    assert "is not a file" in " ".join([caught.value.what, *caught.value.findings])


def test_without_trust_nobody_asks_who_may_write(safe: Path) -> None:
    safe.chmod(0o666)
    assert stat.S_IMODE(safe.stat().st_mode) == 0o666
    assert read(safe, runtime=RUNTIME, trusted=False).masters
