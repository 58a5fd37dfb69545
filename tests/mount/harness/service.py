"""The stand-in service of one test, and what was asked of it during a block."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from client import StandIn  # tests/server/client.py


class Requests:
    """Those that arrived since it was made, until `close`."""

    def __init__(self, service: StandIn) -> None:
        self._service = service
        self._since = service.last()
        self._until: int | None = None

    def close(self) -> None:
        self._until = self._service.last()

    def all(self) -> list[dict[str, Any]]:
        rows = self._service.log(self._since)
        return [row for row in rows if self._until is None or row["seq"] <= self._until]

    def count(self, what: str) -> int:
        """By class (read, write, append), method (GET, ...) or endpoint (list_notes, show_note, ...)."""
        return sum(what in (row["klass"], row["method"], row["endpoint"]) for row in self.all())

    @property
    def changes(self) -> list[str]:
        """Endpoints of the requests that change something, in order of arrival (not the probe for a read-only token)."""
        return [row["endpoint"] for row in self.all()
                if row["method"] != "GET" and not row["path"].endswith("/notes/0")]

    def __repr__(self) -> str:
        return "\n".join(f"{row['method']} {row['path']} {row['query'] or ''} -> {row['status']}" for row in self.all())


class Service(StandIn):
    @contextmanager
    def requests(self) -> Iterator[Requests]:
        """`with service.requests() as log: ...`, then `log.count("append") == 1`."""
        log = Requests(self)
        yield log
        log.close()
