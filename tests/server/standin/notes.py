"""Listing, reading, creating and deleting notes (API.md (a)).

As in the other endpoint modules, each function takes a Call and returns a Reply or raises a Refusal; it
runs under the world's lock, and a refusal leaves nothing behind.
"""

from __future__ import annotations

from typing import Any

from . import bodies, checks, params, shapes
from .call import Call
from .checks import CONTENT_KEYS, SETTING_KEYS
from .message import Reply
from .note import Note, remembered
from .refusal import Refusal, invalid
from .switches import Switches
from .titles import automatic_filename, filename_for_title, stored_title

DEFAULT_PAGE = 50

CREATE_KEYS = CONTENT_KEYS | {"format", "folder_id", "append_only", "client_encrypted"}
QUERY_KEYS = {"format", "folder_id", "sort", "limit", "offset"}


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
    return call.answer_note(call.note())


def create_note(call: Call) -> Reply:
    keys = params.unwrapped(params.json_object(call.request, call.switches), "note", call.switches)
    note = create(call, keys)
    return call.answer_note(note, "create_code")


def create(call: Call, keys: dict[str, Any]) -> Note:
    switches, account = call.switches, call.account
    settings = _settings_at_create(keys, switches)
    keys = params.only({k: v for k, v in keys.items() if k not in SETTING_KEYS}, CREATE_KEYS, switches)
    checks.check_format(keys)
    title, filename = _name_for(call, keys)
    body = bodies.stored(params.text({"plain_body": "", **keys}, "plain_body"), switches)
    if not body and switches["empty_create"] == "refused":
        raise invalid("Plain body can't be blank")
    locked = params.boolean(keys, "append_only", False)
    checks.check_settings(settings, locked)
    encrypted = checks.encryption(call, keys, body)
    folder_id = params.folder_id(keys, account, switches) if "folder_id" in keys else None
    checks.check_new(call, filename, body)
    note = account.new_note(call.now_us, filename, title, body, folder_id=folder_id, append_only=locked,
                            client_encrypted=encrypted, **settings)
    note.record("create", call.by, call.now_us, filename=filename, title=title, **remembered(body))
    return note


def _settings_at_create(keys: dict[str, Any], switches: Switches) -> dict[str, Any]:
    settings = {key: value for key, value in keys.items() if key in SETTING_KEYS}
    if settings and switches["settings_at_create"] == "refused":
        raise invalid("unpermitted parameters: " + ", ".join(sorted(settings)))
    return settings if switches["settings_at_create"] == "accepted" else {}


def _name_for(call: Call, keys: dict[str, Any]) -> tuple[str, str]:
    """Title and filename of a note to be created."""
    title = stored_title(params.text({"title": "", **keys}, "title"))
    filename = filename_for_title(title, call.switches)
    if title.strip() and filename:
        return checks.check_title(title), filename
    if call.switches["title_blank"] == "refused":
        raise invalid("Title can't be blank")
    filename = automatic_filename(call.now_us)
    return filename, filename


def delete_note(call: Call) -> Reply:
    note = call.note()
    if note.append_only and call.switches["locked_delete"] == "refused":
        raise Refusal("note_locked", "This note is append-only: it can't be deleted")
    note.record("delete", call.by, call.now_us)
    call.account.remove(note, call.now_us, call.by)
    return Reply.empty()
