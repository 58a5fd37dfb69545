"""A service that fails in every way at once: each line is there once, and in the order of its writer."""

from __future__ import annotations

import os
import random
import time
from contextlib import ExitStack

import pytest

from harness.child import Program
from harness.mounts import Mounts
from harness.service import Service

NOTES = 5
PROCESSES = 4
LINES = int(os.environ.get("JOTSFS_STORM_LINES", "40"))
SEEDS = int(os.environ.get("JOTSFS_STORMS", "2"))


def append_lines(path: str, tag: str, count: int, seed: int) -> None:
    choice = random.Random(seed)
    for number in range(count):
        with open(path, "a") as file:
            file.write(f"{tag} {number} {'x' * choice.randrange(30)}\n")
        time.sleep(choice.random() * 0.1)


def brew(service: Service, seed: int) -> None:
    """One storm for all changes; what is hit by one fault isn't hit by another."""
    faults = [("reset_before", 0.10, {}), ("reset_after", 0.10, {}), ("status", 0.05, {"status": 503}),
              ("status", 0.05, {"status": 504, "commit": True}), ("throttle", 0.05, {"retry_after": 1}),
              ("html", 0.05, {"status": 500}), ("hang", 0.03, {}), ("hang_after", 0.03, {}),
              ("truncate", 0.05, {}), ("slow", 0.05, {"ms": 400}), ("latency", 0.2, {"ms": 60})]
    for index, (action, probability, parameters) in enumerate(faults):
        for match in ({"klass": "append"}, {"method": "POST", "path": "notes$"}):
            service.fault(action, probability=1.5 * probability, seed=seed * 1000 + index, **match, **parameters)


@pytest.mark.parametrize("seed", range(SEEDS))
@pytest.mark.parametrize("kind", ["notes", "new notes"])
def test_exactly_once_and_in_order(service: Service, mount: Mounts, seed: int, kind: str) -> None:
    service.unlimited()
    service.switch(append_separator=["always", "missing"][seed % 2], key_running=["wait", "conflict", "unavailable"][seed % 3],
                   key_errors=["final", "none"][seed % 2])
    names = [f"note {number}" for number in range(NOTES)]
    if kind == "notes":
        for name in names:
            service.remote.create(name, "begin")
    jots = mount(settle=0.2)
    jots.expect_error("")
    brew(service, seed)
    with ExitStack() as stack:
        programs = [stack.enter_context(Program()) for _ in range(NOTES * PROCESSES)]
        for number, program in enumerate(programs):
            program.start(append_lines, str(jots / names[number % NOTES]), f"p{number}", LINES, number)
        for program in programs:
            program.result(60)
    jots.settled(90)
    assert sum(rule["fired"] for rule in service.faults()) > 5
    for index, name in enumerate(names):
        lines = service.body(name).splitlines()
        if kind == "notes":
            assert lines.pop(0) == "begin"
        for number in range(index, NOTES * PROCESSES, NOTES):
            mine = [int(line.split()[1]) for line in lines if line.split()[0] == f"p{number}"]
            assert mine == list(range(LINES)), f"{name}: p{number}"
        assert len(lines) == PROCESSES * LINES
        texts = [event["text"] for event in service.history(name) if event["op"] in ("append", "create") and event["text"] != "begin"]
        assert "\n".join(texts).splitlines() == lines
        assert jots.read(name).decode().splitlines()[-len(lines):] == lines
