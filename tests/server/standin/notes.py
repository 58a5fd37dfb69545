"""The note endpoints and their rules: what may be created, changed, appended to, deleted (API.md (a)).

Each public function takes a Call and returns a Reply or raises a Refusal; it runs under the world's lock,
and a refusal leaves nothing behind.
"""

from __future__ import annotations

import time
from typing import Any

from . import bodies, params, shapes
from .call import Call
from .message import Reply
from .note import Note, remembered
from .refusal import Refusal, invalid, not_found
from .titles import (MAX_TITLE_CHARACTERS, automatic_filename, filename_for_name, filename_for_title,
                     stored_title)

DEFAULT_PAGE = 50
MOST_BULK_ROWS = 50
INTERLEAVE_GAP_S = 0.02

CONTENT_KEYS = {"title", "plain_body"}
SETTING_KEYS = {"append_deadline_hours", "alert_email", "webhook_url", "webhook_secret", "webhook_format"}
CREATE_KEYS = CONTENT_KEYS | {"format", "folder_id", "append_only", "client_encrypted"}
UPDATE_KEYS = CONTENT_KEYS | SETTING_KEYS | {"folder_id"}
QUERY_KEYS = {"format", "folder_id", "sort", "limit", "offset"}


# Reading

def list_notes(call: Call) -> Reply:
    switches = call.switches
    query = params.Query(call.request.query, QUERY_KEYS, switches)
    sort = query.word("sort", ("created", "updated", "appended"), "updated")
    format = query.word("format", ("plain", "rich"), None)
    limit = min(query.number("limit", 1, DEFAULT_PAGE), switches["list_page_cap"])
    if switches["list_limit"] == "ignored":
        limit = DEFAULT_PAGE
    offset = query.number("offset", 0, 0)
    if call.only_note_id is not None:
        note = call.account.notes.get(call.only_note_id)
        page = [note][offset:offset + limit] if note else []
    else:
        page = call.account.listing.page(sort, query.folder(), format, offset, limit)
    return Reply.json({"notes": [shapes.list_item(note, switches) for note in page]})


def show_note(call: Call) -> Reply:
    return Reply.json(shapes.full_note(call.note(), call.switches))


def _full(call: Call, note: Note, code_switch: str) -> Reply:
    status = int(call.switches[code_switch])
    if status == 204:
        return Reply.empty()
    return Reply.json(shapes.full_note(note, call.switches), status)


# Creating

def create_note(call: Call) -> Reply:
    keys = params.unwrapped(params.json_object(call.request, call.switches), "note", call.switches)
    note = _create(call, keys)
    return _full(call, note, "create_code")


def create_notes(call: Call) -> Reply:
    """Bulk: all rows or none. Folder ids are looked at before anything else."""
    switches = call.switches
    if switches["bulk"] == "forbidden":
        raise Refusal("forbidden", "Bulk is not enabled on this plan")
    keys = params.only(params.json_object(call.request, switches), {"notes"}, switches)
    rows = keys.get("notes")
    if not isinstance(rows, list) or not 1 <= len(rows) <= MOST_BULK_ROWS:
        raise invalid(f"Notes must be an array of 1 to {MOST_BULK_ROWS} rows")
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
            created.append(_create(call, row))
        except Refusal as refusal:
            failed[index] = refusal
    return created, failed


def _refuse_rows(failed: dict[int, Refusal], switches: Any) -> None:
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


def _create(call: Call, keys: dict[str, Any]) -> Note:
    switches, account = call.switches, call.account
    settings = _settings_at_create(keys, switches)
    keys = params.only({k: v for k, v in keys.items() if k not in SETTING_KEYS}, CREATE_KEYS, switches)
    _check_format(keys)
    title, filename = _name_for(call, keys)
    body = bodies.stored(params.text({"plain_body": "", **keys}, "plain_body"), switches)
    if not body and switches["empty_create"] == "refused":
        raise invalid("Plain body can't be blank")
    locked = params.boolean(keys, "append_only", False)
    _check_settings(settings, locked)
    encrypted = _encryption(call, keys, body)
    folder_id = params.folder_id(keys, account, switches) if "folder_id" in keys else None
    _check_new(call, filename, body)
    note = account.new_note(call.now_us, filename, title, body, folder_id=folder_id, append_only=locked,
                            client_encrypted=encrypted, **settings)
    note.record("create", call.by, call.now_us, filename=filename, title=title, **remembered(body))
    return note


