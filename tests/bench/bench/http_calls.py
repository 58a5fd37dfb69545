"""One request after the other on a connection that stays open: what the service's own clients do at best."""

from __future__ import annotations

import http.client
import json
import time
from urllib.parse import urlsplit

from harness.service import Service


class Line:
    def __init__(self, service: Service) -> None:
        base = urlsplit(service.api)
        self._base = base.path
        self._token = service.token
        self._connection = http.client.HTTPConnection(base.netloc, timeout=20)

    def call(self, method: str, path: str, value: object = None) -> bytes:
        headers = {"Authorization": f"Bearer {self._token}"}
        if value is not None:
            headers["Content-Type"] = "application/json"
        self._connection.request(method, self._base + path, None if value is None else json.dumps(value), headers)
        reply = self._connection.getresponse()
        data = reply.read()
        assert reply.status < 300, data
        return data

    def close(self) -> None:
        self._connection.close()


def append_seconds(service: Service, note: int, calls: int) -> float:
    """One append of one line, on average over so many CALLS."""
    line = Line(service)
    start = time.perf_counter()
    for number in range(calls):
        line.call("POST", f"/notes/{note}/append", {"text": f"line {number}"})
    line.close()
    return (time.perf_counter() - start) / calls


def read_seconds(service: Service, notes: list[int]) -> float:
    """One GET of one note, on average over those in NOTES."""
    line = Line(service)
    start = time.perf_counter()
    for note in notes:
        line.call("GET", f"/notes/{note}")
    line.close()
    return (time.perf_counter() - start) / len(notes)
