"""A service that lies: no crash, no hang, nothing outside the mount."""

from __future__ import annotations

import json
import os
import stat
import time
from pathlib import Path
from typing import Any

import pytest

from harness.mount import Mount
from harness.mounts import Mounts
from harness.patience import eventually
from harness.service import Service

NAMES = ["..", ".", "../../../../etc/passwd", "/etc/passwd", "a/../../b", "..\\..\\x", "\x01\x1f\x7f", "x\ny", "tab\there",
         "‮evil", "\ufeffbom", "\u200b", "a" * 250, "é" * 200, "🌱" * 70, "~", "-rf", " ", "con", ".jotsfs", ".note.swp",
         "4913", "backup~", "NAME~1", "%2E%2E", "%00", "a%2fb", "Ａ", "ﬁ", "e\u0301", "\U000e0001tag", "x" * 255, "x" * 256]

LATER = pytest.mark.sanitizer


def look_everywhere(jots: Mount) -> None:
    """What a curious user does; whatever comes of it, it ends."""
    jots.sh("ls -lRa . ; stat -- * ; cat -- * ; head -c 10 -- */* ; find . -type f -exec wc -c {} +; df .;"
            " getfattr -d -- * ; cat .jotsfs/status", check=False, timeout_s=60)


def tree_of(path: Path) -> list[tuple[str, int, int]]:
    return sorted((str(found), found.lstat().st_mode, found.lstat().st_size) for found in path.rglob("*"))


def is_well(service: Service, jots: Mount) -> None:
    """The mount goes on as if nothing had been."""
    service.clear_faults()
    service.release()
    service.remote.create("after all", "well")
    eventually(lambda: jots.errno(os.stat, jots / "after all") == "OK", 60, "a new note is found")
    eventually(lambda: jots.do(_read_or_empty, str(jots / "after all")) == b"well\n", 60, "and read")
    assert jots.is_running


def _read_or_empty(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A directory beside the mount that nothing may touch."""
    directory = tmp_path / "outside"
    directory.mkdir()
    (directory / "file").write_text("untouched")
    return directory


@LATER
def test_names_stay_inside(service: Service, mount: Mounts, outside: Path) -> None:
    before = tree_of(outside.parent)
    made = []
    for number, name in enumerate(NAMES):
        try:
            made.append(service.remote.create("t", f"body {number}", filename=name)["id"])
        except Exception:  # the stand-in itself can't have this one
            continue
    for name in ("..", "../up", "/", ".", "x" * 80, ".jotsfs", "\x02"):
        try:
            service.remote.create_folder(name)
        except Exception:
            continue
    jots = mount()
    look_everywhere(jots)
    names = jots.names()
    assert len(set(names)) == len(names) >= len(made)
    for name in names:
        assert "/" not in name and name not in (".", "..", "") and len(os.fsencode(name)) <= 255
        assert stat.S_ISREG(jots.stat(name).st_mode) or stat.S_ISDIR(jots.stat(name).st_mode)
    files = [name for name in names if stat.S_ISREG(jots.stat(name).st_mode)]
    assert len({jots.read(name) for name in files}) == len(files) == len(made)
    added = {path for path, _, _ in tree_of(outside.parent)} - {path for path, _, _ in before}
    assert all(Path(path).is_relative_to(jots.home) for path in added)
    assert (outside / "file").read_text() == "untouched"
    is_well(service, jots)


def item(number: int, **values: Any) -> dict[str, Any]:
    return {"id": number, "filename": f"n{number}", "title": "t", "format": "plain", "folder_id": None, "append_only": False,
            "byte_size": 4, "created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z",
            "last_appended_at": None} | values


LISTS: dict[str, Any] = {
    "not an object": [1, 2, 3],
    "null": None,
    "notes is null": {"notes": None},
    "notes is text": {"notes": "x"},
    "notes of nothing": {"notes": [None, 1, "x", [], {}]},
    "strange ids": {"notes": [item(1, id=value) for value in
                              (0, -1, 2**63, 2**64, 1.5, "12", "x", None, [], True, 1e300, "-5", " 7")]},
    "strange sizes": {"notes": [item(900 + i, byte_size=value) for i, value in
                                enumerate((-1, 2**63 - 1, 2**63, 1e300, "4", None, [], 0.5, 2**40))]},
    "strange times": {"notes": [item(900 + i, updated_at=value, created_at=value) for i, value in
                                enumerate(("", "x", "9999-99-99T99:99:99Z", "-1", None, 5, [], "2026-02-30T00:00:00Z",
                                           "1969-12-31T23:59:59Z", "999999999-01-01T00:00:00Z", "0000-00-00T00:00:00Z"))]},
    "strange names": {"notes": [item(900 + i, filename=value) for i, value in
                                enumerate((None, "", 5, [], {}, "x" * 100000, "\u0000", "a\u0000b", "\ud800"))]},
    "one name many times": {"notes": [item(900 + i, filename="same") for i in range(50)]},
    "one id many times": {"notes": [item(900, filename=f"f{i}") for i in range(50)]},
    "folders that nobody knows": {"notes": [item(900 + i, folder_id=value) for i, value in
                                            enumerate((12345, -1, "x", [], 2**63, 0, True))]},
    "deep": None,  # made below
    "many": {"notes": [item(10_000 + i) for i in range(5000)]},
    "flags of other types": {"notes": [item(900 + i, append_only=value, format=value, title=value) for i, value in
                                       enumerate(("yes", 1, None, [], {}))]},
}


@LATER
@pytest.mark.parametrize("case", LISTS)
@pytest.mark.parametrize("when", ["at the mount", "later"])
def test_lists(service: Service, mount: Mounts, case: str, when: str) -> None:
    service.unlimited()
    service.seed(count=5)
    jots = mount.new(ttl=1)
    jots.expect_error("")
    text = "[" * 100_000 if case == "deep" else json.dumps(LISTS[case])

    def lie() -> None:
        service.fault("reply", method="GET", path=r"/notes\?", count=4, text=text, content_type="application/json")

    if when == "later":
        jots.start()
        jots.sh("cat * > /dev/null")
        lie()
        time.sleep(1.1)
    else:
        lie()
        _start_somehow(service, jots)
    look_everywhere(jots)
    is_well(service, jots)


def _start_somehow(service: Service, jots: Mount) -> None:
    """A mount without state may refuse what it can't understand; then it is mounted again."""
    try:
        jots.start()
    except AssertionError:
        service.clear_faults()
        jots.process = None
        jots.start()


BODIES: dict[str, Any] = {
    "no body": {"plain_body": None},
    "body of another type": {"plain_body": [1, 2]},
    "number": {"plain_body": 7},
    "NUL": {"plain_body": "a\u0000b"},
    "lone surrogate": {"plain_body": "\ud800"},
    "another id": {"id": 999_999},
    "id of another type": {"id": {}},
    "size that is wrong": {"byte_size": 2**50},
    "name of another note": {"filename": "other"},
    "name that leads out": {"filename": "../../../tmp/x"},
    "folder that nobody knows": {"folder_id": 424242},
    "endless": {"plain_body": "x" * 20_000_000},
}


@LATER
@pytest.mark.parametrize("case", BODIES)
def test_notes(service: Service, mount: Mounts, case: str) -> None:
    service.remote.create("other", "other", at=service.now() - 100)
    note = service.remote.create("note", "text", at=service.now() - 100)
    jots = mount(ttl=1)
    jots.expect_error("")
    jots.names()
    service.fault("reply", method="GET", path=rf"/notes/{note['id']}", count=3,
                  text=json.dumps(item(note["id"], filename="note", plain_body="text") | BODIES[case]),
                  content_type="application/json")
    look_everywhere(jots)
    jots.sh("echo more >> note; echo new > note", check=False)
    is_well(service, jots)


@LATER
@pytest.mark.parametrize("action", ["wrong_types", "garbage", "truncate", "drip", "html", "close_after", "reset_before"])
def test_replies(service: Service, mount: Mounts, action: str) -> None:
    service.unlimited()
    service.seed(count=8, folders=2)
    jots = mount(ttl=1, settle=0.1, drain_timeout=2)
    jots.expect_error("")
    values = {"interval_ms": 1, "bytes": 64} if action == "drip" else {}
    service.fault(action, probability=0.6, seed=1, count=40, **values)
    end = time.monotonic() + 4
    while time.monotonic() < end:
        look_everywhere(jots)
        jots.sh("echo x >> log; echo y > new; rm -f new; mkdir -p d; mv log moved; ls > /dev/null", check=False)
    is_well(service, jots)


@LATER
@pytest.mark.parametrize("where", ["body", "head"])
def test_endless_replies(service: Service, mount: Mounts, where: str) -> None:
    service.seed(count=3)
    jots = mount(ttl=1)
    jots.expect_error("")
    jots.names()
    service.fault("huge", method="GET", path="/notes", count=4, where=where, bytes=400 << 20)
    time.sleep(1.1)
    look_everywhere(jots)
    assert _resident_mib(jots.pid) < 200 * (4 if os.environ.get("JOTSFS_PATIENCE") else 1)
    is_well(service, jots)


def _resident_mib(pid: int) -> float:
    with open(f"/proc/{pid}/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS:")) / 1024


