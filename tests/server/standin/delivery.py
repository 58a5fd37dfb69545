"""How a reply gets to the client: whole, or maimed as a fault rule says.

`deliver` returns whether the connection may go on.
"""

from __future__ import annotations

import gzip

from .faults import Rule
from .front import Connection
from .message import Reply, Request
from .switches import Switches

GZIP_ABOVE = 256
CHUNK = 16 * 1024
HUGE_BYTES = 64 * 1024 * 1024


def deliver(connection: Connection, request: Request, reply: Reply, rule: Rule | None,
            switches: Switches, date: str) -> bool:
    close = not request.keep_alive or connection.served >= switches["keepalive_requests"]
    if (switches["gzip"] == "on" and len(reply.body) > GZIP_ABOVE
            and "gzip" in request.headers.get("accept-encoding", "")):
        reply = reply.copy()
        reply.body = gzip.compress(reply.body, 1)
        reply.headers["Content-Encoding"] = "gzip"
    action = rule.action if rule else None
    if action == "truncate":
        return _truncated(connection, reply, rule, date)
    if action == "huge":
        return _huge(connection, reply, rule, date)
    chunked = switches["framing"] == "chunked" and bool(reply.body)
    head = reply.head(date, close, chunked)
    body = b"" if request.method == "HEAD" else _chunks(reply.body) if chunked else reply.body
    if action == "drip":
        _dripped(connection, head + body, rule)
    elif len(body) > CHUNK:
        connection.send(head)
        connection.send(body)
    else:
        connection.send(head + body)
    return not close


def _chunks(body: bytes) -> bytes:
    parts = []
    for start in range(0, len(body), CHUNK):
        chunk = body[start:start + CHUNK]
        parts += [b"%x\r\n" % len(chunk), chunk, b"\r\n"]
    return b"".join(parts) + b"0\r\n\r\n"


def _truncated(connection: Connection, reply: Reply, rule: Rule, date: str) -> bool:
    head = reply.head(date, close=False)
    keep = rule.params.get("keep", 0.5)
    if rule.params.get("where", "body") == "head":
        connection.send(head[:int(len(head) * keep)])
    else:
        connection.send(head + reply.body[:int(len(reply.body) * keep)])
    return False


def _dripped(connection: Connection, data: bytes, rule: Rule) -> None:
    size = rule.params.get("bytes", 16)
    for start in range(0, len(data), size):
        connection.send(data[start:start + size])
        if not connection.pause(rule.params.get("interval_ms", 20) / 1000):
            return


def _huge(connection: Connection, reply: Reply, rule: Rule, date: str) -> bool:
    """Well-formed as long as it lasts, so that only a bound in the client ends it early."""
    left = rule.params.get("bytes", HUGE_BYTES)
    if rule.params.get("where", "body") == "head":
        connection.send(reply.head(date, close=True)[:-2])
        filler = b"X-Filler: " + b"x" * 1000 + b"\r\n"
        filler *= 16
        end = b"\r\n"
    else:
        connection.send(reply.head(date, close=True, chunked=True))
        connection.send(_chunks(b'{"notes":[{"plain_body":"').removesuffix(b"0\r\n\r\n"))
        filler = _chunks(b"x" * CHUNK).removesuffix(b"0\r\n\r\n")
        end = b"0\r\n\r\n"
    while left > 0:
        connection.send(filler)
        left -= len(filler)
    connection.send(end)
    return False
