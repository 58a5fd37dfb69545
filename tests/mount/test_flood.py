"""Many appends cost few calls and few bytes, whatever the size of the note; none is lost when the budget is spent."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import pytest

from harness.child import Program
from harness.mount import Mount
from harness.mounts import Mounts
from harness.patience import eventually, patience
from harness.service import Service

FLOOD = int(os.environ.get("JOTSFS_FLOOD", "10000"))
MEBIBYTE = 1 << 20


def append_each(path: str, count: int, pause_s: float = 0) -> float:
    """One open, write, close a line; when the last one returned."""
    for number in range(count):
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        os.write(fd, b"line %d\n" % number)
        os.close(fd)
        if pause_s:
            time.sleep(pause_s)
    return time.monotonic()


def lines_of(service: Service, name: str) -> list[str]:
    note = service.note(name)
    return note["body"].splitlines() if note else []


@pytest.mark.parametrize("kind", ["a note", "a new note"])
def test_ten_thousand_lines(service: Service, mount: Mounts, kind: str) -> None:
    """Under Dev limits: all there within 10 s of the last write, in at most 60 append calls."""
    service.switch(latency_ms=80)
    if kind == "a note":
        service.remote.create("note", "begin")
    jots = mount()
    wanted = (["begin"] if kind == "a note" else []) + [f"line {number}" for number in range(FLOOD)]
    with Program() as writer, service.requests() as log:
        writer.start(append_each, str(jots / "note"), FLOOD)
        ended = writer.result(120)
        eventually(lambda: len(lines_of(service, "note")) >= len(wanted), 10, "all lines are on the service")
        assert time.monotonic() - ended <= patience(10)
    assert lines_of(service, "note") == wanted
    assert log.count("append") <= 60
    assert set(log.changes) <= {"append", "create_note"}
    assert not [row for row in log.all() if row["status"] == 429]


def test_group_commit(service: Service, mount: Mounts) -> None:
    """The first append leaves at once; all that comes while it is under way forms the next."""
    service.remote.create("note", "begin", at="2026-01-01T00:00:00Z")
    jots = mount()
    jots.read("note")
    service.fault("latency", klass="append", ms=1500)
    with service.requests() as log:
        jots.sh("echo first >> note; sleep 0.3; for i in $(seq 40); do echo $i >> note; done")
        jots.settled()
    texts = [event["text"] for event in service.history("note", op="append")]
    assert texts == ["first", "\n".join(str(number) for number in range(1, 41))]
    assert log.changes == ["append", "append"]


def test_a_call_is_bounded_and_cut_at_line_ends(service: Service, mount: Mounts) -> None:
    service.remote.create("note", "begin")
    jots = mount()
    text = "".join(f"{number:05} {'x' * 90}\n" for number in range(15000))
    with service.requests() as log:
        jots.sh("cat >> note", data=text.encode())
        jots.settled(40)
    assert service.body("note") + "\n" == "begin\n" + text
    assert set(log.changes) == {"append"}
    rows = [row for row in log.all() if row["endpoint"] == "append"]
    assert max(row["request_bytes"] for row in rows) <= 300 * 1024
    assert len(rows) <= 12
    # Those of a size that the history keeps as text.
    for event in service.history("note", op="append"):
        if "text" in event:
            assert all(len(line) == 96 for line in event["text"].splitlines())


def test_a_note_that_floods_starves_nobody(service: Service, mount: Mounts) -> None:
    service.switch(latency_ms=40)
    for name in ("flood", *"abcde"):
        service.remote.create(name, "begin")
    jots = mount()
    with Program() as writer:
        writer.start(append_each, str(jots / "flood"), 2000, 0.001)
        time.sleep(0.3)
        for name in "abcde":
            jots.sh(f"echo x >> {name}")
        eventually(lambda: all(lines_of(service, name) == ["begin", "x"] for name in "abcde"), 10, "the others are saved")
        assert not writer.answered(), "the flood was over too soon to prove anything"
        writer.result(60)
    jots.settled()
    assert len(lines_of(service, "flood")) == 2001


def test_an_empty_bucket(service: Service, mount: Mounts) -> None:
    """It sends nothing, loses nothing, and serves the oldest first."""
    names = [f"n{number:02}" for number in range(12)]
    for name in names:
        service.remote.create(name, "begin")
    service.limit("append", 4, period_s=5)
    jots = mount()
    with service.requests() as log:
        for number, name in enumerate(names):
            jots.sh(f"for i in 1 2 3; do echo {number}.$i >> {name}; done")
        jots.settled(60)
    rows = [row for row in log.all() if row["endpoint"] == "append"]
    assert sum(row["status"] == 429 for row in rows) <= 3
    for number, name in enumerate(names):
        assert lines_of(service, name) == ["begin", *(f"{number}.{i}" for i in (1, 2, 3))]
    paths = [row["path"] for row in rows if row["status"] == 200]
    first = [int(path.split("/")[-2]) for path in dict.fromkeys(paths)]
    ids = [service.note(name)["id"] for name in names]
    # What may leave together goes over several connections.
    assert all(abs(first.index(note) - ids.index(note)) < 4 for note in ids)
    # The first notes may need two calls; what waited for budget went in one.
    assert len(paths) <= len(names) + 4


@pytest.mark.parametrize("held", [False, True], ids=["open and close", "held open"])
def test_fifty_appends_to_a_large_note(service: Service, mount: Mounts, held: bool) -> None:
    """The bytes sent are those appended; nothing is read, though the note was never read before."""
    body = "0123456789abcde\n" * (3 * MEBIBYTE // 16 - 64)
    service.remote.create("note", body[:-1])
    jots = mount()
    with Program() as writer, service.requests() as log:
        if held:
            fd = writer.call(os.open, str(jots / "note"), os.O_WRONLY | os.O_APPEND)
            for number in range(50):
                writer.call(os.write, fd, b"line %d\n" % number)
                time.sleep(0.02)
            writer.call(os.close, fd)
        else:
            writer.call(append_each, str(jots / "note"), 50, 0.02)
        jots.settled()
    assert service.body("note") == body + "\n".join(f"line {number}" for number in range(50))
    rows = [row for row in log.all() if row["endpoint"] == "append"]
    assert set(log.changes) == {"append"}
    assert sum(row["request_bytes"] for row in rows) <= 50 * 10 + len(rows) * 600
    assert log.count("show_note") == 0


# --- system calls ---

STORAGE = {"open", "openat", "creat", "pread64", "preadv", "pwrite64", "pwritev", "write", "fsync", "fdatasync", "sync_file_range",
           "ftruncate", "unlink", "unlinkat", "rename", "renameat", "mmap", "fstat", "newfstatat", "lseek", "read"}


def traced(jots: Mount, tmp_path: Path, name: str, count: int) -> Counter[str]:
    """What the threads that serve the mount call while COUNT lines are appended to NAME."""
    fuse = next(fd for fd in os.listdir(f"/proc/{jots.pid}/fd") if os.readlink(f"/proc/{jots.pid}/fd/{fd}") == "/dev/fuse")
    out = tmp_path / f"trace {name}"
    tracer = subprocess.Popen(["strace", "-ff", "-qq", "-o", str(out), "-p", str(jots.pid)], stderr=subprocess.PIPE)
    try:
        tasks = len(os.listdir(f"/proc/{jots.pid}/task"))
        eventually(lambda: len(list(tmp_path.glob(f"trace {name}.*"))) >= tasks, 10, "strace is attached")
        jots.do(append_each, str(jots / name), count)
    finally:
        tracer.terminate()
        tracer.wait()
    calls: Counter[str] = Counter()
    for path in tmp_path.glob(f"trace {name}.*"):
        text = path.read_text(errors="replace")
        if f"writev({fuse}," not in text and f"splice({fuse}," not in text:
            continue
        for line in text.splitlines():
            match = re.match(r"(\w+)\((\d*)", line)
            if match and match[1] in STORAGE and match[2] != fuse:
                calls[match[1]] += 1
    return calls


def test_system_calls_do_not_depend_on_the_size(service: Service, mount: Mounts, tmp_path: Path) -> None:
    """open, write, close: one positioned write, and no fsync, on a 1 KB note as on one of 3 MB."""
    count = 50
    service.remote.create("small", "x" * 1000)
    service.remote.create("large", ("x" * 1000 + "\n") * 3000)
    service.remote.create("warm", "x")
    jots = mount(ttl=60)
    jots.expect_error("")
    service.fault("hang", klass="append")
    jots.sh("echo x >> warm")  # SQLite's first transaction is no measure
    small, large = (traced(jots, tmp_path, name, count) for name in ("small", "large"))
    service.clear_faults()
    service.release()
    assert small["fsync"] + small["fdatasync"] + large["fsync"] + large["fdatasync"] == 0
    assert small["pwritev"] == large["pwritev"] == count
    assert abs(sum(small.values()) - sum(large.values())) <= 10, (small, large)
    assert sum(large.values()) <= 2 * count + 40, large
    jots.settled(40)
