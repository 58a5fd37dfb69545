"""Many lines into one note, until they are on the service: how soon, in how many calls, in how many bytes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

from bench import http_calls, timing, work
from bench.candidate import Candidate
from bench.report import Aim, Row
from bench.stage import Stage, staged
from harness.service import Requests

SAMPLE = 50
CALLS_AIM = {10000: 60}
LOG_LINES = 5000


def _wait_on_server(stage: Stage, note: str, lines: int) -> None:
    stage.service.wait_for(lambda: (stage.service.note(note) or {"body": ""})["body"].count("line ") == lines, 60, 0.01)


def _stream(stage: Stage, note: str, lines: int, write: Callable[[Path, int], None], name: str,
            post_s: float) -> Iterator[Row]:
    stage.service.refill()
    with stage.service.requests() as log:
        start = time.perf_counter()
        timing.seconds(write, stage.jotsfs.path / note, lines)
        _wait_on_server(stage, note, lines)
        taken = time.perf_counter() - start
    rows = [row for row in log.all() if row["klass"] != "read"]
    sent = sum(row["request_bytes"] for row in rows)
    text = len(stage.service.body(note))
    yield Row(f"{name} until on the service", "s", {"jotsfs": taken, "http": post_s * lines}, against="http",
              aim=Aim("http", least=100), faster=True,
              note=f"one POST a line, of {SAMPLE} measured; a limit of 300 a minute would make it {lines / 5:.0f} s")
    yield Row("  calls", "", {"jotsfs": len(rows), "http": lines}, against="http", faster=True,
              aim=Aim(most=CALLS_AIM[lines]) if lines in CALLS_AIM else None)
    yield Row("  bytes sent for a byte of text", "", {"jotsfs": sent / text}, against=None)


def _logger(stage: Stage) -> Row:
    def measure(candidate: Candidate) -> float:
        return timing.seconds(work.log, candidate.path / "held open.txt", LOG_LINES) / LOG_LINES * 1e6

    return Row("write of a logger that keeps its file open", "us", timing.alternate(stage.all, measure, 5),
               aim=Aim("floor", most=2))


def run() -> Iterator[Row]:
    names = ("posts.txt", "1000.txt", "10000.txt", "log.txt", "held open.txt")
    with staged(100, bodies={name: "" for name in names}, limits=True) as stage:
        post_s = http_calls.append_seconds(stage.service, stage.service.note("posts.txt")["id"], SAMPLE)
        for lines in (1000, 10000):
            yield from _stream(stage, f"{lines}.txt", lines, work.append_numbered, f"{lines} x `>>`", post_s)
        yield from _stream(stage, "log.txt", 10000, work.log_numbered, "logger, 10000 lines", post_s)
        yield _logger(stage)