@LATER
def test_redirects_are_not_followed(service: Service, mount: Mounts) -> None:
    with Service() as other:
        service.seed(count=3)
        jots = mount(ttl=1)
        jots.expect_error("")
        jots.names()
        service.fault("redirect", location=f"{other.api}/notes", count=6)
        time.sleep(1.1)
        look_everywhere(jots)
        assert other.log() == []
        is_well(service, jots)


@LATER
def test_ids_that_change(service: Service, mount: Mounts) -> None:
    """The same names under other ids: other notes."""
    service.unlimited()
    for number in range(10):
        service.remote.create(f"note {number}", f"old {number}", at=service.now() - 100)
    jots = mount(ttl=1)
    jots.sh("cat * > /dev/null")
    for number in range(10):
        service.remote.delete(f"note {number}")
        service.remote.create(f"note {number}", f"new {number}", at=service.now() - 100)
    time.sleep(1.1)
    assert len(jots.names()) == 10
    eventually(lambda: all(jots.do(_read_or_empty, str(jots / f"note {number}")) == f"new {number}\n".encode()
                           for number in range(10)), 30, "the new ones are shown")


@LATER
@pytest.mark.parametrize("value", [None, {"folders": None}, {"folders": [None, 1, {"id": 5}, {"id": "x", "name": 3}]},
                                   {"folders": [{"id": 5, "name": "same"}, {"id": 6, "name": "same"}, {"id": 5, "name": "other"}]},
                                   {"folders": [{"id": i, "name": f"f{i}"} for i in range(1, 3000)]}],
                         ids=["null", "no list", "wrong types", "duplicates", "many"])
def test_folders(service: Service, mount: Mounts, value: Any) -> None:
    service.remote.create_folder("Work")
    service.remote.create("filed", "text", folder="Work", at=service.now() - 100)
    jots = mount(ttl=1)
    jots.expect_error("")
    assert jots.read("Work/filed") == b"text\n"
    service.fault("reply", method="GET", path="/folders", count=3, json=value)
    time.sleep(1.1)
    look_everywhere(jots)
    is_well(service, jots)
    eventually(lambda: jots.do(_read_or_empty, str(jots / "Work/filed")) == b"text\n", 30, "the folder is back")
