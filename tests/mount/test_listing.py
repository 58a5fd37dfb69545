"""Folders are directories, notes are files: what is listed is what the service has."""

from __future__ import annotations

import os
import stat
import time
import unicodedata

import pytest

from harness.mounts import Mounts
from harness.patience import eventually
from harness.service import Service

PAGE = 200


def names_in(service: Service, folder: str | None = None) -> list[str]:
    """Filenames of a folder's notes; of un-foldered notes and of folders without one."""
    ids = {row["name"]: row["id"] for row in service.folders()}
    wanted = ids[folder] if folder else None
    found = [note["filename"] for note in service.notes() if note["folder_id"] == wanted]
    return sorted(found + ([] if folder else list(ids)))


@pytest.mark.parametrize("page_cap", [PAGE, 37], ids=["whole pages", "silently smaller pages"])
def test_more_than_two_pages(service: Service, mount: Mounts, page_cap: int) -> None:
    service.switch(list_page_cap=page_cap)
    service.seed(count=450, folders=3)
    jots = mount()
    assert jots.names() == names_in(service)
    for row in service.folders():
        assert jots.names(row["name"]) == names_in(service, row["name"])


def test_long_listing_reads_no_note(service: Service, mount: Mounts) -> None:
    service.seed(count=450, folders=3)
    jots = mount(ttl=600)
    with service.requests() as log:
        output = jots.sh("ls -lR | wc -l")
    assert int(output.out) > 450
    assert log.count("show_note") == 0
    # Three pages and an empty one, a poll for news, one look into each folder.
    assert log.count("list_notes") <= 8


@pytest.mark.sanitizer
def test_unicode_and_awkward_names(service: Service, mount: Mounts) -> None:
    names = ["Übersetzungen – café.txt", "日本語", "🌱 garden", "with space", " leading", "-dash", "quote'\"s", "back\\slash",
             "*?[glob]", "$HOME", "100%", "a%20b", "trailing.", "é" * 100]
    for name in names:
        service.remote.create("t", f"body of {name}", filename=name)
    jots = mount()
    assert jots.names() == sorted(names)
    for name in names:
        assert jots.read(name).decode() == f"body of {name}\n"


def test_a_name_is_found_under_any_normalisation(service: Service, mount: Mounts) -> None:
    composed = "Café.txt"
    service.remote.create(composed, "x")
    jots = mount()
    assert jots.names() == [composed]
    assert jots.read(unicodedata.normalize("NFD", composed)) == b"x\n"


def test_decomposed_names_are_listed_composed(service: Service, mount: Mounts) -> None:
    service.remote.create("t", "x", filename=unicodedata.normalize("NFD", "Café.txt"))
    jots = mount()
    assert jots.names() == ["Café.txt"]
    assert jots.read("Café.txt") == b"x\n"


def test_names_that_no_directory_can_hold(service: Service, mount: Mounts) -> None:
    service.remote.create("t", "dots", filename="..")
    service.remote.create("t", "slash", filename="a/b")
    service.remote.create("t", "escaped", filename="a%2Fb")
    service.remote.create_folder("in/out")
    service.remote.create_folder("🌱" * 80)
    jots = mount()
    names = jots.names()
    assert len(names) == 5 and len(set(names)) == 5
    assert "%2E%2E" in names and "in%2Fout" in names
    assert all("/" not in name and len(name.encode()) <= 255 for name in names)
    bodies = sorted(jots.read(name) for name in names if stat.S_ISREG(jots.stat(name).st_mode))
    assert bodies == [b"dots\n", b"escaped\n", b"slash\n"]


def test_a_note_named_like_a_folder(service: Service, mount: Mounts) -> None:
    service.remote.create_folder("Work")
    note = service.remote.create("Work", "the note")
    jots = mount()
    assert jots.names() == ["Work", f"Work~{note['id']}"]
    assert jots.read(f"Work~{note['id']}") == b"the note\n"


def test_types_modes_and_times(service: Service, mount: Mounts) -> None:
    service.remote.create_folder("Work")
    service.remote.create("plain", "x", at="2026-01-02T03:04:05Z")
    service.remote.create("rich", "x")
    service.remote.make_rich("rich")
    jots = mount()
    assert stat.S_ISDIR(jots.stat("Work").st_mode)
    assert oct(jots.stat("plain").st_mode) == oct(stat.S_IFREG | 0o644)
    assert oct(jots.stat("rich").st_mode) == oct(stat.S_IFREG | 0o444)
    assert jots.stat("plain").st_mtime == 1767323045
    assert jots.stat("plain").st_uid == os.getuid()


@pytest.mark.sanitizer
def test_news_appear_within_ttl(service: Service, mount: Mounts) -> None:
    service.remote.create("old", "1")
    jots = mount(ttl=1)
    assert jots.names() == ["old"]
    assert not jots.exists("new")
    service.remote.create("new", "2")
    eventually(lambda: jots.exists("new"), 10, "a note made elsewhere is found by name")
    assert jots.names() == ["new", "old"]
    service.remote.patch("old", "1\n2")
    eventually(lambda: jots.read("old") == b"1\n2\n", 10, "a change made elsewhere is read")
    service.remote.rename("old", "older")
    eventually(lambda: jots.names() == ["new", "older"], 10, "a rename made elsewhere is listed")
    service.remote.delete("new")
    eventually(lambda: not jots.exists("new"), 10, "a deletion made elsewhere is seen")
    service.remote.create_folder("Work")
    service.remote.move("older", "Work")
    eventually(lambda: jots.names("Work") == ["older"] if jots.exists("Work") else False, 10, "a move is seen")
    assert jots.names() == ["Work"]


def test_inode_numbers_survive_a_remount(service: Service, mount: Mounts) -> None:
    service.seed(count=30, folders=2)
    jots = mount()

    def numbers() -> dict[str, int]:
        return {path: int(number) for number, path in
                (line.split(" ", 1) for line in jots.sh("find . -printf '%i %p\\n'").lines)}

    before = numbers()
    assert len(set(before.values())) == len(before) == 33
    jots.remount()
    assert numbers() == before


def test_a_second_look_costs_nothing(service: Service, mount: Mounts) -> None:
    service.seed(count=40)
    jots = mount(ttl=600)
    jots.sh("grep -r . > /dev/null")
    with service.requests() as log:
        jots.sh("grep -r . > /dev/null; ls -lR > /dev/null; cat * > /dev/null")
    assert log.all() == []
    jots.remount()
    with service.requests() as log:
        jots.sh("cat * > /dev/null")
    assert log.count("show_note") == 0


def test_an_idle_mount_asks_nothing(service: Service, mount: Mounts) -> None:
    service.seed(count=10)
    jots = mount(ttl=1)
    jots.sh("cat * > /dev/null")
    jots.settled()
    eventually(lambda: _quiet_for(service, 3), 20, "no request for three ttl")


def _quiet_for(service: Service, seconds: float) -> bool:
    before = service.last()
    time.sleep(seconds)
    return service.last() == before
