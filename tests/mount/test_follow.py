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
