"""mv takes the note along: new name and new folder in one call, the same note id."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

import pytest

from harness.child import Program
from harness.mount import Mount
from harness.mounts import Mounts
from harness.service import Service

AT_FDCWD = -100
RENAME_NOREPLACE = 1
RENAME_EXCHANGE = 2


def renameat2(old: Path, new: Path, flags: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(AT_FDCWD, os.fsencode(old), AT_FDCWD, os.fsencode(new), flags) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def ids(service: Service) -> dict[str, int]:
    return {note["filename"]: note["id"] for note in service.notes()}


@pytest.fixture
def jots(service: Service, mount: Mounts) -> Mount:
    """Notes a and b in the root, c in Work; folders Work and Home."""
    work = service.remote.create_folder("Work")
    service.remote.create_folder("Home")
    service.remote.create("a", "body of a")
    service.remote.create("b", "body of b")
    service.remote.create("c", "body of c", folder=work["id"])
    return mount()


@pytest.mark.sanitizer
def test_a_new_name(service: Service, jots: Mount) -> None:
    before, inode = ids(service), jots.stat("a").st_ino
    with service.requests() as log:
        jots.do(os.rename, jots / "a", jots / "new name.txt")
        assert jots.names() == ["Home", "Work", "b", "new name.txt"]
        jots.settled()
    assert log.changes == ["update_note"]
    assert ids(service) == {"new name.txt": before["a"], "b": before["b"], "c": before["c"]}
    assert service.body("new name.txt") == "body of a"
    assert jots.read("new name.txt") == b"body of a\n"
    assert jots.stat("new name.txt").st_ino == inode


def test_another_folder(service: Service, jots: Mount) -> None:
    before = ids(service)
    with service.requests() as log:
        jots.sh("mv a Work/")
        assert jots.names("Work") == ["a", "c"]
        jots.settled()
    assert log.changes == ["move_note"]
    assert log.count("show_note") <= 1
    assert ids(service) == before
    assert service.note("a")["folder_id"] == service.note("c")["folder_id"]


def test_back_to_the_root(service: Service, jots: Mount) -> None:
    with service.requests() as log:
        jots.sh("mv Work/c .")
        jots.settled()
    assert log.changes == ["move_note"]
    assert service.note("c")["folder_id"] is None
    assert jots.names() == ["Home", "Work", "a", "b", "c"]


def test_name_and_folder_at_once(service: Service, jots: Mount) -> None:
    before = ids(service)
    with service.requests() as log:
        jots.sh("mv a Work/z")
        jots.settled()
    assert log.changes == ["update_note"]
    assert service.note("z")["id"] == before["a"]
    assert service.note("z")["folder_id"] == service.note("c")["folder_id"]
    assert jots.names("Work") == ["c", "z"]


def test_several_renames_are_one(service: Service, jots: Mount) -> None:
    with service.requests() as log:
        jots.sh("mv a a1; mv a1 Work/a2; mv Work/a2 Home/a3; mv Home/a3 a4")
        jots.settled()
    assert log.changes == ["update_note"]
    assert service.filenames() == ["a4", "b", "c"]


def test_there_and_back_costs_nothing(service: Service, jots: Mount) -> None:
    with service.requests() as log:
        jots.sh("mv a x && mv x a && mv b Work/ && mv Work/b .")
        jots.settled()
    assert log.changes == []


@pytest.mark.sanitizer
def test_over_an_existing_note(service: Service, jots: Mount) -> None:
    before = ids(service)
    with service.requests() as log:
        jots.sh("mv a b")
        assert jots.names() == ["Home", "Work", "b"]
        assert jots.read("b") == b"body of a\n"
        jots.flush()
    assert sorted(log.changes) == ["delete_note", "update_note"]
    assert ids(service) == {"b": before["a"], "c": before["c"]}
    assert service.body("b") == "body of a"
    assert jots.read("b") == b"body of a\n"


def test_a_new_file_over_a_note_is_a_save(service: Service, jots: Mount) -> None:
    before = ids(service)
    with service.requests() as log:
        jots.sh("echo new > fresh && mv fresh b")
        jots.settled()
    assert log.changes == ["update_note"]
    assert ids(service) == before
    assert service.body("b") == "new"


def test_noreplace(service: Service, jots: Mount) -> None:
    with service.requests() as log:
        assert jots.errno(renameat2, jots / "a", jots / "b", RENAME_NOREPLACE) == "EEXIST"
        assert jots.errno(renameat2, jots / "a", jots / "Work", RENAME_NOREPLACE) == "EEXIST"
        jots.settled()
    assert log.changes == []
    assert jots.errno(renameat2, jots / "a", jots / "z", RENAME_NOREPLACE) == "OK"
    jots.settled()
    assert service.filenames() == ["b", "c", "z"]


def test_exchange(service: Service, jots: Mount) -> None:
    before = ids(service)
    assert jots.errno(renameat2, jots / "a", jots / "missing", RENAME_EXCHANGE) == "ENOENT"
    assert jots.errno(renameat2, jots / "a", jots / "b", RENAME_EXCHANGE) == "OK"
    assert (jots.read("a"), jots.read("b")) == (b"body of b\n", b"body of a\n")
    jots.settled()
    assert ids(service) == {"a": before["b"], "b": before["a"], "c": before["c"]}
    assert (service.body("a"), service.body("b")) == ("body of b", "body of a")
    jots.remount()
    assert (jots.read("a"), jots.read("b")) == (b"body of b\n", b"body of a\n")


def test_a_swap_by_three_moves(service: Service, jots: Mount) -> None:
    before = ids(service)
    jots.sh("mv a t && mv b a && mv t b")
    jots.settled()
    assert ids(service) == {"a": before["b"], "b": before["a"], "c": before["c"]}
    assert (jots.read("a"), jots.read("b")) == (b"body of b\n", b"body of a\n")


def test_a_folder(service: Service, jots: Mount) -> None:
    before = {row["name"]: row["id"] for row in service.folders()}
    with service.requests() as log:
        jots.sh("mv Work Office")
        assert jots.names("Office") == ["c"]
        jots.settled()
    assert log.changes == ["update_folder"]
    assert {row["name"]: row["id"] for row in service.folders()} == {"Office": before["Work"], "Home": before["Home"]}
    assert service.note("c")["folder_id"] == before["Work"]


def test_what_no_file_system_allows(service: Service, jots: Mount) -> None:
    with service.requests() as log:
        assert jots.errno(os.rename, jots / "a", jots / "Work") == "EISDIR"
        assert jots.errno(os.rename, jots / "Work", jots / "a") == "ENOTDIR"
        assert jots.errno(os.rename, jots / "Home", jots / "Work") == "ENOTEMPTY"
        assert jots.errno(os.rename, jots / "missing", jots / "b") == "ENOENT"
        assert jots.errno(os.rename, jots / "a", jots / "missing" / "a") == "ENOENT"
        jots.settled()
    assert log.changes == []
    assert jots.names() == ["Home", "Work", "a", "b"]


def test_an_open_file_is_written_under_its_new_name(service: Service, jots: Mount) -> None:
    with Program() as program:
        fd = program.call(os.open, str(jots / "a"), os.O_RDWR | os.O_APPEND)
        program.call(os.rename, str(jots / "a"), str(jots / "z"))
        program.call(os.write, fd, b"more\n")
        assert program.call(os.pread, fd, 100, 0) == b"body of a\nmore\n"
        program.call(os.close, fd)
    jots.settled()
    assert service.body("z") == "body of a\nmore"
    assert service.filenames() == ["b", "c", "z"]


def test_rename_and_edit_are_one_call(service: Service, jots: Mount) -> None:
    with service.requests() as log:
        jots.sh("mv a z && sed -i s/body/text/ z")
        jots.settled()
    assert log.changes == ["update_note"]
    assert service.body("z") == "text of a"


def test_the_name_stays_where_the_service_keeps_its_own(service: Service, jots: Mount) -> None:
    """Titles may change without filenames: an alias keeps the user's name, also over a remount."""
    service.switch(title_patch="keeps")
    jots.sh("mv a z")
    jots.settled()
    assert service.filenames() == ["a", "b", "c"]
    assert jots.names() == ["Home", "Work", "b", "z"]
    jots.remount()
    assert jots.names() == ["Home", "Work", "b", "z"]
    assert jots.read("z") == b"body of a\n"


