"""The end of a mount: what is owed is sent, or named and kept; the next mount, or `jotsfs flush`, takes over."""

from __future__ import annotations

import os
import re
import signal
import time
from pathlib import Path

import pytest

from harness import child, state, table
from harness.child import Program
from harness.mount import PROGRAM, Mount
from harness.mounts import Mounts
from harness.patience import eventually, patience
from harness.service import Service

NAMES = ["edited", "log", "new"]


def work(jots: Mount) -> None:
    jots.sh("for i in 1 2 3; do echo line $i >> log; done; echo new > new; sed -i 's/old/new/' edited")


def saved(service: Service) -> bool:
    return service.filenames() == NAMES and service.body("log") == "old\nline 1\nline 2\nline 3" \
        and service.body("new") == "new" and service.body("edited") == "new text"


@pytest.fixture
def jots(service: Service, mount: Mounts) -> Mount:
    service.remote.create("log", "old")
    service.remote.create("edited", "old text")
    jots = mount(settle=5)
    jots.expect_error("")
    jots.sh("cat log edited")
    return jots


@pytest.mark.parametrize("end", ["unmount", "terminate"])
def test_it_drains(service: Service, jots: Mount, end: str) -> None:
    """Settle times are cut short; the status tells that nothing is left."""
    work(jots)
    assert getattr(jots, end)() == 0
    assert saved(service)
    assert state.owed(jots.state) == 0
    assert "not sent" not in jots.log


@pytest.mark.parametrize("end", ["unmount", "terminate"])
def test_what_is_left_is_named(service: Service, jots: Mount, end: str) -> None:
    service.down()
    work(jots)
    begun = time.monotonic()
    jots.options["drain_timeout"] = 1
    jots.kill()
    jots.start()
    status = getattr(jots, end)()
    assert time.monotonic() - begun < patience(15)
    assert status == 1
    left = re.findall(r"not sent: (\w+) (\w+), \d+ bytes", jots.log)
    assert sorted(path for _, path in left) == NAMES
    assert state.owed(jots.state) == 3
    service.up()
    jots.start()
    assert sorted(row["path"] for row in jots.status()["pending"]) in (NAMES, [], ["edited", "new"], ["new"], ["edited"])
    jots.flush()
    assert saved(service)


def test_fusermount_returns_at_once(service: Service, jots: Mount) -> None:
    """The daemon drains behind it, and nobody can write to what is no longer there."""
    service.fault("latency", ms=700)
    work(jots)
    begun = time.monotonic()
    assert child.run(["fusermount3", "-u", str(jots.path)]).status == 0
    assert time.monotonic() - begun < patience(1)
    assert not jots.is_mounted and jots.is_running
    assert jots.wait_exit() == 0
    assert saved(service)


def test_a_second_sigterm_ends_it(service: Service, jots: Mount) -> None:
    service.black_hole()
    work(jots)
    jots.options["drain_timeout"] = 60
    jots.kill()
    jots.start()
    os.kill(jots.pid, signal.SIGTERM)
    eventually(lambda: not jots.is_mounted, 10, "it is unmounted")
    time.sleep(0.3)
    os.kill(jots.pid, signal.SIGTERM)
    assert jots.wait_exit(10) == 1
    service.up()
    jots.start()
    jots.flush()
    assert saved(service)


def test_files_are_still_open(service: Service, jots: Mount) -> None:
    """Unmounted under a writer: what it wrote is sent, what it writes then fails."""
    with Program() as writer:
        fd = writer.call(os.open, str(jots / "log"), os.O_WRONLY | os.O_APPEND)
        writer.call(os.write, fd, b"line 1\nhalf")
        assert jots.terminate() == 0
        with pytest.raises(OSError):
            writer.call(os.write, fd, b"late\n")
    assert service.body("log") == "old\nline 1\nhalf"


