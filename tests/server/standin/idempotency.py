"""Idempotency-Keys: the same key with the same request replays the first reply for 24 hours.

A record is *running* from `begin` until `finish` (with the reply, which is then replayed) or `abandon`
(the key is as if never seen). Callers hold the world's lock, except while they wait for a running one.
"""

from __future__ import annotations

import base64
import hashlib
import threading
import zlib
from dataclasses import dataclass, field
from typing import Any

from .clock import SECOND
from .message import Reply, Request
from .refusal import Refusal
from .switches import Switches

WINDOW_US = 24 * 3600 * SECOND
SHORTEST, LONGEST = 8, 255
_COMPRESS_ABOVE = 64 * 1024


@dataclass
class Record:
    fingerprint: bytes
    begun_at: int
    reply: Reply | None = None
    compressed: bool = False
    done: threading.Event = field(default_factory=threading.Event)


class IdempotencyKeys:
    def __init__(self, switches: Switches) -> None:
        self._switches = switches
        self._records: dict[tuple[str, str], Record] = {}

    def of_request(self, request: Request) -> str | None:
        """The request's key, or None; an illegal one is refused (switch `key_illegal`)."""
        key = request.headers.get("idempotency-key")
        if key is None or request.method in ("GET", "HEAD"):
            return None
        if SHORTEST <= len(key) <= LONGEST:
            return key
        if self._switches["key_illegal"] == "ignored":
            return None
        status = int(self._switches["key_illegal"])
        raise Refusal("validation_failed" if status == 422 else "bad_request",
                      f"Idempotency-Key must have {SHORTEST} to {LONGEST} characters", status=status)

    def begin(self, name: tuple[str, str], request: Request, now_us: int) -> tuple[Record, bool]:
        """The record under `name` and whether it is new, i.e. the caller's to run."""
        fingerprint = self._fingerprint(request)
        record = self._records.get(name)
        if record is None or now_us - record.begun_at >= WINDOW_US:
            record = self._records[name] = Record(fingerprint, now_us)
            return record, True
        if record.fingerprint != fingerprint:
            raise Refusal("idempotency_key_conflict",
                          "This Idempotency-Key was used with a different request")
        return record, False

    def finish(self, name: tuple[str, str], record: Record, reply: Reply) -> None:
        if self._keeps(reply):
            record.reply = _packed(reply, record)
        elif self._records.get(name) is record:
            del self._records[name]
        record.done.set()

    def abandon(self, name: tuple[str, str], record: Record) -> None:
        self._records.pop(name, None)
        record.done.set()

    def remember_error(self, name: tuple[str, str], request: Request, reply: Reply, now_us: int) -> None:
        """Store an error that arose before the key was looked at (throttling, an outage), if the switch
        `key_errors` is `all`."""
        if self._switches["key_errors"] == "all" and name not in self._records:
            record, _ = self.begin(name, request, now_us)
            self.finish(name, record, reply)

    def forget(self) -> None:
        self._records.clear()

    def as_json(self) -> list[dict[str, Any]]:
        """Finished records, for the state file."""
        return [{"name": list(name), "fingerprint": record.fingerprint.hex(), "begun_at": record.begun_at,
                 "compressed": record.compressed, "status": record.reply.status,
                 "headers": record.reply.headers, "content_type": record.reply.content_type,
                 "body": base64.b64encode(record.reply.body).decode()}
                for name, record in self._records.items() if record.reply is not None]

    def load(self, dump: list[dict[str, Any]]) -> None:
        self._records.clear()
        for row in dump:
            reply = Reply(row["status"], base64.b64decode(row["body"]), row["content_type"], row["headers"])
            record = Record(bytes.fromhex(row["fingerprint"]), row["begun_at"], reply, row["compressed"])
            record.done.set()
            self._records[tuple(row["name"])] = record

    def _keeps(self, reply: Reply) -> bool:
        how = self._switches["key_errors"]
        if reply.is_success or how == "all":
            return True
        return how == "final" and reply.status < 500 and reply.status not in (401, 429)

    def _fingerprint(self, request: Request) -> bytes:
        digest = hashlib.sha256(request.body)
        if self._switches["key_fingerprint"] == "method_path_body":
            digest.update(f"\n{request.method} {request.target}".encode())
        return digest.digest()


def replay(record: Record) -> Reply:
    assert record.reply is not None
    reply = record.reply.copy()
    if record.compressed:
        reply.body = zlib.decompress(reply.body)
    reply.headers["Idempotent-Replay"] = "true"
    return reply


def _packed(reply: Reply, record: Record) -> Reply:
    """A copy to keep; a day of whole-body PATCH replies would not fit in memory otherwise."""
    reply = reply.copy()
    if len(reply.body) > _COMPRESS_ABOVE:
        reply.body = zlib.compress(reply.body, 1)
        record.compressed = True
    return reply
