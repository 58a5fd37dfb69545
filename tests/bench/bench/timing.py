"""Repetitions in alternating order, so that what disturbs the machine disturbs everybody, and their median."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

from bench.candidate import Candidate
from harness import child

TIMEOUT_S = 120.0


def _measure(function: Callable[..., Any], arguments: tuple[Any, ...]) -> float:
    start = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - start


def seconds(function: Callable[..., Any], *arguments: Any) -> float:
    """What FUNCTION takes in a process of its own, without the time to start that."""
    return child.within(TIMEOUT_S, _measure, function, arguments)


def alternate(candidates: Sequence[Candidate], measure: Callable[[Candidate], float], rounds: int) -> dict[str, float]:
    """The median of ROUNDS measurements of each candidate; who is first changes with each round."""
    found: dict[str, list[float]] = {candidate.name: [] for candidate in candidates}
    for turn in range(rounds):
        first = turn % len(candidates)
        for candidate in [*candidates[first:], *candidates[:first]]:
            found[candidate.name].append(measure(candidate))
    return {name: statistics.median(values) for name, values in found.items()}


def median(measure: Callable[[], float], rounds: int) -> float:
    return statistics.median(measure() for _ in range(rounds))
