"""What an operation must not cost, counted and not timed; tests/bench measures."""

from __future__ import annotations

import os
from pathlib import Path

LINE = b"one line of a log\n"


def append(path: Path, count: int) -> None:
    for _ in range(count):
        fd = os.open(path, os.O_WRONLY | os.O_APPEND)
        os.write(fd, LINE)
        os.close(fd)


def bytes_read(pid: int) -> int:
    """By all read calls of the process: FUSE requests, files, sockets."""
    return int(Path(f"/proc/{pid}/io").read_text().split()[1])


def test_an_append_reads_nothing_of_a_large_cached_body(service, mount):
    service.remote.create("big.txt", "a line of the body\n" * 150000)
    m = mount()
    assert len(m.read("big.txt")) > 2_500_000
    before = bytes_read(m.pid)
    m.do(append, m / "big.txt", 200)
    assert bytes_read(m.pid) - before < 2_500_000
    assert m.read("big.txt").endswith(LINE * 200)