def test_a_locked_note_moves_but_keeps_its_name(service: Service, jots: Mount) -> None:
    service.remote.lock("a")
    jots.refresh()
    with service.requests() as log:
        assert jots.errno(os.rename, jots / "a", jots / "z") == "EPERM"
        jots.sh("mv a Work/")
        jots.settled()
    assert log.changes == ["move_note"]
    assert service.note("a")["folder_id"] is not None


# --- several at once ---

def test_a_cycle_of_three(service: Service, jots: Mount) -> None:
    before = ids(service)
    with service.requests() as log:
        jots.sh("mv a t && mv b a && mv Work/c b && mv t Work/c")
        jots.settled()
    assert len(log.changes) <= 4  # one of them goes by way of a temporary name
    assert ids(service) == {"b": before["c"], "a": before["b"], "c": before["a"]}
    assert (jots.read("a"), jots.read("b"), jots.read("Work/c")) == (b"body of b\n", b"body of c\n", b"body of a\n")
    jots.remount()
    assert (jots.read("a"), jots.read("b"), jots.read("Work/c")) == (b"body of b\n", b"body of c\n", b"body of a\n")


def test_a_chain(service: Service, jots: Mount) -> None:
    before = ids(service)
    with service.requests() as log:
        jots.sh("mv b z && mv a b && mv Work/c a")
        jots.settled()
    assert sorted(log.changes) == ["update_note"] * 3
    assert ids(service) == {"z": before["b"], "b": before["a"], "a": before["c"]}