@pytest.mark.parametrize("outage", ["down", "black_hole", "hang_after"])
def test_hand_over(service: Service, mount: Mounts, jots: Mount, outage: str) -> None:
    """A new mount gets the state from one that drains, and sends what that left: once."""
    if outage == "hang_after":
        service.fault("hang_after", method="POST")
    else:
        getattr(service, outage)()
    work(jots)
    jots.options["drain_timeout"] = 60
    jots.kill()
    jots.start()
    assert child.run(["fusermount3", "-u", str(jots.path)]).status == 0
    eventually(lambda: re.search("", jots.log) is not None and not jots.is_mounted, 10, "it drains")
    time.sleep(0.3)
    assert jots.is_running
    old = jots.process
    begun = time.monotonic()
    jots.start(settle=0.1)
    assert time.monotonic() - begun < patience(5)
    assert old is not None and old.wait(10) == 1
    assert jots.read("log") == b"old\nline 1\nline 2\nline 3\n"
    service.clear_faults()
    service.release()
    service.up()
    jots.settled(40)
    assert saved(service)


def test_a_live_mount_hands_nothing_over(service: Service, mount: Mounts, jots: Mount) -> None:
    work(jots)
    second = mount.new(state=jots.state)
    output = second.start_background()
    assert output.status == 1
    assert "in use" in output.err and str(jots.pid) in output.err
    jots.flush()
    assert saved(service)


def test_flush_of_a_mount(service: Service, jots: Mount) -> None:
    work(jots)
    assert child.run([PROGRAM, "flush", str(jots.path)], env=jots.env).status == 0
    assert saved(service) and jots.status()["saved"]
    service.down()
    jots.sh("echo more >> log")
    output = child.run([PROGRAM, "flush", str(jots.path)], env=jots.env)
    assert output.status == 1 and "can't be reached" in output.err and "log" in output.out
    service.up()
    assert child.run([PROGRAM, "flush", str(jots.path)], env=jots.env, timeout_s=40).status == 0
    assert service.body("log").endswith("line 3\nmore")


def test_flush_of_a_refused_change(service: Service, jots: Mount) -> None:
    service.fault("status", status=422, code="storage_cap_exceeded", message="full", klass="append")
    jots.sh("echo more >> log")
    output = child.run([PROGRAM, "flush", str(jots.path)], env=jots.env)
    assert output.status == 1 and "refused" in output.err and "full" in output.out


@pytest.mark.parametrize("end", ["crash", "unmount"])
def test_flush_of_a_state_directory(service: Service, jots: Mount, end: str) -> None:
    service.down()
    work(jots)
    if end == "crash":
        jots.kill()
    else:
        jots.unmount()
    command = [PROGRAM, "flush", str(jots.state), "-o", "request_timeout=1,drain_timeout=3"]
    output = child.run(command, env=jots.env)
    assert output.status == 1 and "log" in output.err
    service.up()
    output = child.run(command, env=jots.env)
    assert output.status == 0, output.err
    assert saved(service)
    assert state.owed(jots.state) == 0
    before = service.last()
    assert child.run(command, env=jots.env).status == 0
    assert all(row["method"] == "GET" or row["path"].endswith("/notes/0") for row in service.log(before))


def test_flush_of_what_is_neither(jots: Mount, tmp_path: Path) -> None:
    output = child.run([PROGRAM, "flush", str(tmp_path)], env=jots.env)
    assert output.status == 1 and "neither" in output.err


@pytest.mark.parametrize("in_use", [False, True], ids=["free", "in use"])
def test_a_dead_mount(service: Service, jots: Mount, in_use: bool) -> None:
    """Mounting over it cleans it up, at once after the crash and though programs still have files open there."""
    work(jots)
    with Program() as program:
        if in_use:
            program.call(os.open, str(jots / "log"), os.O_RDONLY)
            program.call(os.chdir, str(jots.path))
        jots.stat("log")
        os.kill(jots.pid, signal.SIGKILL)
        assert jots.process is not None
        jots.process.wait()
        assert jots.is_mounted
        jots.start(settle=0.1)
        assert len([path for path in table.below(jots.home) if path == jots.path]) == 1
        jots.settled(30)
    assert saved(service)


def test_unmounted_while_offline_and_back(service: Service, jots: Mount) -> None:
    """The drain notices that the service is back."""
    jots.options["drain_timeout"] = 30
    jots.remount()
    service.down()
    work(jots)
    child.run(["fusermount3", "-u", str(jots.path)])
    time.sleep(0.5)
    service.up()
    assert jots.wait_exit(40) == 0
    assert saved(service)