def _settings_at_create(keys: dict[str, Any], switches: Any) -> dict[str, Any]:
    settings = {key: value for key, value in keys.items() if key in SETTING_KEYS}
    if settings and switches["settings_at_create"] == "refused":
        raise invalid("unpermitted parameters: " + ", ".join(sorted(settings)))
    return settings if switches["settings_at_create"] == "accepted" else {}


def _check_format(keys: dict[str, Any]) -> None:
    format = keys.get("format", "plain")
    if format == "rich":
        raise Refusal("content_type_mismatch", "Rich notes can't be written through the API")
    if format != "plain":
        raise invalid("Format is not included in the list")


def _name_for(call: Call, keys: dict[str, Any]) -> tuple[str, str]:
    """Title and filename of a note to be created."""
    title = stored_title(params.text({"title": "", **keys}, "title"))
    filename = filename_for_title(title, call.switches)
    if title.strip() and filename:
        return _check_title(title), filename
    if call.switches["title_blank"] == "refused":
        raise invalid("Title can't be blank")
    filename = automatic_filename(call.now_us)
    return filename, filename


def _check_title(title: str) -> str:
    if len(title) > MAX_TITLE_CHARACTERS:
        raise invalid(f"Title is too long (maximum is {MAX_TITLE_CHARACTERS} characters)")
    return title


def _encryption(call: Call, keys: dict[str, Any], body: str) -> bool:
    encrypted = params.boolean(keys, "client_encrypted", False)
    if encrypted and call.account.is_team:
        raise invalid("Client encrypted notes are for personal accounts only")
    _check_encrypted_text(encrypted, body, call.switches)
    return encrypted


def _check_encrypted_text(encrypted: bool, text: str, switches: Any) -> None:
    if encrypted and switches["encrypted_check"] == "yes" and text and not text.startswith("fj1:"):
        raise invalid("Plain body is not fj1 ciphertext")


def _check_new(call: Call, filename: str, body: str) -> None:
    call.account.check_count()
    call.account.check_size(len(body.encode()))
    call.account.check_name(filename)


# Updating

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
    return _full(call, note, "update_code")


def _writable(note: Note, keys: dict[str, Any], switches: Any) -> dict[str, Any]:
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
    _check_encrypted_text(note.client_encrypted, body, call.switches)
    call.account.check_size(len(body.encode()), note.byte_size)
    return body


def _patched_title(call: Call, note: Note, keys: dict[str, Any]) -> dict[str, str]:
    title = _check_title(stored_title(params.text(keys, "title")))
    filename = filename_for_title(title, call.switches)
    if not title.strip() or not filename:
        raise invalid("Title can't be blank")
    if call.switches["title_patch"] == "keeps" or title == note.title:
        return {"title": title}
    call.account.check_name(filename, note.id)
    return {"title": title, "filename": filename}


def _setting_changes(note: Note, keys: dict[str, Any]) -> dict[str, Any]:
    settings = {key: value for key, value in keys.items() if key in SETTING_KEYS}
    _check_settings(settings, note.append_only)
    if "webhook_url" in settings:
        # Saving the URL, even unchanged, re-arms a webhook that was disabled after failures.
        settings |= {"webhook_failure_count": 0, "webhook_disabled_at": None}
    if settings.get("webhook_format", "") is None:
        settings["webhook_format"] = "generic"
    return settings


