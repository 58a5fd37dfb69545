"""The folder endpoints: flat containers, at most 100 per account, names unique without regard to case.

Same contract as in `notes`: a Call in, a Reply out or a Refusal.
"""

from __future__ import annotations

from . import params, shapes
from .call import Call
from .message import Reply
from .refusal import Refusal, invalid

MAX_NAME_CHARACTERS = 80


def list_folders(call: Call) -> Reply:
    params.Query(call.request.query, set(), call.switches)
    by_name = sorted(call.account.folders.values(), key=lambda folder: folder.name.lower())
    return Reply.json({"folders": [shapes.folder(folder, call.switches) for folder in by_name]})


def show_folder(call: Call) -> Reply:
    return Reply.json(shapes.folder(call.folder(), call.switches))


def create_folder(call: Call) -> Reply:
    account = call.account
    name = _name(call)
    account.check_folder_name(name)
    if len(account.folders) >= account.caps.folders:
        raise Refusal("cap_exceeded", f"folder limit of {account.caps.folders} reached",
                      status=int(call.switches["folder_cap_code"]))
    return Reply.json(shapes.folder(account.new_folder(name, call.now_us), call.switches), 201)


def update_folder(call: Call) -> Reply:
    folder = call.folder()
    name = _name(call)
    call.account.check_folder_name(name, folder.id)
    folder.name, folder.updated_at = name, call.now_us
    return Reply.json(shapes.folder(folder, call.switches))


def delete_folder(call: Call) -> Reply:
    bumps = call.switches["folder_delete_bumps"] == "yes"
    call.account.remove_folder(call.folder(), call.now_us if bumps else None)
    return Reply.empty()


def _name(call: Call) -> str:
    keys = params.unwrapped(params.json_object(call.request, call.switches), "folder", call.switches)
    name = params.text(params.only(keys, {"name"}, call.switches), "name")
    if not name.strip():
        raise invalid("Name can't be blank")
    if len(name) > MAX_NAME_CHARACTERS:
        raise invalid(f"Name is too long (maximum is {MAX_NAME_CHARACTERS} characters)")
    return name
