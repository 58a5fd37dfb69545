"""What must not grow with the note or with the account: an append, and what a listing and the memory cost a note."""

from __future__ import annotations

import os
from collections.abc import Iterator

from bench import timing, work
from bench.candidate import Candidate
from bench.report import Aim, Row
from bench.stage import Stage, staged

SIZES = {"1 KB": 1 << 10, "100 KB": 100 << 10, "3 MB": (3 << 20) - (256 << 10)}
ACCOUNTS = [100, 2000, 10000] + ([50000] if os.environ.get("BENCH_LARGE") else [])
MEMORY_AIM_MB = {10000: 30, 50000: 80}
APPENDS = 100
ROUNDS = 21


def _name(size: str) -> str:
    return f"log {size}.txt"


def _body(size: int) -> str:
    return ("a line of a log as such lines are\n" * (size // 34 + 1))[:size]


def _append(stage: Stage, notes: int, size: str) -> Row:
    def measure(candidate: Candidate) -> float:
        return timing.seconds(work.append, candidate.path / _name(size), APPENDS) / APPENDS * 1e6

    figures = timing.alternate(stage.all, measure, ROUNDS)
    return Row(f"append to {size}, {notes} notes", "us", figures, aim=Aim("floor", most=2))


def _listing(stage: Stage, notes: int) -> Row:
    def measure(candidate: Candidate) -> float:
        candidate.remount()
        return timing.seconds(work.list_all, candidate.path) * 1e3

    figures = timing.alternate([*stage.all, stage.floor_x], measure, 5)
    return Row(f"ls -lR of {notes} after remount", "ms", figures, against="floor-x", aim=Aim("floor-x", most=2),
               note=f"{figures['jotsfs'] / figures['floor']:.1f} of a floor that has no extended attributes")


def _memory(stage: Stage, notes: int) -> Row:
    aim = Aim(most=MEMORY_AIM_MB[notes]) if notes in MEMORY_AIM_MB else None
    return Row(f"memory, {notes} notes all listed", "MB", {"jotsfs": stage.jotsfs.memory_bytes / 1e6}, against=None,
               aim=aim)


def run() -> Iterator[Row]:
    bodies = {_name(size): _body(count) for size, count in SIZES.items()}
    for notes in ACCOUNTS:
        with staged(notes, folders=10, bodies=bodies) as stage:
            for size in SIZES:
                yield _append(stage, notes, size)
            if notes >= 2000:
                yield _listing(stage, notes)
                yield _memory(stage, notes)
