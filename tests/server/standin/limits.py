"""Rate limits: so many requests of a class per period, per token, on real time.

Classes are read, write and append. Fixed windows are aligned to multiples of the period (the habit of
Rails applications); the switch `rate_window` makes them slide. Refused requests cost nothing.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field

from .switches import Switches

CLASSES = ("read", "write", "append")
TIER_LIMITS = {
    "dev": {"read": 600, "write": 60, "append": 300},
    "team": {"read": 2000, "write": 200, "append": 1000},
}
PERIOD_S = 60.0


@dataclass(frozen=True)
class Limit:
    count: int
    period_s: float = PERIOD_S


@dataclass
class Window:
    """What one token has used of one class."""

    number: int = -1
    used: int = 0
    times: deque[float] = field(default_factory=deque)


@dataclass(frozen=True)
class Grant:
    allowed: bool
    limit: int
    remaining: int
    reset_in_s: float


class Limits:
    def __init__(self, switches: Switches) -> None:
        self._switches = switches
        self._changed: dict[tuple[str | None, str], Limit] = {}
        self._windows: dict[tuple[str, str], Window] = {}

    def change(self, klass: str, limit: Limit, token: str | None = None) -> None:
        """Replace the tier's limit, for one token or for all."""
        if klass not in CLASSES:
            raise ValueError(f"no rate class named {klass}")
        self._changed[(token, klass)] = limit

    def reset(self) -> None:
        """Back to the tiers' limits, with nothing used."""
        self._changed.clear()
        self._windows.clear()

    def refill(self) -> None:
        self._windows.clear()

    def limit_of(self, token: str, tier: str, klass: str) -> Limit:
        return (self._changed.get((token, klass)) or self._changed.get((None, klass))
                or Limit(TIER_LIMITS[tier][klass]))

    def take(self, token: str, tier: str, klass: str, cost: int = 1) -> Grant:
        limit = self.limit_of(token, tier, klass)
        window = self._windows.setdefault((token, klass), Window())
        now = time.time()
        if self._switches["rate_window"] == "sliding":
            return self._slide(window, limit, cost, now)
        number = int(now // limit.period_s)
        if number != window.number:
            window.number, window.used = number, 0
        allowed = window.used + cost <= limit.count
        if allowed:
            window.used += cost
        return Grant(allowed, limit.count, max(0, limit.count - window.used),
                     (number + 1) * limit.period_s - now)

    def give_back(self, token: str, klass: str, cost: int = 1) -> None:
        """Undo a `take` for a request that the switches make free."""
        window = self._windows[(token, klass)]
        window.used = max(0, window.used - cost)
        for _ in range(min(cost, len(window.times))):
            window.times.pop()

    @staticmethod
    def _slide(window: Window, limit: Limit, cost: int, now: float) -> Grant:
        while window.times and window.times[0] <= now - limit.period_s:
            window.times.popleft()
        allowed = len(window.times) + cost <= limit.count
        if allowed:
            window.times.extend([now] * cost)
        used = len(window.times)
        oldest = window.times[0] if window.times else now
        return Grant(allowed, limit.count, max(0, limit.count - used), oldest + limit.period_s - now)
