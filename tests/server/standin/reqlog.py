"""The request log: one entry per API request, in order of arrival, also for those that never got a reply.

Entries are made when a request has come in and completed when it ends, so a hanging one is visible
(`end` is null). Small bodies are parsed only when the log is read.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from . import wire
from .message import Request
from .note import LONGEST_KEPT_TEXT, remembered


@dataclass(slots=True)
class Entry:
    seq: int
    start: float
    method: str
    path: str
    query: str
    klass: str
    endpoint: str | None
    token: str | None
    key: str | None
    connection: int
    request_bytes: int
    body: Any
    end: float | None = None
    status: int | None = None
    code: str | None = None
    fault: str | None = None
    replayed: bool = False
    committed: bool = False
    """Whether the endpoint ran and accepted the request (a replay does not)."""
    reply_bytes: int = 0

    def as_json(self) -> dict[str, Any]:
        shape = {name: getattr(self, name) for name in self.__slots__}
        shape["body"] = self._parsed_body()
        shape["path"] = unquote(self.path, errors="replace")
        return shape

    def _parsed_body(self) -> Any:
        if not isinstance(self.body, bytes):
            return self.body
        try:
            return wire.decode(self.body) if self.body else None
        except ValueError:
            return {"not_json": self.body.decode(errors="replace")}


class RequestLog:
    def __init__(self) -> None:
        self._entries: list[Entry] = []
        self._next = 1
        self._lock = threading.Lock()

    def open(self, request: Request, klass: str, endpoint: str | None, token: str | None,
             connection: int) -> Entry:
        body = request.body if len(request.body) <= LONGEST_KEPT_TEXT else _shortened(request.body)
        with self._lock:
            entry = Entry(self._next, time.monotonic(), request.method, request.path, request.query,
                          klass, endpoint, token, request.headers.get("idempotency-key"), connection,
                          len(request.body), body)
            self._next += 1
            self._entries.append(entry)
        return entry

    def entries(self, since: int = 0, **equal: Any) -> list[Entry]:
        """Entries with a number above `since` whose attributes equal those given."""
        with self._lock:
            first = self._entries[0].seq if self._entries else 0
            chosen = self._entries[max(0, since + 1 - first):]
        for name, value in equal.items():
            chosen = [entry for entry in chosen if getattr(entry, name) == value]
        return chosen

    def counts(self, since: int = 0) -> dict[str, dict[str, int]]:
        entries = self.entries(since)
        return {by: dict(Counter(str(getattr(entry, by)) for entry in entries))
                for by in ("klass", "method", "endpoint", "status")}

    def last(self) -> int:
        return self._next - 1

    def clear(self) -> None:
        with self._lock:
            self._entries.clear()


def _shortened(body: bytes) -> Any:
    """A large body with its long strings replaced by their digests."""
    try:
        return _shorten(wire.decode(body))
    except ValueError:
        return {"not_json": len(body)}


def _shorten(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _shorten(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_shorten(part) for part in value]
    if isinstance(value, str) and len(value) > LONGEST_KEPT_TEXT:
        return remembered(value)
    return value
