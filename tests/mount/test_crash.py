"""kill -9 at any instant: every line whose write(2) returned is on the service, once and in order.

JOTSFS_KILLS is the number of random kills (60), in chains of KILLS_PER_CHAIN. What counts is what a mount with an
empty state shows afterwards. A kill at which nothing was owed proves nothing and fails the test.
"""

from __future__ import annotations

import os
import random
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from harness import processes, state
from harness.child import Program
from harness.mount import Mount
from harness.mounts import Mounts
from harness.patience import eventually
from harness.service import Service

KILLS = int(os.environ.get("JOTSFS_KILLS", "60"))
KILLS_PER_CHAIN = 5
CHAINS = max(1, KILLS // KILLS_PER_CHAIN)
RUNS_AT_MOST_S = 0.4
SHARED = ["one", "two"]
WRITERS = 2
LINES_PER_NEW_NOTE = 4

# What goes wrong on the way while we are killed; "hang_after" and "reset_after" are committed and not answered.
FAULTS: list[dict[str, object] | None] = [
    None,
    {"action": "latency", "ms": 120},
    {"action": "hang_after", "probability": 0.5},
    {"action": "reset_after", "probability": 0.3},
    {"action": "slow", "ms": 250},
    {"action": "hang", "probability": 0.3},
]


def append_lines(directory: str, name: str, tag: str, seed: int) -> dict[str, int]:
    """Until that fails; how many writes returned, for each note."""
    choice = random.Random(seed)
    done: dict[str, int] = {}
    note = name
    for number in range(10**6):
        if name.startswith("new"):
            note = f"{name}.{number // LINES_PER_NEW_NOTE}"
        try:
            fd = os.open(f"{directory}/{note}", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            os.write(fd, f"{tag} {done.get(note, 0)} {'x' * choice.randrange(40)}\n".encode())
            done[note] = done.get(note, 0) + 1
            os.close(fd)
        except OSError:
            return done
        time.sleep(choice.random() * 0.01)
    return done


def crash(jots: Mount) -> None:
    """SIGKILL; the dead mount stays, so that who uses it gets ENOTCONN, and the next start cleans it up."""
    processes.end(jots.pid)
    assert jots.process is not None
    jots.process.wait()
    jots.process = None


Accepted = list[tuple[str, str, int]]


@contextmanager
def writers(jots: Mount, round_number: int, seed: int, accepted: Accepted) -> Iterator[None]:
    """Run during the block, in which the mount dies; what was ACCEPTED: note, tag, number of lines."""
    names = [(name, f"{round_number}.{writer}") for name in SHARED for writer in range(WRITERS)]
    names.append((f"new{round_number}", f"{round_number}.n"))
    with ExitStack() as stack:
        programs = [(tag, stack.enter_context(Program())) for _, tag in names]
        for index, ((name, tag), (_, program)) in enumerate(zip(names, programs, strict=True)):
            program.start(append_lines, str(jots.path), name, tag, seed * 100 + index)
        yield
        for tag, program in programs:
            accepted += [(note, tag, count) for note, count in program.result().items()]


def check(bodies: dict[str, str], accepted: Accepted) -> None:
    for note, tag, count in accepted:
        lines = bodies.get(note, "").splitlines()
        numbers = [int(line.split()[1]) for line in lines if line.split()[0] == tag]
        # One more: the write that was under way when the mount died.
        assert numbers in (list(range(count)), list(range(count + 1))), f"{note}, {tag}: {count} were accepted"
    for note, body in bodies.items():
        assert all(re.fullmatch(r"\d+\.[\dn] \d+ x*", line) for line in body.splitlines()), note
        rounds = [int(line.split(".")[0]) for line in body.splitlines()]
        assert rounds == sorted(rounds), note


@pytest.mark.parametrize("seed", range(CHAINS))
def test_at_random_instants(service: Service, mount: Mounts, seed: int) -> None:
    choice = random.Random(seed)
    service.unlimited()
    service.switch(append_separator=choice.choice(["always", "missing"]),
                   key_running=choice.choice(["wait", "conflict", "unavailable"]))
    for name in SHARED:
        service.remote.create(name, "")
    jots = mount(settle=0.1)
    jots.expect_error("")
    accepted: Accepted = []
    for round_number in range(KILLS_PER_CHAIN):
        fault = choice.choice(FAULTS)
        if fault:
            service.fault(path="append|notes$", **fault)
        with writers(jots, round_number, seed, accepted):
            time.sleep(choice.random() * RUNS_AT_MOST_S)
            crash(jots)
        service.clear_faults()
        service.release()
        assert sum(count for _, tag, count in accepted if tag.startswith(f"{round_number}.")) == 0 \
            or state.owed(jots.state) > 0, "nothing was pending at the kill"
        jots.start()
    jots.settled(60)
    assert sum(count for _, _, count in accepted) > 0
    fresh = mount()
    bodies = {name: fresh.read(name).decode() for name in fresh.names()}
    assert bodies == {name: service.body(name) + "\n" for name in service.filenames() if service.body(name)} \
        | {name: "" for name in service.filenames() if not service.body(name)}
    check(bodies, accepted)


def in_doubt(service: Service, jots: Mount, command: str, fault: str = "hang_after") -> None:
    """COMMAND's call arrives and is not answered; the mount dies then."""
    jots.expect_error("")
    service.fault(fault, method="POST")
    jots.sh(command)
    eventually(lambda: service.log(method="POST"), 10, "it is sent")
    jots.kill()
    service.clear_faults()
    service.release()
    assert len(state.keys(jots.state)) == 1


@pytest.mark.parametrize("command", ["echo x >> note", "echo x >> new", "printf 'a\\nb\\n' > new"],
                         ids=["append", "creating append", "create"])
def test_the_service_is_down_at_the_next_start(service: Service, mount: Mounts, command: str) -> None:
    """What can't be sent now may have been sent by the former run: its key stays."""
    service.remote.create("note", "old")
    jots = mount(settle=0.1)
    in_doubt(service, jots, command)
    keys = state.keys(jots.state)
    before = {name: service.body(name) for name in service.filenames()}
    service.down()
    jots.start()
    jots.sh("sleep 2.5; echo later >> other")
    jots.kill()
    assert state.keys(jots.state) == keys
    jots.start()
    service.up()
    jots.settled(60)
    assert {name: service.body(name) for name in service.filenames()} == before | {"other": "later"}


@pytest.mark.parametrize("running", ["wait", "conflict", "unavailable"])
def test_the_service_still_works_on_it(service: Service, mount: Mounts, running: str) -> None:
    """A repetition that comes while the first is at work doesn't lead to a second line (API.md C4)."""
    service.switch(key_running=running)
    service.remote.create("note", "old")
    jots = mount(request_timeout=0.2)
    jots.expect_error("")
    service.fault("slow", klass="append", count=1, ms=3000)
    jots.sh("echo x >> note")
    eventually(lambda: service.log(klass="append"), 10, "it is sent")
    jots.kill()
    jots.start()
    jots.sh("echo y >> note")
    jots.settled(60)
    time.sleep(1)
    assert service.body("note") == "old\nx\ny"


def test_a_request_of_the_last_run_waits_for_its_time(service: Service, mount: Mounts) -> None:
    """It may still be under way: not before request_timeout is over, and then under its key."""
    service.remote.create("note", "old")
    jots = mount(request_timeout=3)
    in_doubt(service, jots, "echo x >> note", "hang")
    sent = service.log(klass="append")[-1]["start"]
    jots.start()
    jots.settled(60)
    rows = service.log(klass="append")
    assert len(rows) == 2 and rows[0]["key"] == rows[1]["key"]
    assert rows[1]["start"] - sent >= 2.9
    assert service.body("note") == "old\nx"


DAY_S = 24 * 3600


@pytest.mark.parametrize("done", [True, False], ids=["done", "not done"])
@pytest.mark.parametrize("old", ["old", "x", "x\nother"], ids=["other lines", "the same line", "the same line inside"])
def test_keys_older_than_23_hours(service: Service, mount: Mounts, done: bool, old: str) -> None:
    """The service has forgotten the key: the note tells. Equal lines that were there before don't count."""
    service.remote.create("note", old)
    jots = mount()
    jots.expect_error("")
    service.fault("hang_after" if done else "hang", klass="append")
    jots.sh("echo x >> note")
    eventually(lambda: state.keys(jots.state) and service.log(klass="append"), 10, "it is sent")
    jots.kill()
    service.clear_faults()
    service.release()
    state.make_older(jots.state, DAY_S)
    service.advance(DAY_S)
    service.forget_keys()
    jots.start()
    jots.settled(30)
    assert service.body("note") == f"{old}\nx"
    assert jots.read("note") == f"{old}\nx\n".encode()
    jots.sh("echo y >> note")
    jots.settled()
    assert service.body("note") == f"{old}\nx\ny"


@pytest.mark.parametrize("action", ["garbage", "truncate", "empty"])
def test_yes_without_a_receipt(service: Service, mount: Mounts, action: str) -> None:
    """2xx that doesn't tell what is there (API.md C29), every time: the note tells."""
    service.remote.create("note", "old")
    jots = mount()
    jots.expect_error("")
    if action == "empty":
        service.switch(append_codes="204")
    else:
        service.fault(action, klass="append")
    jots.sh("echo x >> note; sleep 0.1; echo y >> note")
    jots.settled(30)
    assert service.body("note") == "old\nx\ny"
    assert len(service.history("note", op="append")) <= 2
    assert jots.read("note") == b"old\nx\ny\n"
