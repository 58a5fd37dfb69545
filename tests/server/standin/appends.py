"""Appending to a note, by id or by filename; the latter creates a missing note (API.md (a), C1, C15)."""

from __future__ import annotations

import time

from . import bodies, checks, params, shapes
from .call import Call
from .message import Reply
from .note import Note, remembered
from .refusal import Refusal, invalid, not_found
from .titles import filename_for_name, stored_title

INTERLEAVE_GAP_S = 0.02


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


def _create_by_append(call: Call, keys: params.Keys, text: str) -> Note:
    title = checks.check_title(stored_title(call.filename or ""))
    filename = filename_for_name(title, call.switches)
    if not filename:
        raise invalid("Filename can't be blank")
    body = bodies.stored(text, call.switches)
    locked = params.boolean(keys, "append_only", call.switches["first_touch"] == "locked")
    encrypted = checks.encryption(call, keys, body)
    checks.check_new(call, filename, body)
    note = call.account.new_note(call.now_us, filename, title, body, append_only=locked,
                                 client_encrypted=encrypted, last_appended_at=call.now_us)
    note.record("append", call.by, call.now_us, created=True, **remembered(text))
    return note


def _append_to(call: Call, note: Note, text: str) -> None:
    if note.format == "rich":
        raise Refusal("content_type_mismatch", "Rich notes can't be appended to through the API")
    checks.check_encrypted_text(note.client_encrypted, text, call.switches)
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
