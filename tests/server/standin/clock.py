"""The server's clock: real time plus what tests have advanced it by.

It dates notes, the `Date` header and the 24 hours of idempotency keys. Rate windows do not use it: they
run on real time, so that advancing the clock by a day never refills a bucket by accident.
"""

from __future__ import annotations

import time
from functools import lru_cache

SECOND = 1_000_000


class Clock:
    def __init__(self) -> None:
        self._offset_us = 0
        self._frozen_us: int | None = None

    def now_us(self) -> int:
        if self._frozen_us is not None:
            return self._frozen_us
        return time.time_ns() // 1000 + self._offset_us

    def advance(self, seconds: float) -> None:
        if self._frozen_us is not None:
            self._frozen_us += int(seconds * SECOND)
        self._offset_us += int(seconds * SECOND)

    def freeze(self) -> None:
        self._frozen_us = self.now_us()

    def resume(self) -> None:
        self._frozen_us = None

    def reset(self) -> None:
        self._offset_us, self._frozen_us = 0, None

    def http_date(self, ahead_s: float = 0) -> str:
        return _http_date(int(self.now_us() / SECOND + ahead_s))


@lru_cache(maxsize=64)
def _http_date(epoch: int) -> str:
    return time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(epoch))
