"""Ends and beginnings: after kill -9, after a reboot, at unmount."""

from __future__ import annotations

import time
from collections.abc import Iterator

from bench import timing, work
from bench.report import Aim, Row
from bench.stage import Stage, staged

NOTES = 2000
PENDING = 1000
LOG = "log.txt"


def _lines(stage: Stage) -> int:
    return stage.service.body(LOG).count("line ")


def _kill(stage: Stage) -> Iterator[Row]:
    """With lines that the service never saw."""
    stage.service.down()
    timing.seconds(work.append_numbered, stage.jotsfs.path / LOG, PENDING)
    stage.jotsfs.mount.kill()
    stage.service.up()
    start = time.perf_counter()
    stage.jotsfs.start()
    timing.seconds(work.read, [stage.jotsfs.path / LOG])
    readable = time.perf_counter() - start
    stage.service.wait_for(lambda: _lines(stage) >= PENDING, 60)
    sent = time.perf_counter() - start
    yield Row(f"kill -9, mount again, read, {NOTES} notes", "s", {"jotsfs": readable}, against=None, aim=Aim(most=1))
    yield Row(f"  until {PENDING} pending lines are on the service", "s", {"jotsfs": sent}, against=None,
              note=f"{PENDING - _lines(stage)} lost")


def _unmount(stage: Stage) -> Iterator[Row]:
    def measure() -> float:
        stage.jotsfs.mount.remount()
        timing.seconds(work.list_all, stage.jotsfs.path)
        start = time.perf_counter()
        stage.jotsfs.mount.unmount(60)
        return time.perf_counter() - start

    yield Row("unmount until jotsfs has ended, nothing owed", "s", {"jotsfs": timing.median(measure, 3)}, against=None,
              aim=Aim(most=1))
    stage.jotsfs.mount.remount()
    timing.seconds(work.append_numbered, stage.jotsfs.path / LOG, PENDING)
    start = time.perf_counter()
    stage.jotsfs.mount.unmount(60)
    yield Row(f"  just after {PENDING} appends", "s", {"jotsfs": time.perf_counter() - start}, against=None,
              note=f"{2 * PENDING - _lines(stage)} lost")


def run() -> Iterator[Row]:
    with staged(NOTES, bodies={LOG: ""}) as stage:
        yield from _kill(stage)
        yield from _unmount(stage)
