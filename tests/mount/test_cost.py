"""What an operation must not cost, counted and not timed; tests/bench measures."""

from __future__ import annotations

import os
from pathlib import Path

from harness.patience import eventually

LINE = b"one line of a log\n"


def append(path: Path, count: int) -> None:
    for _ in range(count):
        fd = os.open(path, os.O_WRONLY | os.O_APPEND)
        os.write(fd, LINE)
        os.close(fd)


def io_count(pid: int, name: str) -> int:
    """Of the process: FUSE requests, files, sockets."""
    return next(int(line.split()[1]) for line in Path(f"/proc/{pid}/io").read_text().splitlines()
                if line.startswith(name + ":"))


def test_an_append_reads_nothing_of_a_large_cached_body(service, mount):
    service.remote.create("big.txt", "a line of the body\n" * 150000, at=service.now() - 100)
    m = mount()
    assert len(m.read("big.txt")) > 2_500_000
    before = io_count(m.pid, "rchar")
    m.do(append, m / "big.txt", 200)
    assert io_count(m.pid, "rchar") - before < 2_500_000
    assert m.read("big.txt").endswith(LINE * 200)


def test_an_append_costs_four_requests_of_the_kernel(service, mount):
    """OPEN, WRITE, FLUSH, RELEASE, each one read(2); no GETXATTR (fs/wire.c)."""
    service.remote.create("log.txt", "first")
    m = mount()
    m.do(append, m / "log.txt", 10)
    before = io_count(m.pid, "syscr")
    m.do(append, m / "log.txt", 500)
    assert io_count(m.pid, "syscr") - before < 4 * 500 + 200


def test_a_write_takes_set_id_bits_away(service, mount):
    """Which the kernel leaves to us, and therefore doesn't ask about them at every write."""
    service.remote.create("log.txt", "first")
    m = mount()
    for write in (append, lambda path, _: os.truncate(path, 2), lambda path, _: path.write_bytes(b"all new\n")):
        m.do(os.chmod, m / "log.txt", 0o6755)
        assert m.stat("log.txt").st_mode & 0o7777 == 0o6755
        m.do(write, m / "log.txt", 1)
        eventually(lambda: m.stat("log.txt").st_mode & 0o7777 == 0o755)
