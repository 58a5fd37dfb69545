"""Many files at once: as few calls as the service allows, and one bad row harms nobody but itself."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest

from harness.mount import Mount
from harness.mounts import Mounts
from harness.service import Service


@pytest.fixture
def jots(service: Service, mount: Mounts) -> Mount:
    return mount(settle=0.5)


def archive(names: list[str]) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        for name in names:
            body = f"body of {name}\n".encode()
            row = tarfile.TarInfo(name)
            row.size, row.mtime = len(body), 1_700_000_000
            row.uid, row.gid = os.getuid(), os.getgid()
            tar.addfile(row, io.BytesIO(body))
    return data.getvalue()


def holds(service: Service, names: list[str]) -> None:
    assert {name: service.body(name) for name in service.filenames()} == {name: f"body of {name}" for name in names}


def test_sixty_copies(service: Service, jots: Mount, tmp_path: Path) -> None:
    names = [f"note {number}" for number in range(60)]
    source = tmp_path / "source"
    source.mkdir()
    for name in names:
        (source / name).write_text(f"body of {name}\n")
    with service.requests() as log:
        jots.sh(f"cp {source}/* .")
        jots.settled()
    assert log.count("write") - log.count("/notes/0") <= 3 + 1  # the probe of the token is a write, too
    assert len(log.changes) <= 3
    holds(service, names)


def test_an_archive_of_five_hundred(service: Service, jots: Mount) -> None:
    names = [f"n{number:03}.txt" for number in range(500)]
    with service.requests() as log:
        jots.sh("tar xf -", data=archive(names), timeout_s=60)
        assert jots.names() == names
        jots.settled(60)
    assert len(log.changes) <= 12
    assert set(log.changes) <= {"create_notes", "create_note"}
    holds(service, names)
    stat = jots.stat("n123.txt")
    assert int(stat.st_mtime) == 1_700_000_000


@pytest.mark.parametrize("failed", ["indexes", "details"])
def test_one_bad_row(service: Service, jots: Mount, failed: str) -> None:
    """A note of that name was made elsewhere a moment ago. The other 49 don't wait for it."""
    service.switch(bulk_failed=failed)
    jots.expect_error("n27.txt: the service refused it")
    names = [f"n{number:02}.txt" for number in range(50)]
    service.remote.create("n27.txt", "made elsewhere")
    with service.requests() as log:
        jots.sh("tar xf -", data=archive(names))
        jots.settled()
    assert len(log.changes) <= 16
    for name in names:
        if name != "n27.txt":
            assert service.body(name) == f"body of {name}"
    # The two that have met under one name: neither is lost.
    service.wait_for(lambda: {service.body(name) for name in service.filenames() if "n27" in name}
                     == {"made elsewhere", "body of n27.txt"}, 20)
    assert len(log.changes) <= 16


def test_a_bad_row_does_not_eat_the_budget(service: Service, jots: Mount) -> None:
    """It is refused each time it is tried, and it is not tried again and again."""
    jots.expect_error("the service refused it")
    service.switch(filename_case="insensitive")
    service.remote.create("N3.TXT", "a twin by case")
    with service.requests() as log:
        jots.sh("tar xf -", data=archive([f"n{number}.txt" for number in range(20)]))
        jots.settled()
        jots.sh("sleep 3; stat n3.txt")
    assert len(log.changes) <= 12
    assert [row["path"] for row in jots.status()["errors"]] == ["n3.txt"]
    assert jots.read("n3.txt") == b"body of n3.txt\n"
    assert len(service.filenames()) == 20


def test_a_folder_then_its_notes(service: Service, jots: Mount) -> None:
    with service.requests() as log:
        jots.sh("mkdir Trip; for i in $(seq 60); do echo body of t$i > Trip/t$i; done")
        jots.settled()
    assert log.changes[0] == "create_folder"
    assert len(log.changes) <= 3
    folder = service.folders()[0]["id"]
    assert {note["folder_id"] for note in service.notes()} == {folder}
    holds(service, [f"t{number}" for number in range(1, 61)])


def test_a_folder_that_is_refused(service: Service, jots: Mount) -> None:
    """Its notes wait in it, readable."""
    jots.expect_error("Trip: the service refused it")
    service.account(folders=0)
    jots.sh("mkdir Trip; echo a > Trip/a; echo b > b")
    service.wait_for(lambda: [row["path"] for row in jots.status()["errors"]] == ["Trip"])
    service.wait_for(lambda: service.filenames() == ["b"])
    assert jots.read("Trip/a") == b"a\n"
    service.account(folders=100)
    jots.refresh()
    service.wait_for(lambda: service.filenames() == ["a", "b"])
    assert service.note("a")["folder_id"] == service.folders()[0]["id"]


def test_created_and_deleted(service: Service, jots: Mount) -> None:
    with service.requests() as log:
        jots.sh("for i in $(seq 100); do echo $i > f$i; done; rm f*; mkdir D; echo x > D/x; rm -r D")
        jots.settled()
    assert log.changes == []
    assert jots.names() == []


def test_a_folder_with_twenty_notes_is_removed(service: Service, mount: Mounts) -> None:
    work = service.remote.create_folder("Work")
    for number in range(20):
        service.remote.create(f"n{number}", "text", folder=work["id"])
    service.remote.create("stays", "text")
    service.limit("write", 12, 2)
    jots = mount(settle=0.2, settle_delete=0.5)
    with service.requests() as log:
        jots.sh("rm -r Work; ls -a Work 2>/dev/null; true")
        assert jots.names() == ["stays"]
        assert "delete_note" not in log.changes
        jots.settled(30)
    done = [row["endpoint"] for row in log.all() if row["status"] == 204]
    assert done == 20 * ["delete_note"] + ["delete_folder"]
    # The window is shorter than a minute: that must be found out.
    assert sum(row["status"] == 429 for row in log.all()) <= 2
    assert (service.filenames(), service.folders()) == (["stays"], [])


def test_what_appears_in_a_folder_that_is_being_removed(service: Service, mount: Mounts) -> None:
    """The service would put it into the root without a word: the folder comes back instead."""
    work = service.remote.create_folder("Work")
    service.remote.create("a", "text", folder=work["id"])
    jots = mount(settle=0.2, settle_delete=1, ttl=30)
    jots.sh("rm -r Work")
    service.remote.create("new", "text", folder=work["id"])
    jots.settled()
    jots.refresh()
    assert jots.names() == ["Work"] and jots.names("Work") == ["new"]
    assert service.note("new")["folder_id"] == work["id"]


def test_a_tree_copied_over_itself(service: Service, jots: Mount, tmp_path: Path) -> None:
    """All files are written again: what is equal costs nothing, what isn't one call each."""
    source = tmp_path / "source"
    source.mkdir()
    for number in range(20):
        (source / f"n{number}").write_text(f"{number}\n" * 5)
    jots.sh(f"cp {source}/* .")
    jots.settled()
    (source / "n7").write_text("changed\n")
    with service.requests() as log:
        jots.sh(f"cp {source}/* .")
        jots.settled()
    assert log.changes == ["update_note"]
