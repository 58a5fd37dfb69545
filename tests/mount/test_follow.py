"""Programs that follow a file see what others append: tail -f, less +F, and watchers."""

from __future__ import annotations

import ctypes
import os
import struct
import subprocess
import time
from collections.abc import Iterator

import pytest

from harness.child import Program
from harness.mount import Mount
from harness.mounts import Mounts
from harness.patience import eventually
from harness.service import Service

IN_MODIFY, IN_ATTRIB, IN_CREATE, IN_DELETE = 0x2, 0x4, 0x100, 0x200


@pytest.fixture
def jots(service: Service, mount: Mounts) -> Iterator[Mount]:
    service.remote.append("log", "one", at=service.now() - 100)  # a locked stream
    service.remote.create("note", "one", at=service.now() - 100)
    yield mount(ttl=1)


@pytest.mark.parametrize("name", ["log", "note"])
@pytest.mark.parametrize("options", ["-f", "-F", "-f ---disable-inotify"])
def test_tail_follows(service: Service, jots: Mount, tmp_path: str, name: str, options: str) -> None:
    output = f"{tmp_path}/out"
    with open(output, "wb") as out:
        tail = subprocess.Popen(["tail", *options.split(), "-s", "0.2", "-n", "+1", str(jots / name)], stdout=out,
                                stderr=subprocess.STDOUT, env={"LC_ALL": "C", "PATH": os.environ["PATH"]})
    try:
        expected = ["one"]
        for number in range(3):
            service.remote.append(name, f"line {number}")
            expected.append(f"line {number}")
            eventually(lambda: open(output).read().splitlines() == expected, 10, f"tail shows {expected}")
        jots.sh(f"echo mine >> {name}")
        expected.append("mine")
        eventually(lambda: open(output).read().splitlines() == expected, 10, f"tail shows {expected}")
    finally:
        tail.kill()
        tail.wait()


def test_reading_on_at_the_end(service: Service, jots: Mount) -> None:
    """As `less +F` does: read(2) again and again on one descriptor."""
    with Program() as less:
        fd = less.call(os.open, str(jots / "log"), os.O_RDONLY)
        assert less.call(os.read, fd, 1000) == b"one\n"
        inode = less.call(os.fstat, fd).st_ino
        for number in range(3):
            service.remote.append("log", f"line {number}")
            found = eventually(lambda: less.call(os.read, fd, 1000), 10, "the line is read")
            assert found == f"line {number}\n".encode()
        assert less.call(os.fstat, fd).st_ino == inode == jots.stat("log").st_ino


def test_a_follower_costs_one_poll_per_ttl(service: Service, jots: Mount) -> None:
    with Program() as less:
        fd = less.call(os.open, str(jots / "log"), os.O_RDONLY)
        less.call(os.read, fd, 1000)
        begun = time.monotonic()
        with service.requests() as log:
            while time.monotonic() < begun + 4:
                less.call(os.read, fd, 1000)
                time.sleep(0.05)
    assert log.count("read") <= (time.monotonic() - begun) * 1.4 + 2


# --- inotify ---


_libc = ctypes.CDLL(None, use_errno=True)
_watches: dict[int, str] = {}


def watch(paths: list[str]) -> int:
    fd = _libc.inotify_init1(os.O_NONBLOCK)
    for path in paths:
        number = _libc.inotify_add_watch(fd, os.fsencode(path), IN_MODIFY | IN_ATTRIB | IN_CREATE | IN_DELETE)
        assert number > 0, os.strerror(ctypes.get_errno())
        _watches[number] = os.path.basename(path)
    return fd


def events(fd: int) -> list[tuple[str, int, str]]:
    """(watched, mask, name) of what has happened."""
    try:
        data = os.read(fd, 65536)
    except BlockingIOError:
        return []
    found, at = [], 0
    while at < len(data):
        number, mask, _, size = struct.unpack_from("iIII", data, at)
        name = data[at + 16:at + 16 + size].rstrip(b"\0").decode()
        found.append((_watches[number], mask & 0xFFF, name))
        at += 16 + size
    return found


def _saw(program: Program, fd: int, jots: Mount, wanted: tuple[str, int, str]) -> bool:
    jots.stat()  # somebody uses the mount; an idle one asks for no news
    found = program.call(events, fd)
    return wanted in found


@pytest.mark.parametrize("name", ["log", "note"])
def test_watchers_of_a_file_see_remote_changes(service: Service, jots: Mount, name: str) -> None:
    jots.read(name)
    with Program() as program:
        fd = program.call(watch, [str(jots / name)])
        service.remote.append(name, "two")
        eventually(lambda: _saw(program, fd, jots, (name, IN_MODIFY, "")), 15, "IN_MODIFY")
        assert jots.read(name) == b"one\ntwo\n"
    jots.settled()
    assert jots.status()["pending"] == []
    assert service.body(name) == "one\ntwo"


def test_watchers_of_a_directory_see_remote_changes(service: Service, jots: Mount) -> None:
    jots.sh("cat * > /dev/null")
    with Program() as program:
        fd = program.call(watch, [str(jots.path)])
        service.remote.append("note", "two")
        eventually(lambda: _saw(program, fd, jots, ("mnt", IN_MODIFY, "note")), 15, "IN_MODIFY of a file")
        service.remote.create("new", "x")
        eventually(lambda: _saw(program, fd, jots, ("mnt", IN_MODIFY, "new")), 15, "a new file")
        program.call(events, fd)
        service.remote.delete("new")
        eventually(lambda: _saw(program, fd, jots, ("mnt", IN_ATTRIB, "")), 15, "the directory changed")


def test_events_cost_and_change_nothing(service: Service, jots: Mount) -> None:
    jots.sh("cat * > /dev/null")
    service.advance(5)
    with Program() as program:
        fd = program.call(watch, [str(jots.path), str(jots / "note")])
        service.remote.patch("note", "two", at=service.now())
        eventually(lambda: _saw(program, fd, jots, ("note", IN_MODIFY, "")), 15, "IN_MODIFY")
        time.sleep(1.5)
        program.call(events, fd)
        before = jots.stat("note")
        time.sleep(2.5)
        with service.requests() as log:
            time.sleep(2)
            assert program.call(events, fd) == []
        assert log.all() == []
        assert jots.stat("note").st_mtime_ns == before.st_mtime_ns
    assert [row for row in service.log() if row["method"] != "GET" and not row["path"].endswith("/notes/0")] == []


def test_a_killed_daemon_leaves_no_child(service: Service, jots: Mount) -> None:
    """While events are being raised."""
    jots.read("note")
    with Program() as program:
        program.call(watch, [str(jots.path), str(jots / "note")])
        for number in range(3):
            service.remote.append("note", f"{number}")
            jots.stat()
            time.sleep(0.4)
        jots.kill()
