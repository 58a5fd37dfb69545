"""The API budget is spent as if each request cost money, and nobody fails for want of it."""

from __future__ import annotations

import ctypes
import os
import re
import signal
import threading
import time
from pathlib import Path

import pytest

from harness.child import Program
from harness.mounts import Mounts
from harness.patience import patience
from harness.service import Service

CACHED_WITHIN_S = 2.0


def read_it(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def throttled(service: Service, since: int = 0) -> int:
    return len(service.log(since, status=429))


# --- waiting instead of failing ---


def test_a_walk_with_a_small_budget_ends_by_waiting(service: Service, mount: Mounts) -> None:
    service.seed(count=60)
    jots = mount(ttl=5)
    jots.expect_error("")
    service.limit("read", 20, 10)
    output = jots.sh("grep -rc . . | wc -l", timeout_s=150)
    assert output.out.strip() == "60"
    assert output.err == ""
    assert throttled(service) <= 3


def test_a_reader_goes_before_read_ahead(service: Service, mount: Mounts) -> None:
    service.seed(count=120)
    service.remote.create_folder("Work")
    service.remote.create("urgent", "now", folder="Work", at=service.now() - 100)
    jots = mount(ttl=600)
    service.switch(latency_ms=150)
    with Program() as walker:
        walker.start(_walk, str(jots.path))
        time.sleep(1.0)
        begun = time.monotonic()
        assert jots.read("Work/urgent") == b"now\n"
        assert time.monotonic() - begun < patience(1.5)
        assert not walker.answered()
        walker.result(60)


def _walk(path: str) -> None:
    for entry in sorted(os.listdir(path)):
        if os.path.isfile(os.path.join(path, entry)):
            read_it(os.path.join(path, entry))


def test_read_ahead_leaves_budget_for_others(service: Service, mount: Mounts) -> None:
    """Nothing is fetched ahead of its reader any more when calls wait for budget."""
    service.switch(rate_window="sliding")
    service.seed(count=60)
    jots = mount(ttl=600)
    service.limit("read", 30, 30)
    names = jots.names()
    with service.requests() as log:
        with Program() as walker:
            walker.start(_walk, str(jots.path))
            time.sleep(3)
            walker.signal(signal.SIGKILL)
        time.sleep(0.5)
    assert log.count("show_note") <= 32
    assert len(names) == 60


def test_ttl_stretches_as_the_window_empties(service: Service, mount: Mounts) -> None:
    service.seed(count=10)
    jots = mount(ttl=1)
    jots.sh("cat * > /dev/null")
    service.limit("read", 100, 60)
    for _ in range(74):
        service.request("GET", "/notes?limit=1")
    jots.refresh()
    with service.requests() as log:
        jots.sh("end=$((SECONDS + 5)); while [ $SECONDS -lt $end ]; do cat * > /dev/null; done", timeout_s=60)
    assert log.count("read") <= 2
    assert throttled(service) == 0


def test_others_use_the_same_token(service: Service, mount: Mounts) -> None:
    service.seed(count=30)
    service.limit("read", 40, 6)
    jots = mount(ttl=1)
    jots.expect_error("")
    stop = threading.Event()

    def other() -> None:
        while not stop.is_set():
            service.request("GET", "/notes?limit=1")
            time.sleep(0.25)

    thread = threading.Thread(target=other)
    thread.start()
    try:
        assert jots.sh("cat * | wc -l; ls | wc -l", timeout_s=120).lines[1].strip() == "30"
    finally:
        stop.set()
        thread.join()
    ours = [row for row in service.log(0, status=429) if "limit=1" not in (row["query"] or "")]
    assert len(ours) <= 4


def test_a_teams_limits_are_learned(mount: Mounts, tmp_path: Path) -> None:
    with Service(tier="team") as service:
        service.seed(count=50)
        jots = mount.new(service=service)
        jots.start()
        jots.sh("cat * > /dev/null")
        jots.sh("echo x >> new; echo y > other")
        jots.flush()
        budget = jots.status()["budget"]
        assert budget["read"]["limit"] == 2000
        assert {budget["write"]["limit"], budget["append"]["limit"]} & {200, 1000}
        jots.unmount()


# --- a service that does not answer ---


def test_what_is_cached_answers_in_time(service: Service, mount: Mounts) -> None:
    """With a black-holed server, also right after a mount."""
    service.seed(count=20)
    jots = mount(ttl=1, drain_timeout=1, request_timeout=30)
    jots.expect_error("")
    jots.sh("cat * > /dev/null")
    service.black_hole()
    time.sleep(1.2)
    for command in ("cat * > /dev/null", "ls -l > /dev/null", "stat * > /dev/null", "ls nothing 2> /dev/null; true"):
        for _ in range(2):
            begun = time.monotonic()
            jots.sh(command, timeout_s=10)
            assert time.monotonic() - begun < patience(CACHED_WITHIN_S + 1), command
    jots.terminate()
    begun = time.monotonic()
    jots.remount()
    assert time.monotonic() - begun < patience(2 * CACHED_WITHIN_S + 1)
    begun = time.monotonic()
    jots.sh("cat * > /dev/null; ls -l > /dev/null", timeout_s=10)
    assert time.monotonic() - begun < patience(2 * CACHED_WITHIN_S + 1)
    service.up()


def test_df_never_waits(service: Service, mount: Mounts) -> None:
    service.seed(count=5)
    jots = mount(ttl=1, drain_timeout=1)
    jots.expect_error("")
    jots.names()
    service.black_hole()
    time.sleep(1.2)
    with service.requests() as log:
        begun = time.monotonic()
        jots.sh("for i in $(seq 50); do df . > /dev/null; stat -f . > /dev/null; done", timeout_s=20)
        assert time.monotonic() - begun < patience(10)
    assert log.count("read") <= 3  # cd and stat look for news
    service.up()


def _writable_cgroup() -> Path | None:
    mounts = Path("/proc/self/mounts").read_text()
    found = re.search(r"^\S+ (\S+) cgroup2 (\S+)", mounts, re.MULTILINE)
    if not found or "ro" in found[2].split(","):
        return None
    group = Path(found[1]) / f"jotsfs-test-{os.getpid()}"
    try:
        group.mkdir()
        (group / "cgroup.freeze").read_text()
    except OSError:
        return None
    return group


def test_the_freezer_works_while_the_service_hangs(service: Service, mount: Mounts) -> None:
    """A laptop must be able to suspend (LESSONS.md R16)."""
    group = _writable_cgroup()
    if group is None:
        pytest.skip("no writable cgroup2")
    try:
        for number in range(5):
            service.remote.create(f"cold {number}", "x", at=service.now() - 100)
        jots = mount(ttl=1, drain_timeout=1, request_timeout=8)
        jots.expect_error("")
        jots.names()
        service.black_hole()
        readers = [Program() for _ in range(5)]
        try:
            for number, reader in enumerate(readers):
                (group / "cgroup.procs").write_text(str(reader.pid))
                reader.start(read_it, str(jots / f"cold {number}"))
            time.sleep(1)
            (group / "cgroup.freeze").write_text("1")
            end = time.monotonic() + 15
            while "frozen 1" not in (group / "cgroup.events").read_text():
                assert time.monotonic() < end, "not frozen within 15 s"
                time.sleep(0.1)
            (group / "cgroup.freeze").write_text("0")
        finally:
            (group / "cgroup.freeze").write_text("0")
            for reader in readers:
                reader.close()
        service.up()
    finally:
        group.rmdir()


# --- signals that are no reason to stop ---


def _open_under_signals(path: str, number: int) -> float:
    """Opens and reads PATH while the signal arrives every few milliseconds; how many seconds that took."""
    libc = ctypes.CDLL(None, use_errno=True)  # Python's own calls would be repeated after EINTR
    signal.signal(number, lambda *_: None)
    signal.siginterrupt(number, False)  # SA_RESTART
    begun = time.monotonic()
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        while True:
            time.sleep(0.003)
            os.kill(parent, number)
    try:
        fd = libc.open(path.encode(), os.O_RDONLY)
        assert fd >= 0, os.strerror(ctypes.get_errno())
        buffer = ctypes.create_string_buffer(100)
        assert libc.read(fd, buffer, 100) == 5, os.strerror(ctypes.get_errno())
        assert buffer.value == b"text\n"
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    return time.monotonic() - begun


@pytest.mark.parametrize("number", [signal.SIGALRM, signal.SIGCHLD, signal.SIGURG], ids=lambda number: number.name)
def test_signals_that_never_make_open_fail(service: Service, mount: Mounts, number: signal.Signals) -> None:
    service.remote.create("cold", "text", at=service.now() - 100)
    jots = mount()
    service.fault("latency", ms=700, method="GET", path=r"/notes/\d+")
    assert jots.do(_open_under_signals, str(jots / "cold"), number) > 0.6
