"""Exclusion files as rsync itself reads them, and the example file against a home directory with look-alikes."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flashback.config.exclusions import doubtful_lines, read_rules
from flashback.config.sample import first_exclusions
from flashback.config.values import Rule
from flashback.core.errors import ConfigError

NAMES = (
    *(b"a", b"b", b" a", b"a ", b"#a", b" # a", b"!a", b"!", b"-", b"+", b"-a", b"- a", b"+ a", b"a\\", b"\\a", b"[a", b"a[", b"a]b", b"ac"),
    *(b"d/a", b"d/e/a", b"d/ab", b"x/ac", b"{a,b}", b"show notes", b"include x", b"P a", b"\xef\xbb\xbfa", b"\xff", b"~", b"\ta", b"-\ta"),
)  # fmt: skip


def make(root: Path, names: Iterable[bytes]) -> None:
    for name in names:
        path = os.fsencode(root) + b"/" + name
        if name.endswith(b"/"):
            os.makedirs(path, exist_ok=True)
        else:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "wb"):
                pass


def left_out(master: Path, text: bytes, *options: str) -> tuple[int, str, set[bytes]]:
    """rsync's exit code, what it says, and which files of `master` it leaves out by an exclude file with `text`."""
    argv = [
        "rsync",
        "-rn",
        "--links",
        "--out-format=%n",
        "-8",
        *options,
        "--exclude-from=-",
        f"{master}/",
        f"{master}-none/",
    ]
    result = subprocess.run(
        argv, input=text, capture_output=True, check=False, env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}
    )
    taken = set(result.stdout.split(b"\n"))
    return (
        result.returncode,
        result.stderr.decode("utf-8", "replace"),
        {name for name in every_file(master) if name not in taken},
    )


def every_file(master: Path) -> set[bytes]:
    root = os.fsencode(master)
    return {os.path.relpath(os.path.join(folder, file), root) for folder, _, files in os.walk(root) for file in files}


def as_list(rules: Iterable[Rule]) -> bytes:
    return b"".join((b"+ " if rule.include else b"- ") + rule.pattern + b"\0" for rule in rules)


@pytest.fixture(scope="module")
def master(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("rsync") / "master"
    make(root, NAMES)
    assert left_out(root, b"") == (0, "", set())
    return root


TEXTS = (
    *(b"", b"a", b"a\n", b"a\r\nb\r\n", b"a\rb\r", b"#a\n;b\n", b" # a\n", b"- #a\n", b"- a\n", b"-  a\n", b"- - a\n", b"- + a\n", b"-\n+\n"),
    *(b"-a\n", b"-\ta\n", b"a\n!\nb\n", b"a\n!\r\nb\r\n", b"!a\n", b"a\n! \n", b"- !\n", b"a \n", b" a\n", b"\ta\n", b"+ a\n*\n", b"*\n+ a\n"),
    *(b"d/\n", b"/a\n", b"d/**\n", b"d/***\n", b"\\a\n", b"a\\\n", b"\\[a\n", b"a]*\n", b"[!]]\n", b"[]]*\n", b"[\\]]\n", b"[[:alpha:]]c\n"),
    *(b"show notes\n", b"P a\n", b"- include x\n", b"{a,b}\n", b"\n\n\n", b"\xff\n"),
)  # fmt: skip


@pytest.mark.parametrize("text", TEXTS)
def test_our_rules_leave_out_what_rsync_leaves_out_by_the_file_itself(master: Path, text: bytes) -> None:
    by_file = left_out(master, text)
    assert by_file[:2] == (0, "")
    assert left_out(master, as_list(read_rules(Path("/e"), text)), "-0") == by_file


LINES = st.text(r"ab*?[]!^\-+#; /d.:", max_size=6).map(str.encode)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(LINES | st.sampled_from([b"!", b"- ", b"[[:alpha:]]", b"a\r", b"\r"]), max_size=4).map(b"\n".join))
def test_any_file_without_a_finding_means_to_us_what_it_means_to_rsync(master: Path, text: bytes) -> None:
    try:
        rules = read_rules(Path("/e"), text)
    except ConfigError:
        return
    assert left_out(master, as_list(rules), "-0") == left_out(master, text)


