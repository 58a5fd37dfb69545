"""The JSON shapes of replies: full note, list item, append receipt, folder.

Only `GET /notes`, `GET /folders` and bulk wrap what they return; a single note or folder is the top-level
object (API.md, "Wrapping of responses").
"""

from __future__ import annotations

from typing import Any

from .account import Account
from .note import Folder, Note
from .switches import Switches
from .wire import timestamp

Shape = dict[str, Any]

_MINIMAL_ITEM = ("id", "filename", "title", "format", "last_appended_at")
_RECEIPTS = {
    "union": ("id", "filename", "created", "byte_size", "bytes_remaining", "storage_used",
              "storage_cap", "updated_at"),
    "sample": ("filename", "created", "byte_size", "bytes_remaining", "storage_used", "storage_cap",
               "updated_at"),
    "client": ("created", "id", "filename", "bytes_remaining"),
}


def _finished(shape: Shape, switches: Switches) -> Shape:
    if switches["nulls"] == "omitted":
        shape = {key: value for key, value in shape.items() if value is not None}
    if switches["extra_keys"] == "yes":
        shape["x_new_field"] = {"since": 2027, "list": [1, None, "two"]}
    return shape


def _id(value: int | None, switches: Switches) -> int | str | None:
    return str(value) if switches["ids"] == "string" and value is not None else value


def _plain_body(note: Note, switches: Switches) -> str | None:
    if note.format == "rich" and switches["rich_body"] != "projection":
        return "" if switches["rich_body"] == "empty" else None
    return note.body


def full_note(note: Note, switches: Switches) -> Shape:
    style = switches["timestamps"]
    return _finished({
        "id": _id(note.id, switches),
        "filename": note.filename,
        "title": note.title,
        "format": note.format,
        "folder_id": _id(note.folder_id, switches),
        "pinned": note.pinned,
        "append_only": note.append_only,
        "client_encrypted": note.client_encrypted,
        "append_deadline_hours": note.append_deadline_hours,
        "alert_email": note.alert_email,
        "last_appended_at": timestamp(note.last_appended_at, style),
        "alerted_at": timestamp(note.alerted_at, style),
        "webhook_url": note.webhook_url,
        "webhook_format": note.webhook_format,
        "webhook_failure_count": note.webhook_failure_count,
        "webhook_disabled_at": timestamp(note.webhook_disabled_at, style),
        "plain_body": _plain_body(note, switches),
        "byte_size": note.byte_size,
        "created_at": timestamp(note.created_at, style),
        "updated_at": timestamp(note.updated_at, style),
    }, switches)


def list_item(note: Note, switches: Switches) -> Shape:
    style = switches["timestamps"]
    item = {
        "id": _id(note.id, switches),
        "filename": note.filename,
        "title": note.title,
        "format": note.format,
        "last_appended_at": timestamp(note.last_appended_at, style),
        "updated_at": timestamp(note.updated_at, style),
        "created_at": timestamp(note.created_at, style),
        "append_only": note.append_only,
        "folder_id": _id(note.folder_id, switches),
        "plain_body_excerpt": (_plain_body(note, switches) or "")[:switches["excerpt_length"]],
        "byte_size": note.byte_size,
    }
    if switches["list_fields"] == "wide":
        item = {key: value for key, value in full_note(note, switches).items() if key != "plain_body"} | item
    elif switches["list_fields"] == "minimal":
        item = {key: item[key] for key in _MINIMAL_ITEM}
    for key in switches["list_omits"]:
        item.pop(key, None)
    return _finished(item, switches)


def receipt(note: Note, account: Account, created: bool | None, switches: Switches) -> Shape:
    """`created` is None for the by-id form, which cannot create."""
    values = {
        "id": _id(note.id, switches),
        "filename": note.filename,
        "created": created,
        "byte_size": note.byte_size,
        "bytes_remaining": account.caps.note_bytes - note.byte_size,
        "storage_used": account.used_bytes,
        "storage_cap": account.caps.storage_bytes,
        "updated_at": timestamp(note.updated_at, switches["timestamps"]),
    }
    keys = _RECEIPTS[switches["receipt_fields"]]
    return _finished({key: values[key] for key in keys
                      if key != "created" or created is not None}, switches)


def folder(folder: Folder, switches: Switches) -> Shape:
    style = switches["timestamps"]
    return _finished({
        "id": _id(folder.id, switches),
        "name": folder.name,
        "created_at": timestamp(folder.created_at, style),
        "updated_at": timestamp(folder.updated_at, style),
    }, switches)
