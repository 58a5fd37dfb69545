"""New files become notes: one call each, fewer together, none if they don't stay."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from harness.child import Program
from harness.mounts import Mounts
from harness.service import Service

ONE_CREATION = (["create_note"], ["append"])


@pytest.mark.sanitizer
@pytest.mark.parametrize("name", ["note", "with space.txt", "Übersicht – 日本語.md", "é" * 100])
def test_one_call_makes_a_note(service: Service, mount: Mounts, name: str) -> None:
    jots = mount()
    with service.requests() as log:
        jots.write(name, "first\nsecond\n")
        assert jots.read(name) == b"first\nsecond\n"
        jots.settled()
    assert log.changes in ONE_CREATION
    note = service.note(name)
    assert note is not None
    assert (note["body"], note["format"], note["append_only"]) == ("first\nsecond", "plain", False)
    assert jots.names() == [name]


@pytest.mark.parametrize("body", ["", "x", "x\n", "x\n\n", "\n", "\n\n", "ä\r\nö\r\n", "tab\there\x1b[0m\n"])
def test_bytes_come_back_exactly(service: Service, mount: Mounts, body: str) -> None:
    jots = mount()
    jots.write("note", body)
    assert jots.settled()["errors"] == []
    shown = jots.read("note")
    jots.remount()
    assert (shown, jots.read("note")) == (body.encode(), body.encode())
    stored = service.body("note")
    assert stored in (body, body.removesuffix("\n"))
    if body.strip("\n"):
        assert stored == (body[:-1] if body.endswith("\n") and not body.endswith("\n\n") else body)


def test_a_note_made_in_a_folder(service: Service, mount: Mounts) -> None:
    folder = service.remote.create_folder("Work")
    jots = mount()
    with service.requests() as log:
        jots.write("Work/plan", "x\n")
        jots.settled()
    assert log.changes == ["create_note"]
    assert service.note("plan")["folder_id"] == folder["id"]


def test_a_folder_and_its_notes(service: Service, mount: Mounts) -> None:
    jots = mount()
    with service.requests() as log:
        jots.sh("mkdir Trip && echo 1 > Trip/one && echo 2 > Trip/two")
        jots.settled()
    assert log.changes == ["create_folder", "create_notes"]
    assert {service.note(name)["folder_id"] for name in ("one", "two")} == {service.folders()[0]["id"]}


def test_fifty_copies_are_one_bulk_call(service: Service, mount: Mounts, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for number in range(50):
        (source / f"note {number}").write_text(f"body {number}\n")
    jots = mount()
    with service.requests() as log:
        jots.sh(f"cp {source}/* .")
        jots.settled()
    assert log.changes == ["create_notes"]
    assert {name: service.body(name) for name in service.filenames()} == {f"note {n}": f"body {n}" for n in range(50)}


def test_files_that_come_and_go_cost_nothing(service: Service, mount: Mounts) -> None:
    jots = mount()
    with service.requests() as log:
        jots.sh("for i in $(seq 20); do echo $i > t$i; done; mv t1 u1; rm t* u1")
        jots.settled()
    assert log.changes == []
    assert service.notes() == []


def test_a_folder_that_comes_and_goes_costs_nothing(service: Service, mount: Mounts) -> None:
    jots = mount()
    with service.requests() as log:
        jots.sh("mkdir d && echo x > d/x && rm d/x && rmdir d")
        jots.settled()
    assert log.changes == []
    assert service.notes() == service.folders() == []


def test_scratch_names_stay_here(service: Service, mount: Mounts) -> None:
    names = [".note.swp", "note~", "4913", "#note#", ".#note", ".~lock.note#", ".goutputstream-ABC123", ".DS_Store",
             "._note", ".Trash-0", "x.mine"]
    jots = mount(local="*.mine")
    with service.requests() as log:
        for name in names:
            jots.write(name, f"{name}\n")
        jots.settled()
        jots.remount()
        assert [jots.read(name).decode() for name in names] == [f"{name}\n" for name in names]
        jots.flush()
    assert log.changes == []
    assert service.notes() == []


def test_a_slugged_name_stays_what_the_user_typed(service: Service, mount: Mounts) -> None:
    service.switch(filename_rule="slug")
    jots = mount()
    jots.write("Q2 Plan.txt", "x\n")
    jots.settled()
    assert service.filenames() == ["q2-plan-txt"]
    assert jots.names() == ["Q2 Plan.txt"]
    jots.remount()
    assert jots.names() == ["Q2 Plan.txt"]
    with service.requests() as log:
        jots.write("Q2 Plan.txt", "y\n")
        jots.settled()
    assert log.changes == ["update_note"]
    assert service.body("q2-plan-txt") == "y"


def test_an_empty_file(service: Service, mount: Mounts) -> None:
    jots = mount()
    jots.sh("touch empty")
    assert jots.stat("empty").st_size == 0
    jots.settled()
    assert service.body("empty") == ""
    assert jots.read("empty") == b""


def test_append_only_option_makes_streams(service: Service, mount: Mounts) -> None:
    jots = mount(append_only=True)
    with service.requests() as log:
        jots.sh("echo one >> stream; echo text > note")
        jots.settled()
    assert len(log.changes) == 2
    assert service.note("stream")["append_only"] is True
    assert service.note("note")["append_only"] is False


def test_attributes_stay_when_it_becomes_a_note(service: Service, mount: Mounts) -> None:
    jots = mount()
    jots.write("note", "x\n")
    before = jots.stat("note")
    jots.settled()
    jots.refresh()
    after = jots.stat("note")
    assert oct(before.st_mode) == oct(stat.S_IFREG | 0o644)
    assert (after.st_ino, after.st_mtime_ns, after.st_ctime_ns, after.st_size) == \
        (before.st_ino, before.st_mtime_ns, before.st_ctime_ns, before.st_size)


def test_a_logger_that_keeps_its_file_open(service: Service, mount: Mounts) -> None:
    """It is created after its first complete line, not when the logger ends."""
    jots = mount()
    with Program() as logger:
        fd = logger.call(os.open, str(jots / "log"), os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o644)
        logger.call(os.write, fd, b"first\n")
        service.wait_for(lambda: service.note("log"))
        logger.call(os.write, fd, b"second\n")
        service.wait_for(lambda: service.body("log") == "first\nsecond")
        logger.call(os.close, fd)
    jots.settled()
    assert service.body("log") == "first\nsecond"