@pytest.mark.parametrize("cold", [True, False])
def test_exchange_across_folders(service: Service, jots: Mount, cold: bool) -> None:
    if not cold:
        jots.sh("cat a Work/c")
    before = ids(service)
    jots.do(renameat2, jots / "a", jots / "Work" / "c", RENAME_EXCHANGE)
    jots.settled()
    assert ids(service) == {"c": before["a"], "a": before["c"], "b": before["b"]}
    assert (jots.read("a"), jots.read("Work/c")) == (b"body of c\n", b"body of a\n")
    assert (service.note("a")["folder_id"], service.note("c")["folder_id"] is None) == (None, False)


def test_two_folders_swap(service: Service, jots: Mount) -> None:
    before = {row["name"]: row["id"] for row in service.folders()}
    jots.sh("echo new > Work/new")
    jots.do(renameat2, jots / "Work", jots / "Home", RENAME_EXCHANGE)
    assert (jots.names("Home"), jots.names("Work")) == (["c", "new"], [])
    jots.settled()
    assert {row["name"]: row["id"] for row in service.folders()} == {"Home": before["Work"], "Work": before["Home"]}
    assert service.note("new")["folder_id"] == service.note("c")["folder_id"] == before["Work"]


def test_a_folder_with_pending_notes(service: Service, jots: Mount) -> None:
    """New, appended, rewritten, deleted and arriving ones."""
    before = ids(service)
    with service.requests() as log:
        jots.sh("echo new > Work/n; sed -i s/body/text/ Work/c; mv a Work/; mv Work Office; echo more >> Office/a")
        assert jots.names("Office") == ["a", "c", "n"]
        jots.settled()
    assert len(log.changes) <= 5
    folder = {row["name"]: row["id"] for row in service.folders()}["Office"]
    assert {note["filename"] for note in service.notes() if note["folder_id"] == folder} == {"a", "c", "n"}
    assert (service.body("a"), service.body("c"), service.body("n")) == ("body of a\nmore", "text of c", "new")
    assert ids(service)["a"] == before["a"] and ids(service)["c"] == before["c"]


def test_a_new_folder_renamed_before_it_is_made(service: Service, jots: Mount) -> None:
    with service.requests() as log:
        jots.sh("mkdir T; echo x > T/x; mv T U; mv a U/; mv U/a U/y")
        jots.settled()
    assert sorted(log.changes) == ["create_folder", "create_note", "update_note"]
    assert jots.names("U") == ["x", "y"]


@pytest.mark.parametrize("target", ["a", "Work/c"])
def test_an_open_file_that_is_replaced(service: Service, jots: Mount, target: str) -> None:
    with Program() as program:
        fd = program.call(os.open, str(jots / target), os.O_RDONLY)
        old = program.call(os.pread, fd, 100, 0)
        program.call(os.rename, str(jots / "b"), str(jots / target))
        assert program.call(os.pread, fd, 100, 0) == old
        jots.flush()
        assert program.call(os.pread, fd, 100, 0) == old
        assert program.call(os.fstat, fd).st_nlink == 0
    assert jots.read(target) == b"body of b\n"
    assert sorted(service.filenames()) == sorted({"a", "c"})


# --- a cold body, an unsent tail ---

