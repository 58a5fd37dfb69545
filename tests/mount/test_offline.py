"""Without the service, from seconds to days: everything is immediate, and all is sent in order afterwards."""

from __future__ import annotations

import os
import time

import pytest

from harness import state
from harness.child import Program
from harness.mount import Mount
from harness.mounts import Mounts
from harness.patience import eventually, patience
from harness.service import Service

# A call that waited for the network would take request_timeout, or 2 s for a poll.
AT_ONCE_S = 1.0
DAY_S = 24 * 3600


def at_once(jots: Mount, command: str) -> str:
    begun = time.monotonic()
    output = jots.sh(command)
    assert time.monotonic() - begun < patience(AT_ONCE_S), command
    return output.out


def work(jots: Mount, day: int) -> None:
    """What somebody does in a day: append, create, edit, rename, move, delete."""
    at_once(jots, f"for i in 1 2 3; do echo day {day} line $i >> log; done")
    at_once(jots, f"echo new {day} > new{day}; echo more >> new{day}")
    at_once(jots, f"sed -i '1s/^/{day} /' edited")
    at_once(jots, f"printf 'b {day}\\n' > rewritten")


def settle_offline(jots: Mount) -> None:
    """Until it knows: the call that finds out may wait."""
    jots.expect_error("")
    eventually(lambda: not jots.status()["online"], 20, "it knows that it is offline")


@pytest.mark.parametrize("outage", ["down", "black_hole"])
@pytest.mark.parametrize("days", [0, 1, 3])
def test_work_goes_on(service: Service, mount: Mounts, outage: str, days: int) -> None:
    """Also when jotsfs is killed meanwhile; and keys that the service has forgotten lead to no second line."""
    for name in ("log", "edited", "rewritten", "renamed", "moved", "deleted", "read"):
        service.remote.create(name, f"body of {name}")
    service.remote.create_folder("Work")
    jots = mount(settle=0.2, settle_delete=0.3)
    jots.sh("cat * > /dev/null 2>&1; true")
    getattr(service, outage)()
    jots.sh("echo first >> log")
    settle_offline(jots)
    work(jots, 0)
    at_once(jots, "mv renamed name; mv moved Work/moved; rm deleted; mkdir Later; echo x > Later/x")
    for day in range(1, days + 1):
        if state.keys(jots.state):
            jots.kill()
            state.make_older(jots.state, DAY_S)
            jots.start()
        service.advance(DAY_S)
        work(jots, day)
    assert at_once(jots, "cat read") == "body of read\n"
    shown = at_once(jots, "cat log edited rewritten name Work/moved Later/x new0")
    service.up()
    jots.settled(60)
    assert jots.sh("cat log edited rewritten name Work/moved Later/x new0").out == shown
    lines = [f"day {day} line {i}" for day in range(days + 1) for i in (1, 2, 3)]
    assert service.body("log").splitlines() == ["body of log", "first", *lines]
    assert service.body("edited") == "".join(f"{day} " for day in range(days, -1, -1)) + "body of edited"
    assert service.body("rewritten") == f"b {days}"
    assert [service.body(f"new{day}") for day in range(days + 1)] == [f"new {day}\nmore" for day in range(days + 1)]
    folders = {row["name"]: row["id"] for row in service.folders()}
    assert (service.note("moved")["folder_id"], service.note("x")["folder_id"]) == (folders["Work"], folders["Later"])
    assert "name" in service.filenames() and not {"renamed", "deleted"} & set(service.filenames())


def test_mounting_without_the_service(service: Service, mount: Mounts) -> None:
    service.remote.create("note", "old")
    service.remote.create("cold", "never read")
    jots = mount(settle=0.2)
    jots.read("note")
    jots.unmount()
    service.down()
    jots.expect_error("")
    jots.start()
    assert at_once(jots, "cat note; echo more >> note; echo cold >> cold; echo new > new; cat note new; ls") \
        == "old\nold\nmore\nnew\ncold\nnew\nnote\n"
    assert jots.errno((jots / "cold").read_bytes) == "ETIMEDOUT"
    jots.kill()
    jots.start()
    assert at_once(jots, "cat note new") == "old\nmore\nnew\n"
    jots.unmount()
    service.up()
    jots.start()
    jots.settled(30)
    assert service.body("note") == "old\nmore"
    assert service.body("cold") == "never read\ncold"
    assert service.body("new") == "new"


def test_many_files_wait(service: Service, mount: Mounts) -> None:
    """More than there are descriptors for: what waits holds none."""
    count = 400
    service.seed(count=count)
    service.unlimited()
    jots = mount(settle=0.2)
    names = jots.names()
    assert len(names) == count
    service.down()
    jots.expect_error("")
    os.system(f"prlimit --pid {jots.pid} --nofile=200:200")
    jots.sh("for f in *; do echo x >> \"$f\" || exit 1; done; for i in $(seq 100); do echo new >> new$i || exit 1; done", timeout_s=60)
    jots.sh("cat new* > /dev/null")
    jots.sh("for f in *; do echo y >> \"$f\" || exit 1; done", timeout_s=60)
    service.up()
    jots.settled(90)
    assert all(service.body(name).endswith("\nx\ny") for name in names)
    assert all(service.body(f"new{number}") == "new\ny" for number in range(1, 101))


def test_a_flapping_network(service: Service, mount: Mounts) -> None:
    service.remote.create("note", "begin")
    jots = mount()
    jots.expect_error("")
    with Program() as writer:
        writer.start(os.system, f"cd {jots.path} && for i in $(seq 60); do echo line $i >> note; sleep 0.05; done")
        for _ in range(6):
            time.sleep(0.2)
            service.down()
            time.sleep(0.3)
            service.up()
        assert writer.result(60) == 0
    jots.settled(60)
    assert service.body("note").splitlines() == ["begin", *(f"line {number}" for number in range(1, 61))]