def _check_settings(settings: dict[str, Any], locked: bool) -> None:
    hours = settings.get("append_deadline_hours")
    if hours is not None and (isinstance(hours, bool) or not isinstance(hours, int) or not 1 <= hours <= 720):
        raise invalid("Append deadline hours must be between 1 and 720")
    for key in ("alert_email", "webhook_url", "webhook_secret"):
        if settings.get(key) is not None:
            params.text(settings, key)
    if settings.get("alert_email") and "@" not in settings["alert_email"]:
        raise invalid("Alert email is invalid")
    if settings.get("webhook_url") and not settings["webhook_url"].startswith(("https://", "http://")):
        raise invalid("Webhook url is invalid")
    if settings.get("webhook_format", "generic") not in ("generic", "slack", "discord", None):
        raise invalid("Webhook format is not included in the list")
    if not locked and (hours is not None or settings.get("webhook_url")):
        raise invalid("Deadlines and webhooks need an append-only note")


def _bumps(changes: dict[str, Any], switches: Any) -> bool:
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
    return _full(call, note, "update_code")


def delete_note(call: Call) -> Reply:
    note = call.note()
    if note.append_only and call.switches["locked_delete"] == "refused":
        raise Refusal("note_locked", "This note is append-only: it can't be deleted")
    note.record("delete", call.by, call.now_us)
    call.account.remove(note, call.now_us, call.by)
    return Reply.empty()


# Appending

def append(call: Call) -> Reply:
    switches = call.switches
    allowed = {"text"} if call.filename is None else {"text", "append_only", "client_encrypted"}
    keys = params.only(params.json_object(call.request, switches), allowed, switches)
    note = call.lookup() if call.filename is not None else call.note()
    text = bodies.chomped(bodies.received(params.text(keys, "text"), switches), switches["append_chomp"])
    if not text and switches["append_empty"] == "refused":
        raise invalid("Text can't be blank")
    created = note is None
    if note is None:
        note = _create_by_append(call, keys, text)
    elif text or switches["append_empty"] == "accepted":
        _append_to(call, note, text)
    if call.filename is None and switches["append_created_key"] == "by_filename":
        return _receipt(call, note, None)
    return _receipt(call, note, created)


def _create_by_append(call: Call, keys: dict[str, Any], text: str) -> Note:
    title = _check_title(stored_title(call.filename or ""))
    filename = filename_for_name(title, call.switches)
    if not filename:
        raise invalid("Filename can't be blank")
    body = bodies.stored(text, call.switches)
    locked = params.boolean(keys, "append_only", call.switches["first_touch"] == "locked")
    encrypted = _encryption(call, keys, body)
    _check_new(call, filename, body)
    note = call.account.new_note(call.now_us, filename, title, body, append_only=locked,
                                 client_encrypted=encrypted, last_appended_at=call.now_us)
    note.record("append", call.by, call.now_us, created=True, **remembered(text))
    return note


def _append_to(call: Call, note: Note, text: str) -> None:
    if note.format == "rich":
        raise Refusal("content_type_mismatch", "Rich notes can't be appended to through the API")
    _check_encrypted_text(note.client_encrypted, text, call.switches)
    body = _joined(call, note, text)
    call.account.check_size(len(body.encode()), note.byte_size)
    if call.switches["append_interleaves"] == "yes":
        body = _append_in_halves(call, note, text)
    call.account.change(note, body=body, updated_at=call.now_us, last_appended_at=call.now_us,
                        alerted_at=None)
    note.record("append", call.by, call.now_us, **remembered(text))


def _joined(call: Call, note: Note, text: str) -> str:
    return bodies.stored(bodies.joined(note.body, text, call.switches), call.switches)


def _append_in_halves(call: Call, note: Note, text: str) -> str:
    """Store the first half, let others in, and return the body with the second half at its end."""
    half = len(text) // 2
    call.account.change(note, body=_joined(call, note, text[:half]))
    with call.unlocked():
        time.sleep(INTERLEAVE_GAP_S)
    if note.id not in call.account.notes:
        raise not_found()
    return bodies.stored(note.body + text[half:], call.switches)


def _receipt(call: Call, note: Note, created: bool | None) -> Reply:
    codes = call.switches["append_codes"]
    status = (201 if created else 200) if codes == "split" else int(codes)
    if status == 204:
        return Reply.empty()
    return Reply.json(shapes.receipt(note, call.account, created, call.switches), status)