@pytest.mark.parametrize(
    "line",
    [
        b"[a",
        b"a[",
        b"[]a",
        b"[!]",
        b"[a\\]",
        b"[[:alpha:]",
        b"[[:foo:]]",
        b"d/[a",
        b"include *.c",
        b"merge /etc/rules",
        b"dir-merge .x",
    ],
)
def test_a_refused_line_would_silently_match_nothing(master: Path, line: bytes) -> None:
    with pytest.raises(ConfigError):
        read_rules(Path("/e"), line)
    assert left_out(master, line) == (0, "", set())


def test_what_rsync_says_to_an_empty_rule_and_an_endless_pattern(master: Path) -> None:
    code, said, _ = left_out(master, b"- \n")
    assert code == 1
    assert "unexpected end of filter rule" in said
    for length, dropped in ((4094, False), (4095, False), (4096, True)):
        said = left_out(master, b"x" * length + b"\n")[1]
        assert ("discarding over-long filter" in said) == dropped, length


def test_rsync_cuts_a_line_at_a_nul_byte(master: Path) -> None:
    assert left_out(master, b"a\0b\n") == left_out(master, b"a\n")


def test_a_byte_order_mark_is_part_of_the_pattern_for_rsync(master: Path) -> None:
    assert left_out(master, b"\xef\xbb\xbfa\n")[2] == {b"\xef\xbb\xbfa"}


@pytest.mark.parametrize("line", [b"./a", b"d//a", b"d/../a", b"/", b"*\\", b"[a/]c"])
def test_a_line_said_to_match_nothing_matches_nothing(master: Path, line: bytes) -> None:
    assert "nothing" in (said := "".join(doubtful_lines(Path("/e"), line))) or "never" in said
    assert left_out(master, line)[2] == set()


# --- the example ---------------------------------------------------------------------------------------------------

RUBBISH = (
    ".thunderbird/x.default/.parentlock",
    ".thunderbird/x.default/cache2/e",
    ".mozilla/firefox/y.default/cache2/e",
    ".mozilla/firefox/y.default/startupCache/e",
    ".cache/thumbnails/large/1.png",
    "snap/firefox/common/.cache/e",
    ".thumbnails/normal/1.png",
    ".config/Code/Cache/e",
    ".config/Code/Code Cache/js/e",
    ".config/google-chrome/Default/GPUCache/e",
    ".local/share/Trash/files/e",
    "Stick/.Trash-1000/files/e",
    "Stick/$RECYCLE.BIN/e",
    "Stick/System Volume Information/e",
    "Stick/lost+found/e",
    "Letters/.~lock.letter.odt#",
    "Letters/~$letter.docx",
    "Letters/Thumbs.db",
    "Downloads/film.mkv.crdownload",
    "src/tool/main.o",
    "src/tool/__pycache__/m.cpython-311.pyc",
    "src/tool/.venv/bin/python",
    "src/tool/.mypy_cache/e",
    "src/web/node_modules/left-pad/index.js",
    "src/cmake/CMakeFiles/e",
    ".npm/_cacache/e",
    ".cargo/registry/e",
    "go/pkg/mod/example.org/e",
    ".gradle/caches/e",
    ".var/app/org.gimp.GIMP/cache/e",
    ".local/share/flatpak/repo/e",
    ".local/share/Steam/steamapps/shadercache/e",
    ".local/share/containers/storage/overlay/e",
    ".gvfs/e",
    ".xsession-errors",
)
"""Files that must stay out."""

