"""Both sides change a note: nobody's bytes are lost, what goes together is put together (DESIGN.md section 3, "Merging")."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.child import Program
from harness.mount import Mount
from harness.mounts import Mounts
from harness.patience import eventually
from harness.service import Service

LINES = [str(number) for number in range(20)]
OLD = "\n".join(LINES)
LONG_AGO = "2026-01-01T00:00:00Z"
NOTE = r"/notes/101$"


def changed(**lines: str) -> str:
    """OLD with lines replaced: changed(_3="three")."""
    return "\n".join(lines.get(f"_{number}", number) for number in LINES)


@pytest.fixture
def jots(service: Service, mount: Mounts) -> Mount:
    """A mount whose file `note` has been read. What happens elsewhere is not heard of before it must be: ttl is long."""
    service.remote.create("note", OLD, at=LONG_AGO)
    jots = mount(settle=0.2, settle_delete=1, ttl=30)
    jots.read("note")
    return jots


@pytest.fixture
def editor() -> Iterator[Program]:
    with Program() as program:
        yield program


def edit_in_place(path: Path, old: str, new: str) -> None:
    text = path.read_text().replace(old, new)
    path.write_text(text)


def save_beside(path: Path, old: str, new: str) -> None:
    beside = path.with_name("note.tmp.1")
    beside.write_text(path.read_text().replace(old, new))
    os.rename(beside, path)


def back_up_and_save(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    os.rename(path, path.with_name("note~"))
    path.write_text(text.replace(old, new))
    os.unlink(path.with_name("note~"))


def delete_and_save(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    os.unlink(path)
    path.write_text(text.replace(old, new))


SAVES = [edit_in_place, save_beside, back_up_and_save, delete_and_save]
each_save = pytest.mark.parametrize("save", SAVES, ids=lambda save: save.__name__)


def copies(service: Service, why: str = "conflict") -> list[str]:
    return [name for name in service.filenames() if f"({why} " in name]


# --- three ways ---

@each_save
@pytest.mark.parametrize("when", ["before", "after", "after, heard"])
def test_different_lines(service: Service, jots: Mount, save: object, when: str) -> None:
    """Theirs came before our save (unheard of), or between our save and its upload."""
    before = service.note("note")["id"]
    theirs = changed(_17="seventeen")
    if when == "before":
        service.remote.patch("note", theirs)
    jots.do(save, jots / "note", "3\n", "three\n")
    if when != "before":
        service.remote.patch("note", theirs)
    if when == "after, heard":
        jots.refresh()
    jots.settled()
    want = changed(_3="three", _13="1three", _17="seventeen")
    assert service.body("note") == want
    assert service.note("note")["id"] == before
    assert service.filenames() == ["note"]
    assert jots.read("note").decode() == want + "\n"


@each_save
def test_the_same_line(service: Service, jots: Mount, save: object) -> None:
    before = service.note("note")["id"]
    jots.do(save, jots / "note", "7\n", "OURS\n")
    service.remote.patch("note", changed(_7="THEIRS"))
    jots.settled()
    assert service.note("note")["id"] == before
    assert service.body("note") == changed(_7="OURS", _17="1OURS")
    [copy] = copies(service)
    assert service.body(copy) == changed(_7="THEIRS")
    jots.refresh()
    assert jots.names() == ["note", copy]
    assert jots.read(copy).decode() == changed(_7="THEIRS") + "\n"


@each_save
def test_they_took_lines_away(service: Service, jots: Mount, save: object) -> None:
    """The beginning of what we knew is news, too."""
    jots.do(save, jots / "note", "3\n", "three\n")
    service.remote.patch("note", "\n".join(LINES[:16]))
    jots.settled()
    assert service.body("note") == "\n".join(changed(_3="three", _13="1three").split("\n")[:16])
    assert service.filenames() == ["note"]


@each_save
def test_they_appended(service: Service, jots: Mount, save: object) -> None:
    jots.do(save, jots / "note", "3\n", "three\n")
    service.remote.append("note", "theirs")
    jots.settled()
    assert service.body("note") == changed(_3="three", _13="1three") + "\ntheirs"
    assert service.filenames() == ["note"]


@each_save
def test_both_appended(service: Service, jots: Mount, save: object) -> None:
    """Appends never conflict, not even those that an editor made."""
    service.remote.append("note", "theirs")
    jots.do(save, jots / "note", "19\n", "19\nours\n")
    jots.settled()
    assert service.body("note") == OLD + "\ntheirs\nours"
    assert service.filenames() == ["note"]
    assert jots.read("note").decode() == OLD + "\ntheirs\nours\n"


def test_both_appended_and_we_go_on(service: Service, jots: Mount, editor: Program) -> None:
    """What the append brought up is no news to the rewrite that follows it."""
    service.remote.append("note", "theirs")
    fd = editor.call(os.open, str(jots / "note"), os.O_RDWR)
    editor.call(os.pwrite, fd, b"ours\n", len(OLD) + 1)
    editor.call(os.fsync, fd)
    service.wait_for(lambda: service.body("note").endswith("ours"))
    editor.call(os.pwrite, fd, b"A", 0)
    editor.call(os.close, fd)
    jots.settled()
    assert service.body("note") == "A" + OLD[1:] + "\ntheirs\nours"
    assert service.filenames() == ["note"]


def test_the_same_change(service: Service, jots: Mount) -> None:
    with service.requests() as log:
        jots.do(edit_in_place, jots / "note", "7\n", "seven\n")
        service.remote.patch("note", changed(_7="seven", _17="1seven"))
        jots.settled()
    assert log.changes == []
    assert service.filenames() == ["note"]


def test_a_new_note_of_the_same_name(service: Service, jots: Mount) -> None:
    """Both sides made it: neither is lost. (The service may have refused ours before we heard of theirs.)"""
    jots.expect_error("new: the service refused it")
    service.remote.create("new", "theirs")
    jots.write("new", "ours\n")
    eventually(lambda: {service.body(name) for name in service.filenames()} == {"ours", "theirs", OLD})
    [copy] = copies(service)
    assert (service.body("new"), service.body(copy)) == ("ours", "theirs")
    assert jots.settled()["errors"] == []


# --- deletes ---

def test_deleted_there_edited_here(service: Service, jots: Mount) -> None:
    jots.do(edit_in_place, jots / "note", "7\n", "seven\n")
    service.remote.delete("note")
    jots.settled()
    assert service.body("note") == changed(_7="seven", _17="1seven")
    assert jots.names() == ["note"]


def test_deleted_there_appended_here(service: Service, jots: Mount) -> None:
    service.remote.delete("note")
    jots.sh("echo more >> note")
    jots.settled()
    assert service.body("note").endswith("more")
    assert jots.read("note").decode() == service.body("note") + "\n"


def test_deleted_here_edited_there(service: Service, jots: Mount) -> None:
    """The note comes back."""
    before = service.note("note")["id"]
    jots.do(os.unlink, jots / "note")
    assert jots.names() == []
    service.remote.patch("note", "new there")
    jots.settled()
    assert service.note("note")["id"] == before
    assert jots.names() == ["note"]
    assert jots.read("note") == b"new there\n"


def test_deleted_here_after_a_line_of_ours(service: Service, jots: Mount) -> None:
    """Our own append is no news from elsewhere."""
    service.fault("latency", path="append", ms=300)
    jots.sh("echo more >> note; sleep 0.1; rm note")
    jots.settled()
    assert service.filenames() == [] and jots.names() == []


def test_deleted_on_both_sides(service: Service, jots: Mount) -> None:
    jots.do(os.unlink, jots / "note")
    service.remote.delete("note")
    jots.settled()
    assert jots.names() == [] and service.filenames() == []


def test_edited_there_between_delete_and_recreation(service: Service, jots: Mount) -> None:
    """The name is the note, also if news came while it was vacant."""
    before = service.note("note")["id"]
    text = jots.read("note")
    jots.do(os.unlink, jots / "note")
    service.remote.patch("note", changed(_17="seventeen"))
    jots.refresh()
    jots.write("note", text.replace(b"\n7\n", b"\nseven\n"))
    jots.settled()
    assert service.note("note")["id"] == before
    assert service.body("note") == changed(_7="seven", _17="seventeen")


def test_moved_there_edited_here(service: Service, jots: Mount) -> None:
    folder = service.remote.create_folder("Work")
    jots.do(edit_in_place, jots / "note", "7\n", "seven\n")
    service.remote.move("note", folder["id"])
    jots.settled()
    assert service.note("note")["folder_id"] == folder["id"]
    assert service.body("note") == changed(_7="seven", _17="1seven")
    jots.refresh()
    assert jots.names() == ["Work"] and jots.names("Work") == ["note"]


def test_renamed_there_edited_here(service: Service, jots: Mount) -> None:
    jots.do(edit_in_place, jots / "note", "7\n", "seven\n")
    service.remote.rename("note", "other")
    jots.settled()
    jots.refresh()
    assert jots.names() == service.filenames() == ["other"]
    assert service.body("other") == changed(_7="seven", _17="1seven")


def test_renamed_on_both_sides(service: Service, jots: Mount) -> None:
    jots.do(os.rename, jots / "note", jots / "ours")
    service.remote.rename("note", "theirs")
    jots.settled()
    jots.refresh()
    assert jots.names() == service.filenames()
    assert len(jots.names()) == 1
    assert service.body(jots.names()[0]) == OLD


# --- locks and formats ---

def test_locked_under_a_rewrite(service: Service, jots: Mount) -> None:
    jots.do(edit_in_place, jots / "note", "7\n", "seven\n")
    service.remote.lock("note")
    jots.settled()
    [copy] = copies(service, "local")
    assert service.body("note") == OLD
    assert service.body(copy) == changed(_7="seven", _17="1seven")
    jots.refresh()
    assert sorted(jots.names()) == ["note", copy]
    assert jots.read("note").decode() == OLD + "\n"
    jots.sh("echo more >> note")
    jots.settled()
    assert service.body("note") == OLD + "\nmore"


def test_rich_under_a_rewrite(service: Service, jots: Mount) -> None:
    jots.do(edit_in_place, jots / "note", "7\n", "seven\n")
    service.remote.make_rich("note")
    jots.settled()
    [copy] = copies(service, "local")
    assert service.body(copy) == changed(_7="seven", _17="1seven")
    jots.refresh()
    assert sorted(jots.names()) == ["note", copy]
    assert jots.stat("note").st_mode & 0o222 == 0


# --- one look before what overwrites ---

@pytest.mark.parametrize("command", ["sed -i s/7/seven/ note", "mv note other", "rm note"])
def test_one_look_before_it_is_overwritten(service: Service, jots: Mount, command: str) -> None:
    with service.requests() as log:
        jots.sh(command)
        jots.settled()
    rows = [row["endpoint"] for row in log.all() if row["endpoint"] in ("show_note", "update_note", "delete_note")]
    assert rows in (["show_note", "update_note"], ["show_note", "delete_note"])


def test_no_look_before_an_append(service: Service, jots: Mount) -> None:
    with service.requests() as log:
        jots.sh("echo more >> note")
        jots.settled()
    assert (log.changes, log.count("show_note")) == (["append"], 0)


def test_news_between_the_look_and_a_late_patch(service: Service, jots: Mount) -> None:
    """No budget for the PATCH after the look: by the time there is some, what was seen is old."""
    service.limit("write", 1, 3)
    jots.do(edit_in_place, jots / "note", "3\n", "three\n")
    jots.write("other", "takes the budget\n")
    service.wait_for(lambda: service.count("show_note", service.last() - 3) or True)
    service.remote.patch("note", changed(_17="seventeen"))
    jots.settled(30)
    assert service.body("note") == changed(_3="three", _13="1three", _17="seventeen")
    assert service.filenames() == ["note", "other"]


# --- pinned content ---

def test_what_a_writer_has_before_him_stays(service: Service, mount: Mounts, editor: Program) -> None:
    """Also after its first save went up; when he closes it, the two come together."""
    service.remote.create("note", OLD, at=LONG_AGO)
    jots = mount(settle=0.2, ttl=0.2)
    fd = editor.call(os.open, str(jots / "note"), os.O_RDWR)
    mine = changed(_3="three").encode() + b"\n"
    editor.call(os.ftruncate, fd, 0)
    editor.call(os.pwrite, fd, mine, 0)
    editor.call(os.fsync, fd)
    service.wait_for(lambda: service.body("note") == changed(_3="three"))
    service.remote.patch("note", changed(_3="three", _17="seventeen"))
    jots.refresh()
    time.sleep(0.5)
    assert editor.call(os.pread, fd, 1000, 0) == mine
    assert jots.read("note") == mine
    editor.call(os.pwrite, fd, b"X", 0)
    editor.call(os.close, fd)
    jots.settled()
    want = "X" + changed(_3="three", _17="seventeen")[1:]
    assert service.body("note") == want
    assert jots.read("note").decode() == want + "\n"
    assert service.filenames() == ["note"]


def test_a_writer_who_closes_without_more_sees_the_news(service: Service, mount: Mounts, editor: Program) -> None:
    service.remote.create("note", OLD, at=LONG_AGO)
    jots = mount(settle=0.2, ttl=0.2)
    fd = editor.call(os.open, str(jots / "note"), os.O_RDWR)
    editor.call(os.pwrite, fd, b"X", 0)
    editor.call(os.fsync, fd)
    service.wait_for(lambda: service.body("note")[0] == "X")
    service.remote.patch("note", "X" + changed(_17="seventeen")[1:])
    jots.refresh()
    with service.requests() as log:
        editor.call(os.close, fd)
        jots.settled()
        eventually(lambda: b"seventeen" in jots.read("note"))
    assert log.changes == []
    assert service.body("note") == "X" + changed(_17="seventeen")[1:]


# --- appends and rewrites of one note ---

def test_a_rewrite_while_an_append_is_in_flight(service: Service, jots: Mount) -> None:
    service.fault("latency", path="append", ms=500)
    with service.requests() as log:
        jots.sh("echo one more >> note; sleep 0.1; sed -i s/^7$/seven/ note; echo and another >> note")
        jots.settled()
    assert service.body("note") == changed(_7="seven") + "\none more\nand another"
    assert log.changes == ["append", "update_note"]
    assert jots.read("note").decode() == changed(_7="seven") + "\none more\nand another\n"


def test_a_rewrite_while_an_append_has_no_answer(service: Service, jots: Mount) -> None:
    """Committed, but nobody told us."""
    service.fault("reset_after", path="append", count=1)
    jots.sh("echo one more >> note; sed -i s/^7$/seven/ note")
    jots.settled()
    assert service.body("note") == changed(_7="seven") + "\none more"


@pytest.mark.parametrize("down", [True, False])
def test_a_rewrite_of_unsent_lines(service: Service, jots: Mount, down: bool) -> None:
    if down:
        service.down()
    with service.requests() as log:
        jots.sh("for i in a b c; do echo $i >> note; done; sed -i 's/^7$/seven/; s/^b$/B/' note")
        assert jots.read("note").decode() == changed(_7="seven") + "\na\nB\nc\n"
        service.up()
        jots.settled()
    assert service.body("note") == changed(_7="seven") + "\na\nB\nc"
    assert log.changes.count("update_note") == 1
    assert service.filenames() == ["note"]


@each_save
def test_unsent_lines_a_rewrite_and_theirs(service: Service, jots: Mount, save: object) -> None:
    """The ancestor holds the unsent lines: they are neither theirs nor doubled."""
    service.down()
    jots.sh("echo mine >> note")
    jots.do(save, jots / "note", "7\n", "seven\n")
    service.remote.append("note", "theirs")
    service.up()
    jots.settled()
    lines = service.body("note").splitlines()
    assert lines[:20] == changed(_7="seven", _17="1seven").splitlines()
    assert sorted(lines[20:]) == ["mine", "theirs"] or copies(service)


def test_appends_of_both_sides_interleave(service: Service, jots: Mount) -> None:
    for number in range(10):
        jots.sh(f"echo ours {number} >> note")
        service.remote.append("note", f"theirs {number}")
    jots.settled()
    lines = service.body("note").splitlines()[20:]
    assert sorted(lines) == sorted(f"{who} {number}" for who in ("ours", "theirs") for number in range(10))
    assert [line for line in lines if line.startswith("ours")] == [f"ours {number}" for number in range(10)]
    jots.refresh()
    assert jots.read("note").decode() == service.body("note") + "\n"


# --- bases given away ---

@pytest.mark.parametrize("cold", [True, False])
def test_the_old_version_under_another_name(service: Service, mount: Mounts, cold: bool) -> None:
    """`mv note note.bak; cp new note`: the note goes on under its name, and not a byte of the old version is lost."""
    before = service.remote.create("note", OLD, at=LONG_AGO)["id"]
    jots = mount(settle=0.2)
    if not cold:
        jots.read("note")
    jots.sh("mv note note.bak && echo new > note")
    jots.settled()
    assert (service.note("note")["id"], service.body("note")) == (before, "new")
    assert service.body("note.bak") == OLD
    assert (jots.read("note"), jots.read("note.bak").decode()) == (b"new\n", OLD + "\n")


def test_a_slow_writer_keeps_the_note(service: Service, jots: Mount, editor: Program) -> None:
    """Deleted and made again by somebody who takes longer than settle_delete."""
    before = service.note("note")["id"]
    editor.call(os.unlink, str(jots / "note"))
    fd = editor.call(os.open, str(jots / "note"), os.O_WRONLY | os.O_CREAT, 0o644)
    editor.call(os.write, fd, b"begun\n")
    time.sleep(1.5)
    editor.call(os.write, fd, b"done\n")
    editor.call(os.close, fd)
    jots.settled()
    assert (service.note("note")["id"], service.body("note")) == (before, "begun\ndone")


def test_a_base_given_away_while_it_is_open(service: Service, jots: Mount, editor: Program) -> None:
    """The old file stays readable and writable; what is written to it dies with it."""
    fd = editor.call(os.open, str(jots / "note"), os.O_RDWR | os.O_APPEND)
    jots.do(save_beside, jots / "note", "7\n", "seven\n")
    editor.call(os.write, fd, b"to nowhere\n")
    jots.settled()
    assert editor.call(os.pread, fd, 1000, 0).decode() == OLD + "\nto nowhere\n"
    editor.call(os.write, fd, b"again\n")
    assert editor.call(os.fstat, fd).st_nlink == 0
    editor.call(os.close, fd)
    jots.settled()
    assert service.body("note") == changed(_7="seven", _17="1seven")
    assert service.filenames() == ["note"]
