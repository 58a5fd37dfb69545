"""A note and a folder as the store keeps them, and the history of what was done to each note.

Times are microseconds of the server clock. `history` is for exactly-once tests: every committed change
with its idempotency key, whether it came through the API or from the control port.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, field
from typing import Any

# A longer text is kept in histories and logs as its digest: bench runs would fill the memory.
LONGEST_KEPT_TEXT = 64 * 1024


def remembered(text: str) -> dict[str, Any]:
    """`text` for a history or a log: itself, or its size and SHA-256 when it is long."""
    if len(text) <= LONGEST_KEPT_TEXT:
        return {"text": text}
    data = text.encode()
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


@dataclass(slots=True)
class Note:
    id: int
    filename: str
    title: str
    body: str
    created_at: int
    updated_at: int
    byte_size: int = 0
    format: str = "plain"
    html_bytes: int = 0
    folder_id: int | None = None
    pinned: bool = False
    append_only: bool = False
    client_encrypted: bool = False
    append_deadline_hours: int | None = None
    alert_email: str | None = None
    last_appended_at: int | None = None
    alerted_at: int | None = None
    webhook_url: str | None = None
    webhook_format: str = "generic"
    webhook_secret: str | None = None
    webhook_failure_count: int = 0
    webhook_disabled_at: int | None = None
    history: list[dict[str, Any]] | None = None

    def record(self, op: str, by: dict[str, Any], at: int, **what: Any) -> None:
        if self.history is None:
            self.history = []
        self.history.append({"op": op, "at": at, **by, **what})

    def as_json(self) -> dict[str, Any]:
        """Everything, for state dumps; the reverse is `Note(**dump)`."""
        return {**asdict(self), "history": self.history or []}


@dataclass(slots=True)
class Folder:
    id: int
    name: str
    created_at: int
    updated_at: int

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(slots=True)
class Tombstone:
    """What is left of a deleted note."""

    note: Note
    deleted_at: int
    by: dict[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        return {**self.note.as_json(), "deleted_at": self.deleted_at, "deleted_by": self.by}
