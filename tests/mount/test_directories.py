"""Folders: made and removed once, one level deep, never removed with something in them."""

from __future__ import annotations

import os

import pytest

from harness.mounts import Mounts
from harness.patience import eventually
from harness.service import Service


def folder_names(service: Service) -> list[str]:
    return sorted(row["name"] for row in service.folders())


@pytest.mark.sanitizer
@pytest.mark.parametrize("name", ["Work", "with space", "Größe 日本", "x" * 80])
def test_mkdir_and_rmdir(service: Service, mount: Mounts, name: str) -> None:
    jots = mount()
    with service.requests() as log:
        jots.do(os.mkdir, jots / name)
        jots.settled()
    assert log.changes == ["create_folder"]
    assert folder_names(service) == [name] == jots.names()
    with service.requests() as log:
        jots.do(os.rmdir, jots / name)
        assert jots.names() == []
        jots.flush()
    assert log.changes == ["delete_folder"]
    assert folder_names(service) == []


def test_a_directory_in_a_directory(service: Service, mount: Mounts) -> None:
    service.remote.create_folder("Work")
    jots = mount()
    with service.requests() as log:
        assert jots.errno(os.mkdir, jots / "Work" / "deeper") == "EPERM"
        assert jots.errno(os.mkdir, jots / "new") == "OK"
        assert jots.errno(os.mkdir, jots / "new" / "deeper") == "EPERM"
        assert jots.errno(os.rename, jots / "new", jots / "Work" / "new") == "EPERM"
        jots.settled()
    assert log.changes == ["create_folder"]


@pytest.mark.parametrize("twin", ["Work", "work", "WORK"])
def test_case_twins(service: Service, mount: Mounts, twin: str) -> None:
    service.remote.create_folder("Work")
    jots = mount()
    with service.requests() as log:
        assert jots.errno(os.mkdir, jots / twin) == "EEXIST"
        jots.settled()
    assert log.changes == []


def test_a_note_of_that_name(service: Service, mount: Mounts) -> None:
    service.remote.create("Work", "x")
    jots = mount()
    assert jots.errno(os.mkdir, jots / "Work") == "EEXIST"
    assert jots.errno(os.rmdir, jots / "Work") == "ENOTDIR"
    assert jots.errno(os.rmdir, jots / "missing") == "ENOENT"
    jots.settled()
    assert folder_names(service) == []


@pytest.mark.sanitizer
def test_not_empty(service: Service, mount: Mounts) -> None:
    service.remote.create_folder("Work")
    service.remote.create("plan", "x", folder="Work")
    jots = mount()
    with service.requests() as log:
        assert jots.errno(os.rmdir, jots / "Work") == "ENOTEMPTY"
        jots.flush()
    assert log.changes == []
    assert service.note("plan")["folder_id"] is not None


def test_a_note_that_we_have_not_seen_yet(service: Service, mount: Mounts) -> None:
    """The service would empty the folder silently: rmdir asks it first."""
    service.remote.create_folder("Work")
    jots = mount(ttl=600)
    assert jots.names("Work") == []
    service.remote.create("plan", "x", folder="Work")
    with service.requests() as log:
        assert jots.errno(os.rmdir, jots / "Work") == "ENOTEMPTY"
        jots.flush()
    assert log.changes == []
    assert folder_names(service) == ["Work"]
    assert jots.names("Work") == ["plan"]


def test_an_unsent_file_is_in_it(service: Service, mount: Mounts) -> None:
    jots = mount()
    jots.sh("mkdir Work && echo x > Work/plan")
    assert jots.errno(os.rmdir, jots / "Work") == "ENOTEMPTY"
    jots.settled()
    assert service.note("plan")["folder_id"] == service.folders()[0]["id"]


def test_remove_it_all(service: Service, mount: Mounts) -> None:
    service.remote.create_folder("Work")
    for number in range(5):
        service.remote.create(f"plan {number}", "x", folder="Work")
    service.remote.create("bystander", "x")
    jots = mount()
    with service.requests() as log:
        jots.sh("rm -r Work")
        jots.flush()
    assert sorted(log.changes) == ["delete_folder", *["delete_note"] * 5]
    assert log.changes[-1] == "delete_folder"
    assert (folder_names(service), service.filenames()) == ([], ["bystander"])


def test_made_again_at_once(service: Service, mount: Mounts) -> None:
    """It is the same folder, and what stays of it costs nothing."""
    folder = service.remote.create_folder("Work")
    jots = mount()
    with service.requests() as log:
        jots.sh("rmdir Work && mkdir Work")
        jots.flush()
    assert log.changes == []
    assert service.folders()[0]["id"] == folder["id"]


def test_removed_elsewhere_with_unsent_notes(service: Service, mount: Mounts) -> None:
    """The folder is made again, once, for what still has to go there."""
    service.remote.create_folder("Work")
    jots = mount()
    jots.names("Work")
    service.down()
    jots.expect_error("")
    jots.write("Work/plan", "x\n")
    service.remote.delete_folder("Work")
    service.up()
    jots.settled(40)
    assert folder_names(service) == ["Work"]
    assert service.note("plan")["folder_id"] == service.folders()[0]["id"]


def test_full(service: Service, mount: Mounts) -> None:
    """The cap on folders: refused with EDQUOT, or kept here, flagged and readable."""
    service.account(folders=1)
    service.remote.create_folder("Work")
    jots = mount()
    jots.expect_error("folder|Home")
    outcome = jots.errno(os.mkdir, jots / "Home")
    if outcome == "OK":
        jots.write("Home/note", "x\n")
        eventually(lambda: jots.status()["errors"], 20, "the refusal is in the status")
        assert jots.status()["errors"][0]["code"] == "cap_exceeded"
        assert jots.read("Home/note") == b"x\n"
    else:
        assert outcome == "EDQUOT"
    assert folder_names(service) == ["Work"]
