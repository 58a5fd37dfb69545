"""How much longer everything may take: under a sanitizer or valgrind, on a slow machine."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TypeVar

FACTOR = float(os.environ.get("JOTSFS_PATIENCE", "1"))

Value = TypeVar("Value")


def patience(seconds: float) -> float:
    return seconds * FACTOR


def eventually(condition: Callable[[], Value], timeout_s: float = 10, what: str = "") -> Value:
    """The first true value of `condition()`, asked every 20 ms; AssertionError when there is none in time."""
    end = time.monotonic() + patience(timeout_s)
    while not (value := condition()):
        if time.monotonic() > end:
            raise AssertionError(f"not within {patience(timeout_s):g} s: {what or condition}")
        time.sleep(0.02)
    return value
