"""What can't be saved is refused before a byte of it is accepted, and costs nothing."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.mount import Mount
from harness.mounts import Mounts
from harness.service import Service

CAP = 3 * (1 << 20)


@pytest.fixture
def jots(service: Service, mount: Mounts) -> Iterator[Mount]:
    """Nothing in these tests may change anything on the service."""
    service.remote.create_folder("Work")
    service.remote.create("note", "text")
    service.remote.create("plan", "text", folder="Work")
    service.remote.create("locked", "text", append_only=True)
    service.remote.create("rich", "text")
    service.remote.make_rich("rich")
    before = service.dump()["accounts"]
    jots = mount()
    with service.requests() as log:
        yield jots
        jots.settled()
    assert log.changes == []
    assert service.dump()["accounts"] == before


def open_with(flags: int) -> object:
    def opened(path: Path | bytes) -> None:
        os.close(os.open(path, flags, 0o644))
    return opened


MAKE = open_with(os.O_CREAT | os.O_WRONLY)


def test_exclusive_creation(jots: Mount) -> None:
    assert jots.errno(open_with(os.O_CREAT | os.O_EXCL | os.O_WRONLY), jots / "note") == "EEXIST"


@pytest.mark.sanitizer
def test_a_name_that_another_directory_has(jots: Mount) -> None:
    """Filenames are unique over the whole account."""
    assert jots.errno(MAKE, jots / "plan") == "ENOTUNIQ"
    assert jots.errno(MAKE, jots / "Work" / "note") == "ENOTUNIQ"
    assert jots.errno(os.rename, jots / "note", jots / "plan") == "ENOTUNIQ"
    assert jots.errno(os.rename, jots / "note", jots / "Work" / "rich") == "ENOTUNIQ"
    assert not jots.exists("plan")


def test_names_that_are_too_long(jots: Mount) -> None:
    assert jots.errno(MAKE, jots / ("x" * 201)) == "ENAMETOOLONG"
    assert jots.errno(MAKE, jots / ("é" * 101)) == "ENAMETOOLONG"
    assert jots.errno(MAKE, jots / ("x" * 256)) == "ENAMETOOLONG"
    assert jots.errno(os.rename, jots / "note", jots / ("x" * 201)) == "ENAMETOOLONG"
    assert jots.errno(os.mkdir, jots / ("x" * 81)) == "ENAMETOOLONG"


@pytest.mark.parametrize("name", ["tab\there", "line\nbreak", "bell\a", "del\x7f", "c1\x85", "zero\u200bwidth", "rtl\u202e"])
def test_characters_that_the_service_drops(jots: Mount, name: str) -> None:
    assert jots.errno(MAKE, jots / name) == "EINVAL"
    assert jots.errno(os.rename, jots / "note", jots / name) == "EINVAL"
    assert jots.errno(os.mkdir, jots / name) == "EINVAL"


@pytest.mark.sanitizer
@pytest.mark.parametrize("name", [b"\xff", b"caf\xe9", b"\xed\xa0\x80", b"\xc0\xaf", b"cut\xc3"])
def test_names_that_are_not_utf8(jots: Mount, name: bytes) -> None:
    path = os.fsencode(jots.path) + b"/" + name
    assert jots.errno(MAKE, path) == "EILSEQ"
    assert jots.errno(os.mkdir, path) == "EILSEQ"
    assert jots.errno(os.rename, os.fsencode(jots / "note"), path) == "EILSEQ"
    assert jots.errno(os.stat, path) in ("ENOENT", "EILSEQ")


@pytest.mark.sanitizer
@pytest.mark.parametrize("data", [b"nul\0", b"\xff\xfe", b"latin \xe9 text\n", b"\xed\xa0\x80", b"\xf4\x90\x80\x80"])
@pytest.mark.parametrize("flags", [os.O_WRONLY, os.O_WRONLY | os.O_APPEND], ids=["write", "append"])
def test_bytes_that_are_no_text(jots: Mount, data: bytes, flags: int) -> None:
    def write(path: Path) -> None:
        fd = os.open(path, flags)
        os.write(fd, data)

    assert jots.errno(write, jots / "note") == "EILSEQ"
    assert jots.read("note") == b"text\n"


@pytest.mark.parametrize("flags", [os.O_WRONLY, os.O_RDWR, os.O_WRONLY | os.O_TRUNC], ids=["write", "both", "truncate"])
def test_a_locked_note_only_grows(jots: Mount, flags: int) -> None:
    assert jots.errno(open_with(flags), jots / "locked") == "EPERM"
    assert jots.errno(os.truncate, jots / "locked", 0) == "EPERM"
    assert jots.errno(os.rename, jots / "locked", jots / "unlocked") == "EPERM"
    assert jots.errno(os.rename, jots / "note", jots / "locked") == "EPERM"
    assert jots.read("locked") == b"text\n"


def test_a_rich_note_is_only_read(jots: Mount) -> None:
    for flags in (os.O_WRONLY, os.O_RDWR, os.O_WRONLY | os.O_APPEND, os.O_WRONLY | os.O_TRUNC):
        assert jots.errno(open_with(flags), jots / "rich") in ("EPERM", "EACCES")
    assert jots.errno(os.truncate, jots / "rich", 0) in ("EPERM", "EACCES")
    assert jots.errno(os.rename, jots / "note", jots / "rich") == "EPERM"
    assert jots.read("rich") == b"text\n"


def test_what_the_service_has_no_word_for(jots: Mount) -> None:
    assert jots.errno(os.symlink, "note", jots / "symlink") == "EPERM"
    assert jots.errno(os.link, jots / "note", jots / "link") in ("EPERM", "EMLINK", "ENOTSUP")
    assert jots.errno(os.mkfifo, jots / "fifo") == "EPERM"
    assert jots.errno(os.mknod, jots / "socket", stat.S_IFSOCK | 0o644) == "EPERM"
    assert jots.errno(os.mkdir, jots / "Work" / "deeper") == "EPERM"
    assert jots.errno(os.chown, jots / "note", 12345, -1) == "EPERM"
    assert jots.names() == ["Work", "locked", "note", "rich"]
    assert all(stat.S_ISDIR(jots.stat(name).st_mode) == (name == "Work") for name in jots.names())


def test_a_folder_with_notes_stays(jots: Mount) -> None:
    assert jots.errno(os.rmdir, jots / "Work") == "ENOTEMPTY"
    assert jots.errno(os.rename, jots / "Work", jots / "note") == "ENOTDIR"


def test_more_than_a_note_holds(jots: Mount) -> None:
    def write_at_the_cap(path: Path) -> None:
        fd = os.open(path, os.O_WRONLY)
        try:
            os.pwrite(fd, b"x" * 100, CAP)
        finally:
            os.close(fd)

    assert jots.errno(os.truncate, jots / "note", CAP + 2) == "EFBIG"
    assert jots.errno(write_at_the_cap, jots / "note") == "EFBIG"
    assert jots.errno(os.truncate, jots / "note", 1 << 40) == "EFBIG"
    assert jots.read("note") == b"text\n"


def test_what_is_not_there(jots: Mount) -> None:
    assert jots.errno(os.stat, jots / "missing") == "ENOENT"
    assert jots.errno(os.unlink, jots / "missing") == "ENOENT"
    assert jots.errno(open_with(os.O_RDONLY), jots / "missing") == "ENOENT"
    assert jots.errno(MAKE, jots / "missing" / "note") == "ENOENT"
    assert jots.errno(MAKE, jots / "note" / "note") == "ENOTDIR"
    assert jots.errno(os.unlink, jots / "Work") == "EISDIR"
    assert jots.errno(open_with(os.O_WRONLY), jots / "Work") == "EISDIR"


# Below: refusals that are known only once something has been accepted, or that need another service.


def test_the_largest_note_is_accepted(service: Service, mount: Mounts) -> None:
    jots = mount()
    jots.write("large", b"x" * CAP)
    jots.settled(40)
    assert len(service.body("large")) == CAP
    assert jots.errno((jots / "larger").write_bytes, b"x" * (CAP + 2)) == "EFBIG"


def test_200_bytes_of_name_are_accepted(service: Service, mount: Mounts) -> None:
    names = sorted(["x" * 200, "é" * 100])
    jots = mount()
    for name in names:
        assert jots.errno(MAKE, jots / name) == "OK"
        jots.write(name, "x\n")
    jots.settled()
    assert service.filenames() == sorted(names)


def test_a_known_quota_is_refused_at_once(service: Service, mount: Mounts) -> None:
    """Once a receipt has told what is used: EDQUOT from write, and what was there stays."""
    service.account(storage_bytes=2000)
    service.remote.create("note", "x" * 100)
    jots = mount()
    jots.sh("echo small >> note")
    jots.settled()
    before = service.body("note")
    assert jots.errno((jots / "big").write_bytes, b"x" * 5000) == "EDQUOT"
    assert jots.errno(_append, jots / "note", b"x" * 5000 + b"\n") == "EDQUOT"
    assert jots.read("note").decode() == before + "\n"


def _append(path: Path, data: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_APPEND)
    try:
        os.write(fd, data)
    finally:
        os.close(fd)


def test_a_quota_learned_too_late_loses_nothing(service: Service, mount: Mounts) -> None:
    """The refused bytes stay readable and are named in the status; they go when there is room."""
    service.remote.create("note", "text")
    service.account(storage_bytes=10)
    jots = mount()
    jots.expect_error("note")
    jots.write("note", "this is too much\n")
    service.wait_for(lambda: jots.status()["errors"], 20)
    error = jots.status()["errors"][0]
    assert (error["path"].lstrip("/"), error["code"], error["errno"]) == ("note", "storage_cap_exceeded", errno.EDQUOT)
    assert jots.read("note") == b"this is too much\n"
    service.account(storage_bytes=10_000)
    jots.refresh()
    jots.settled()
    assert service.body("note") == "this is too much"
