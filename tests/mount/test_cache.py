"""Bodies are fetched once and kept; many are fetched at a time when somebody walks through a directory."""

from __future__ import annotations

import os
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from harness.child import Program
from harness.mount import Mount
from harness.mounts import Mounts
from harness.patience import eventually
from harness.service import Service

LATENCY_MS = 80
NOTES = 200


def read_it(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def bodies(jots: Mount) -> list[Path]:
    return sorted(path for path in (jots.state / "bodies").iterdir() if path.is_file())


# --- once ---


def test_bodies_are_fetched_once(service: Service, mount: Mounts) -> None:
    service.seed(count=60)
    jots = mount(ttl=1)
    jots.sh("grep -r x . > /dev/null; true")
    assert service.count("show_note") == 60
    for _ in range(2):
        time.sleep(1.1)
        jots.sh("grep -r x . > /dev/null; cat * > /dev/null; true")
        assert service.count("show_note") == 60
        jots.remount()
    assert service.count("show_note") == 60


def test_concurrent_opens_share_one_get(service: Service, mount: Mounts) -> None:
    service.remote.create("note", "text", at=service.now() - 100)
    jots = mount()
    service.switch(latency_ms=500)
    with ExitStack() as stack, service.requests() as log:
        readers = [stack.enter_context(Program()) for _ in range(20)]
        for reader in readers:
            reader.start(read_it, str(jots / "note"))
        assert {reader.result() for reader in readers} == {b"text\n"}
    assert log.count("show_note") == 1


def test_opens_that_need_no_body_fetch_none(service: Service, mount: Mounts) -> None:
    """But for one look at how a cold body ends, which nobody waits for."""
    service.remote.create("log", "x" * 100_000, at=service.now() - 100)
    service.remote.create("note", "old", at=service.now() - 100)
    jots = mount()
    jots.sh("echo more >> log; echo new > note; stat log note > /dev/null")
    jots.settled()
    assert service.body("note") == "new"
    assert service.body("log") == "x" * 100_000 + "\nmore"
    assert service.count("show_note") <= 1  # the check before the PATCH


def test_our_own_changes_are_not_read_back(service: Service, mount: Mounts) -> None:
    service.remote.create("log", "one", at=service.now() - 100)
    jots = mount(settle=0.1)
    assert jots.read("log") == b"one\n"
    with service.requests() as log:
        jots.sh("for i in 1 2 3; do echo line $i >> log; done; echo x > new; printf 'a\\nb\\n' > other")
        jots.settled()
        assert jots.read("log") == b"one\nline 1\nline 2\nline 3\n"
        assert jots.read("new") + jots.read("other") == b"x\na\nb\n"
        jots.remount()
        assert jots.read("log") == b"one\nline 1\nline 2\nline 3\n"
    assert log.count("show_note") == 0


def test_only_what_changed_is_fetched_again(service: Service, mount: Mounts) -> None:
    service.seed(count=40)
    jots = mount(ttl=1)
    names = jots.names()
    jots.sh("cat * > /dev/null")
    service.remote.append(names[7], "more")
    service.remote.rename(names[8], "renamed")
    service.remote.create_folder("Work")
    service.remote.move(names[9], "Work")
    service.advance(5)
    time.sleep(1.1)
    with service.requests() as log:
        output = jots.sh("cat * Work/* 2> /dev/null | tail -n 100000; true")
    assert "more" in output.out
    # A rename and a move are new versions too: nothing tells that the text is the same.
    assert log.count("show_note") == 3


# --- read-ahead ---


@pytest.mark.parametrize("command", ["grep -r . . > /dev/null", "cat * > /dev/null", "cp -r . {to}"],
                         ids=["grep -r", "cat *", "cp -r"])
def test_a_cold_walk_is_ten_times_faster_than_one_get_after_the_other(service: Service, mount: Mounts, tmp_path: Path,
                                                                      command: str) -> None:
    service.seed(count=NOTES)
    service.unlimited()
    jots = mount(ttl=600)
    assert len(jots.names()) == NOTES
    service.switch(latency_ms=LATENCY_MS)
    one = min(_seconds_of_get(service) for _ in range(5))
    begun = time.monotonic()
    with service.requests() as log:
        jots.sh(command.format(to=tmp_path / "copy"), timeout_s=60)
    seconds = time.monotonic() - begun
    print(f"{seconds:.2f} s; one after the other: {one * NOTES:.2f} s")
    assert log.count("show_note") == NOTES
    # Ten times on an idle machine; the suite shares it.
    assert seconds < one * NOTES / float(os.environ.get("JOTSFS_TEST_SPEEDUP", "6"))
    assert _most_in_flight(log.all()) <= 16


def _seconds_of_get(service: Service) -> float:
    begun = time.monotonic()
    service.request("GET", "/notes?limit=1")
    return time.monotonic() - begun


def _most_in_flight(rows: list[dict]) -> int:
    events = sorted([(row["start"], 1) for row in rows] + [(row["end"], -1) for row in rows if row["end"]])
    most = now = 0
    for _, step in events:
        now += step
        most = max(most, now)
    return most


def test_single_reads_fetch_nothing_else(service: Service, mount: Mounts) -> None:
    service.seed(count=60)
    jots = mount(ttl=600)
    names = jots.names()
    with service.requests() as log:
        for name in (names[3], names[40], names[11], names[29]):
            jots.read(name)
    assert log.count("show_note") == 4


def test_a_walk_that_stops_has_cost_little(service: Service, mount: Mounts) -> None:
    service.seed(count=100)
    jots = mount(ttl=600)
    with service.requests() as log:
        jots.sh("cat $(ls | head -n 3 | tr ' ' '?') > /dev/null")
        time.sleep(0.5)
    assert log.count("show_note") <= 3 + 8


def test_a_walk_over_cached_files_asks_nothing(service: Service, mount: Mounts) -> None:
    service.seed(count=50)
    jots = mount(ttl=600)
    jots.sh("cat * > /dev/null")
    with service.requests() as log:
        jots.sh("grep -r . . > /dev/null; cat * > /dev/null")
    assert log.all() == []


# --- prefetch ---


def test_what_was_read_and_changed_is_there_before_it_is_opened(service: Service, mount: Mounts) -> None:
    service.seed(count=10)
    service.remote.create("note", "old", at=service.now() - 100)
    service.remote.create("never read", "old", at=service.now() - 100)
    jots = mount(ttl=1)
    assert jots.read("note") == b"old\n"
    service.remote.patch("note", "new", at=service.now() - 50)
    service.remote.patch("never read", "new", at=service.now() - 50)
    time.sleep(1.1)
    with service.requests() as log:
        jots.names()
        eventually(lambda: log.count("show_note"), 10, "it is fetched while the mount is in use")
        time.sleep(0.3)
        assert log.count("show_note") == 1
        assert jots.read("note") == b"new\n"
        assert log.count("show_note") == 1
    # Once only: nobody has opened it since.
    for text in ("newer", "newest"):
        service.remote.patch("note", text, at=service.now() - 20)
        time.sleep(1.1)
        jots.names()
    time.sleep(0.3)
    assert service.count("show_note") <= 3


# --- eviction ---


def test_the_cache_keeps_its_size(service: Service, mount: Mounts) -> None:
    """The least recently used goes first, unsent data never."""
    for number in range(30):
        service.remote.create(f"note {number:02}", f"{number:02}" * 5000, at=service.now() - 100)
    jots = mount(ttl=600, cache_size=100_000, settle=60)
    jots.sh("for n in note*; do cat \"$n\" > /dev/null; sleep 0.05; done")
    assert jots.status()["cache"]["bytes"] <= 100_000
    eventually(lambda: sum(path.stat().st_size for path in bodies(jots)) <= 100_000, 15, "files are removed")
    with service.requests() as log:
        jots.read("note 29")
    assert log.count("show_note") == 0
    with service.requests() as log:
        assert jots.read("note 00") == b"00" * 5000 + b"\n"
    assert log.count("show_note") == 1
    service.down()
    jots.expect_error("")
    jots.write("mine", "m" * 150_000)
    jots.sh("cat 'note 29' > /dev/null || true; cat 'note 00' > /dev/null || true")
    assert jots.read("mine") == b"m" * 150_000
    service.up()


# --- damage ---


def forget_the_boot(jots: Mount) -> None:
    """As if the machine had been restarted since the last mount."""
    with sqlite3.connect(jots.state / "state.db") as database:
        assert database.execute("update meta set value = 'another' where key = 'boot'").rowcount == 1


@pytest.mark.parametrize("damage", ["changed", "shorter", "gone"])
def test_a_body_that_a_power_loss_damaged_is_fetched_again(service: Service, mount: Mounts, damage: str) -> None:
    service.remote.create("note", "a" * 10_000, at=service.now() - 100)
    service.remote.create("other", "b" * 9_000, at=service.now() - 100)
    jots = mount(ttl=600)
    jots.expect_error("")
    jots.sh("cat * > /dev/null")
    jots.unmount()
    path = next(path for path in bodies(jots) if path.stat().st_size == 10_000)
    if damage == "gone":
        path.unlink()
    elif damage == "shorter":
        os.truncate(path, 4096)
    else:
        path.write_bytes(b"\0" * 10_000)
    forget_the_boot(jots)
    jots.remount()
    with service.requests() as log:
        assert jots.read("note") == b"a" * 10_000 + b"\n"
        assert jots.read("other") == b"b" * 9_000 + b"\n"
    assert log.count("show_note") == 1


def test_many_readers_at_once(service: Service, mount: Mounts) -> None:
    """Read-ahead, shared GETs and eviction together."""
    service.unlimited()
    for number in range(80):
        service.remote.create(f"{number}", f"text {number} " * 500, at=service.now() - 100)
    jots = mount(ttl=1, cache_size=200_000)
    with ThreadPoolExecutor(8) as pool:
        outputs = list(pool.map(lambda _: jots.sh("grep -c text * | sort", timeout_s=60).out, range(8)))
    assert len(set(outputs)) == 1 and outputs[0].count("\n") == 80