LINKS = {
    ".thunderbird/x.default/lock": "127.0.1.1:+4711",
    ".var/app/org.mozilla.Thunderbird/.thunderbird/x/lock": "127.0.1.1:+4711",
    ".mozilla/firefox/y.default/lock": "127.0.1.1:+4711",
    ".config/mozilla/firefox/z/lock": "127.0.1.1:+4711",
    ".config/chromium/SingletonLock": "host-4711",
    ".config/chromium/SingletonCookie": "1234567890",
    ".config/chromium/SingletonSocket": "/tmp/nowhere/SingletonSocket",
    ".config/pulse/0123-runtime": "/tmp/pulse-nowhere",
    ".wine/dosdevices/z:": "/",
    "src/tool/bazel-out": "/nowhere",
}
"""Links that must stay out."""

KEPT = (
    "lock",
    "Letters/lock",
    "src/tool/lock/lock.c",
    "src/tool/SingletonPattern.java",
    "src/tool/Singleton.h",
    "src/tool/build/notes.txt",
    "src/tool/target/aims.txt",
    "src/tool/dist/index.html",
    "src/tool/bin/run",
    "src/tool/vendor/patch.c",
    "src/tool/cache/cache.c",
    "src/tool/main.c",
    "src/tool/env/settings.py",
    "src/tool/Cache/geocache.txt",
    "src/tool/x.obj",
    "src/web/package.json",
    "src/web/node_modules.txt",
    "src/tool/.yarn/cache/committed.zip",
    "Trash/poem.txt",
    "Letters/Trash/poem.txt",
    "Letters/core",
    "Letters/letter.odt",
    "Letters/letter.txt~",
    "Letters/#letter.txt#",
    "Letters/.letter.txt.swp",
    "Letters/.#letter.txt.1.2",
    "Letters/~$budget.txt",
    "Letters/tmp/draft.txt",
    "Machines/work.qcow2",
    "Machines/install.iso",
    ".thunderbird/x.default/prefs.js",
    ".thunderbird/x.default/Mail/Local Folders/Inbox",
    ".mozilla/firefox/y.default/places.sqlite",
    ".config/chromium/Default/Bookmarks",
    ".config/Code/User/settings.json",
    ".config/pulse/cookie",
    ".cargo/config.toml",
    ".gradle/gradle.properties",
    ".npmrc",
    "go/src/example.org/main.go",
    ".local/share/Steam/steamapps/compatdata/1/pfx/save",
    ".local/share/Steam/userdata/1/save",
    ".local/share/containers/storage/volumes/db/_data/rows",
    ".var/app/org.gimp.GIMP/config/gimprc",
    ".wine/drive_c/save",
    ".terraform/terraform.tfstate",
    ".m2/settings.xml",
    ".m2/repository/own.jar",
    ".ssh/id_ed25519",
)
"""What looks alike, or lies next to it, and must be kept."""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    root = tmp_path / "home"
    make(root, (os.fsencode(name) for name in (*RUBBISH, *KEPT)))
    for name, target in LINKS.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).symlink_to(target)
    return root


def test_the_example_leaves_out_the_rubbish_and_keeps_every_look_alike(home: Path) -> None:
    code, said, out = left_out(home, first_exclusions().encode())
    assert (code, said) == (0, "")
    kept = {os.fsdecode(name) for name in every_file(home) - out}
    assert sorted(kept) == sorted(KEPT)


def test_links_to_directories_stay_out_too(home: Path) -> None:
    argv = ["rsync", "-rn", "--links", "--out-format=%n", "--exclude-from=-", f"{home}/", f"{home}-none/"]
    result = subprocess.run(argv, input=first_exclusions().encode(), capture_output=True, check=True)
    taken = set(result.stdout.decode().split("\n"))
    assert not taken & (LINKS.keys() | {f"{name}/" for name in LINKS})


def test_with_links_followed_the_example_makes_a_running_thunderbird_and_chromium_no_error(
    home: Path, tmp_path: Path
) -> None:
    code, said, _ = left_out(home, first_exclusions().encode(), "--copy-links")
    assert (code, said) == (0, "")
    without = left_out(home / ".thunderbird", b"", "--copy-links")
    assert without[0] == 23
