"""Bulk creation: up to 50 rows, all or none (API.md (a), C30)."""

from __future__ import annotations

from typing import Any

from . import notes, params, shapes
from .call import Call
from .message import Reply
from .note import Note
from .refusal import Refusal, invalid
from .switches import Switches

MOST_ROWS = 50


def create_notes(call: Call) -> Reply:
    """Bulk: all rows or none. Folder ids are looked at before anything else."""
    switches = call.switches
    if switches["bulk"] == "forbidden":
        raise Refusal("forbidden", "Bulk is not enabled on this plan")
    keys = params.only(params.json_object(call.request, switches), {"notes"}, switches)
    rows = keys.get("notes")
    if not isinstance(rows, list) or not 1 <= len(rows) <= MOST_ROWS:
        raise invalid(f"Notes must be an array of 1 to {MOST_ROWS} rows")
    _refuse_rows(_bad_folders(call, rows), switches)
    created, failed = _create_rows(call, rows)
    if failed:
        for note in created:
            call.account.discard(note)
        _refuse_rows(failed, switches)
    return Reply.json({"created": [shapes.full_note(note, switches) for note in created]}, 201)


def _bad_folders(call: Call, rows: list[Any]) -> dict[int, Refusal]:
    bad = {}
    for index, row in enumerate(rows):
        if not isinstance(row, dict):
            bad[index] = invalid("Row must be an object")
        elif "folder_id" in row:
            try:
                params.folder_id(row, call.account, call.switches)
            except Refusal:
                bad[index] = invalid("Folder not found")
    return bad


def _create_rows(call: Call, rows: list[dict[str, Any]]) -> tuple[list[Note], dict[int, Refusal]]:
    created, failed = [], {}
    for index, row in enumerate(rows):
        try:
            created.append(notes.create(call, row))
        except Refusal as refusal:
            failed[index] = refusal
    return created, failed


def _refuse_rows(failed: dict[int, Refusal], switches: Switches) -> None:
    if not failed:
        return
    first = next(iter(failed.values()))
    shape = {
        "indexes": list(failed),
        "objects": [{"index": i, "errors": r.details or [r.message]} for i, r in failed.items()],
        "rows": {str(i): r.details or [r.message] for i, r in failed.items()},
    }.get(switches["bulk_failed"])
    details = [f"row {index}: {refusal.message}" for index, refusal in failed.items()]
    raise Refusal(first.code, f"{len(failed)} of the rows failed; nothing was created", status=first.status,
                  details=details, extra={} if shape is None else {"failed": shape})
