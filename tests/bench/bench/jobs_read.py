"""Reading: nothing known, known to jotsfs, known to the kernel."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from bench import http_calls, timing, work
from bench.candidate import Candidate
from bench.report import Aim, Row
from bench.stage import Stage, staged

NOTES = 200
BODY_BYTES = 2000
SAMPLE = 50
COLD_ROUNDS, COLD_S = 3, 25
BIG = "big.txt"
BIG_BYTES = 3 << 20


def _cold(stage: Stage) -> Iterator[Row]:
    """From a state that is empty: the list is read, too."""
    notes = [note["id"] for note in stage.service.notes() if note["filename"] != BIG][:SAMPLE]
    one_s = http_calls.read_seconds(stage.service, notes)
    found: list[float] = []
    counts: list[int] = []
    start = time.monotonic()
    while len(found) < COLD_ROUNDS and time.monotonic() - start < COLD_S:
        stage.jotsfs.forget()
        stage.service.refill()
        stage.jotsfs.start()
        with stage.service.requests() as log:
            found.append(timing.seconds(work.grep, stage.jotsfs.path))
        counts.append(log.count("read"))
    found.sort()
    yield Row(f"cold grep -r over {NOTES}", "s", {"jotsfs": found[len(found) // 2], "http": one_s * NOTES}, against="http",
              aim=Aim("http", least=10), faster=True, note=f"{max(counts)} reads; one GET after the other, of {SAMPLE}")


def _remounted(stage: Stage) -> Iterator[Row]:
    def measure(candidate: Candidate) -> float:
        candidate.remount()
        return timing.seconds(work.grep, candidate.path) * 1e3

    with stage.service.requests() as log:
        figures = timing.alternate(stage.all, measure, 3)
    yield Row(f"grep -r over {NOTES} after remount", "ms", figures, note=f"{log.count('show_note')} bodies read")


def _warm(stage: Stage, name: str, work_on: Callable[[Candidate], float], aim: float, rounds: int = 11) -> Row:
    for candidate in stage.all:
        work_on(candidate)
    return Row(name, "ms", timing.alternate(stage.all, lambda candidate: work_on(candidate) * 1e3, rounds),
               aim=Aim("floor", most=aim))


def _grep(candidate: Candidate) -> float:
    return timing.seconds(work.grep, candidate.path)


def _cat(names: list[str]) -> Callable[[Candidate], float]:
    """From what is behind the kernel's page cache, where there is something."""
    def measure(candidate: Candidate) -> float:
        paths = [candidate.path / name for name in names]
        if candidate.remote:
            timing.seconds(work.drop_pages, paths)
        return timing.seconds(work.read, paths)

    return measure


def run() -> Iterator[Row]:
    with staged(NOTES, body_bytes=BODY_BYTES, bodies={BIG: "thirty bytes and a newline more\n" * (BIG_BYTES // 32)}) as stage:
        names = [note["filename"] for note in stage.service.notes() if note["filename"] != BIG]
        yield from _cold(stage)
        yield from _remounted(stage)
        yield _warm(stage, f"warm grep -r over {NOTES}", _grep, 1.3)
        yield _warm(stage, f"cat of {NOTES}, not in the page cache", _cat(names), 2)
        yield _warm(stage, "cat of 3 MB, not in the page cache", _cat([BIG]), 2)
