"""Editing a note: PATCH of content, settings and folder, and /move (API.md (a)).

Content is refused on locked and on rich notes; settings and the folder are not.
"""

from __future__ import annotations

from typing import Any

from . import bodies, checks, params
from .call import Call
from .checks import CONTENT_KEYS, SETTING_KEYS
from .message import Reply
from .note import Note, remembered
from .refusal import Refusal, invalid
from .switches import Switches
from .titles import filename_for_title, stored_title

UPDATE_KEYS = CONTENT_KEYS | SETTING_KEYS | {"folder_id"}


def update_note(call: Call) -> Reply:
    switches = call.switches
    note = call.note()
    keys = params.unwrapped(params.json_object(call.request, switches), "note", switches)
    keys = params.only(keys, UPDATE_KEYS, switches)
    keys = _writable(note, keys, switches)
    changes = _content_changes(call, note, keys) | _setting_changes(note, keys)
    if "folder_id" in keys:
        changes["folder_id"] = params.folder_id(keys, call.account, switches)
    changes = {key: value for key, value in changes.items() if getattr(note, key) != value}
    if _bumps(changes, switches):
        changes["updated_at"] = call.now_us
    call.account.change(note, **changes)
    note.record("patch", call.by, call.now_us, keys=sorted(keys), filename=note.filename,
                **(remembered(keys["plain_body"]) if "plain_body" in keys else {}))
    return call.answer_note(note, "update_code")


def _writable(note: Note, keys: dict[str, Any], switches: Switches) -> dict[str, Any]:
    """`keys` as far as the note's format and lock let them through."""
    if not CONTENT_KEYS & keys.keys():
        return keys
    if note.format == "rich":
        raise Refusal("content_type_mismatch", "Rich notes can't be written through the API")
    if not note.append_only:
        return keys
    settings = {key: value for key, value in keys.items() if key not in CONTENT_KEYS}
    if settings and switches["locked_mixed_patch"] == "settings":
        return settings
    raise Refusal("note_locked", "This note is append-only: its content can't be changed")


def _content_changes(call: Call, note: Note, keys: dict[str, Any]) -> dict[str, Any]:
    changes: dict[str, Any] = {}
    if "plain_body" in keys:
        changes["body"] = _patched_body(call, note, keys)
    elif "title" in keys and call.switches["title_only_patch"] == "refused":
        raise invalid("Plain body can't be blank")
    if "title" in keys:
        changes |= _patched_title(call, note, keys)
    return changes


def _patched_body(call: Call, note: Note, keys: dict[str, Any]) -> str:
    body = bodies.stored(params.text(keys, "plain_body"), call.switches)
    if not body and call.switches["empty_patch"] == "refused":
        raise invalid("Plain body can't be blank")
    checks.check_encrypted_text(note.client_encrypted, body, call.switches)
    call.account.check_size(len(body.encode()), note.byte_size)
    return body


def _patched_title(call: Call, note: Note, keys: dict[str, Any]) -> dict[str, str]:
    title = checks.check_title(stored_title(params.text(keys, "title")))
    filename = filename_for_title(title, call.switches)
    if not title.strip() or not filename:
        raise invalid("Title can't be blank")
    if call.switches["title_patch"] == "keeps" or title == note.title:
        return {"title": title}
    call.account.check_name(filename, note.id)
    return {"title": title, "filename": filename}


def _setting_changes(note: Note, keys: dict[str, Any]) -> dict[str, Any]:
    settings = {key: value for key, value in keys.items() if key in SETTING_KEYS}
    checks.check_settings(settings, note.append_only)
    if "webhook_url" in settings:
        # Saving the URL, even unchanged, re-arms a webhook that was disabled after failures.
        settings |= {"webhook_failure_count": 0, "webhook_disabled_at": None}
    if settings.get("webhook_format", "") is None:
        settings["webhook_format"] = "generic"
    return settings


def _bumps(changes: dict[str, Any], switches: Switches) -> bool:
    if not changes:
        return switches["same_patch_bumps"] == "yes"
    if changes.keys() & {"body", "title", "filename"}:
        return True
    if changes.keys() == {"folder_id"}:
        return switches["move_bumps"] == "yes"
    return switches["settings_bump"] == "yes"


def move_note(call: Call) -> Reply:
    switches = call.switches
    note = call.note()
    keys = params.only(params.json_object(call.request, switches), {"folder_id"}, switches)
    if "folder_id" not in keys:
        raise invalid("param is missing: folder_id (send null to un-folder)")
    folder_id = params.folder_id(keys, call.account, switches, moving=True)
    changes = {"folder_id": folder_id} if folder_id != note.folder_id else {}
    if _bumps(changes, switches):
        changes["updated_at"] = call.now_us
    call.account.change(note, **changes)
    note.record("move", call.by, call.now_us, folder_id=folder_id)
    return call.answer_note(note, "update_code")
