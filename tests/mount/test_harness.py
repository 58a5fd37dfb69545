"""That the harness itself notices what it must notice."""

from __future__ import annotations

import os
import time

import pytest

from harness import child, processes, report
from harness.mounts import Mounts


def test_hang_is_cut_short() -> None:
    begun = time.monotonic()
    with pytest.raises(child.Hang):
        child.within(0.2, time.sleep, 60)
    assert time.monotonic() - begun < 20


def test_exception_crosses_over() -> None:
    with pytest.raises(FileNotFoundError):
        child.within(5, os.stat, "/nonexistent")


def test_dead_child_is_noticed() -> None:
    with pytest.raises(child.Died):
        child.within(5, os._exit, 3)


def test_program_keeps_its_descriptors(tmp_path: os.PathLike[str]) -> None:
    with child.Program() as program:
        fd = program.call(os.open, f"{tmp_path}/file", os.O_CREAT | os.O_RDWR)
        assert program.call(os.write, fd, b"one") == 3
        assert program.call(os.pread, fd, 10, 0) == b"one"


def test_mount_and_everything_after_it(mount: Mounts) -> None:
    one = mount()
    assert one.is_mounted and one.is_running
    one.write("note", "text\n")
    assert one.sh("cat note").out == "text\n"
    assert one.errno(os.mkdir, one / "note") == "EEXIST"
    assert one.settled()["pending"] == []
    assert processes.find(str(one.path)) == [one.pid]
    one.remount()
    assert one.read("note") == b"text\n"
    one.kill()
    assert not one.is_mounted
    one.remount()
    assert one.read("note") == b"text\n"


def test_reports_are_found(tmp_path: os.PathLike[str]) -> None:
    assert report.error_lines("jotsfs: error: lost\n", []) and not report.error_lines("jotsfs: error: lost\n", ["lost"])
    assert report.sanitizer_lines(tmp_path, "a.c:3:4: runtime error: signed integer overflow")