def test_the_body_goes_along_though_it_was_never_read(service: Service, jots: Mount) -> None:
    """Appended to unread, then renamed: a PATCH of the whole, not of the new lines alone."""
    service.fault("latency", path="append", ms=300)
    jots.sh("echo more >> a; mv a z")
    jots.settled()
    assert service.body("z") == "body of a\nmore"
    assert jots.read("z") == b"body of a\nmore\n"


def test_renamed_without_a_network(service: Service, jots: Mount) -> None:
    before = ids(service)
    service.down()
    jots.sh("echo more >> a; mv a z; mv b Work/; mv Work/c c2")
    jots.remount()
    assert jots.names() == ["Home", "Work", "c2", "z"] and jots.names("Work") == ["b"]
    service.up()
    jots.settled()
    assert ids(service) == {"z": before["a"], "b": before["b"], "c2": before["c"]}
    assert (service.body("z"), service.body("c2")) == ("body of a\nmore", "body of c")


# --- the user's name stays ---

RULES = [{"filename_rule": "slug"}, {"title_patch": "keeps"}, {"filename_rule": "slug", "title_patch": "keeps"}]


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_the_user_s_names_stay(service: Service, mount: Mounts, rule: dict[str, str]) -> None:
    """Whatever filename the service makes of a title (API.md C11, C12): after creation, rename, move, save and remount."""
    service.switch(**rule)
    jots = mount(settle=0.1, ttl=0.3)
    jots.sh("mkdir Work; echo one > 'My Notes.txt'; echo two > 'Work/Q2 Plan'")
    jots.settled()
    jots.sh("mv 'My Notes.txt' 'My Letters.txt'; mv 'Work/Q2 Plan' 'Q3 Plan'")
    jots.settled()
    before = {note["id"] for note in service.notes()}
    jots.sh("sed -i s/one/1/ 'My Letters.txt'; echo more >> 'Q3 Plan'")
    jots.settled()
    for _ in range(2):
        jots.refresh()
        assert jots.names() == ["My Letters.txt", "Q3 Plan", "Work"] and jots.names("Work") == []
        assert (jots.read("My Letters.txt"), jots.read("Q3 Plan")) == (b"1\n", b"two\nmore\n")
        jots.remount()
    assert {note["id"] for note in service.notes()} == before
    with service.requests() as log:
        jots.sh("sed -i.bak~ s/1/one/ 'My Letters.txt'; mv 'Q3 Plan' Work/")
        jots.settled()
    assert sorted(log.changes) == ["move_note", "update_note"]
    assert jots.names() == ["My Letters.txt", "My Letters.txt.bak~", "Work"] and jots.names("Work") == ["Q3 Plan"]
    assert {note["id"] for note in service.notes()} == before


def test_there_and_back_where_the_service_keeps_its_name(service: Service, jots: Mount) -> None:
    service.switch(title_patch="keeps")
    jots.sh("mv a z")
    jots.settled()
    jots.sh("mv z a")
    jots.settled()
    jots.remount()
    assert jots.names() == ["Home", "Work", "a", "b"]
    assert jots.read("a") == b"body of a\n"


# --- empty notes: the service takes no empty body in a PATCH (API.md C14) ---

def test_an_empty_note(service: Service, jots: Mount) -> None:
    """It keeps the user's name here, flagged; with its first line both go up."""
    jots.expect_error("the service refused it")
    jots.sh("touch empty")
    jots.settled()
    before = ids(service)["empty"]
    jots.sh("mv empty named")
    service.wait_for(lambda: jots.status()["errors"] or "named" in service.filenames())
    jots.remount()
    assert "named" in jots.names() and "empty" not in jots.names()
    jots.sh("echo first >> named")
    assert jots.settled()["errors"] == []
    assert (ids(service)["named"], service.body("named")) == (before, "first")


def test_an_empty_note_where_it_is_taken(service: Service, jots: Mount) -> None:
    service.switch(empty_patch="accepted")
    jots.sh("touch empty")
    jots.settled()
    with service.requests() as log:
        jots.sh("mv empty named")
        jots.settled()
    assert log.changes == ["update_note"]
    assert "named" in service.filenames()


def test_an_empty_note_moves(service: Service, jots: Mount) -> None:
    jots.sh("touch empty")
    jots.settled()
    jots.sh("mv empty Work/")
    assert jots.settled()["errors"] == []
    assert service.note("empty")["folder_id"] == service.note("c")["folder_id"]
