"""A call: one authenticated API request on its way through an endpoint."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from . import shapes
from .account import Account
from .message import Reply, Request
from .note import Folder, Note
from .refusal import not_found
from .switches import Switches
from .titles import filename_for_name


@dataclass
class Call:
    request: Request
    account: Account
    switches: Switches
    now_us: int
    by: dict[str, Any]
    """Who does it, for histories: log number, token, idempotency key."""
    lock: threading.Lock
    """The world's lock, held while an endpoint runs."""
    id: int | None = None
    filename: str | None = None
    """Of the path; one of the two, if any."""
    only_note_id: int | None = None
    """The note that the token is locked to."""

    def lookup(self) -> Note | None:
        if self.filename is None:
            return self.account.notes.get(self.id)
        return self.account.find_by_filename(filename_for_name(self.filename, self.switches))

    def note(self) -> Note:
        note = self.lookup()
        if note is None:
            raise not_found()
        return note

    def folder(self) -> Folder:
        folder = self.account.folders.get(self.id)
        if folder is None:
            raise not_found("Folder")
        return folder

    def answer_note(self, note: Note, code_switch: str | None = None) -> Reply:
        """The full note, with the status that a switch decides."""
        status = int(self.switches[code_switch]) if code_switch else 200
        if status == 204:
            return Reply.empty()
        return Reply.json(shapes.full_note(note, self.switches), status)

    @contextmanager
    def unlocked(self) -> Iterator[None]:
        """Let other requests run in the middle of this one."""
        self.lock.release()
        try:
            yield
        finally:
            self.lock.acquire()
