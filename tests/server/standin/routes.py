"""The endpoint table: which method and path is which endpoint, in which rate class.

`{id}` matches digits only, as anything else names no record. The fixed words `bulk` and `by-filename`
therefore never collide with ids.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from . import appends, bulk, edits, folders, notes, wire
from .call import Call
from .message import Reply, Request
from .switches import Switches

BASE = ["api", "v1"]


@dataclass(frozen=True)
class Endpoint:
    name: str
    run: Callable[[Call], Reply]
    class_switch: str | None = None
    """The switch that decides the rate class, where the method does not."""


@dataclass(frozen=True)
class Route:
    endpoint: Endpoint
    id: int | None = None
    filename: str | None = None


def _endpoint(run: Callable[[Call], Reply], class_switch: str | None = None) -> Endpoint:
    return Endpoint(run.__name__, run, class_switch)


_APPEND = _endpoint(appends.append, "append_class")
_TABLE: dict[tuple[str, ...], Endpoint] = {
    ("GET", "notes"): _endpoint(notes.list_notes),
    ("POST", "notes"): _endpoint(notes.create_note),
    ("POST", "notes", "bulk"): _endpoint(bulk.create_notes),
    ("GET", "notes", "{id}"): _endpoint(notes.show_note),
    ("PATCH", "notes", "{id}"): _endpoint(edits.update_note),
    ("DELETE", "notes", "{id}"): _endpoint(notes.delete_note),
    ("POST", "notes", "{id}", "append"): _APPEND,
    ("POST", "notes", "{id}", "move"): _endpoint(edits.move_note, "move_class"),
    ("GET", "notes", "by-filename", "{filename}"): _endpoint(notes.show_note),
    ("PATCH", "notes", "by-filename", "{filename}"): _endpoint(edits.update_note),
    ("POST", "notes", "by-filename", "{filename}", "append"): _APPEND,
    ("GET", "folders"): _endpoint(folders.list_folders),
    ("POST", "folders"): _endpoint(folders.create_folder, "folder_class"),
    ("GET", "folders", "{id}"): _endpoint(folders.show_folder),
    ("PATCH", "folders", "{id}"): _endpoint(folders.update_folder, "folder_class"),
    ("DELETE", "folders", "{id}"): _endpoint(folders.delete_folder, "folder_class"),
}


def match(request: Request, switches: Switches) -> Route | None:
    segments = request.segments()
    if switches["dot_paths"] == "normalised":
        segments = _without_dots(segments)
    if segments[:2] != BASE:
        return None
    method = "GET" if request.method == "HEAD" else request.method
    rest = segments[2:]
    id = filename = None
    if len(rest) >= 3 and rest[:2] == ["notes", "by-filename"] and rest[2]:
        filename, rest[2] = rest[2], "{filename}"
    elif len(rest) >= 2 and (id := wire.whole_number(rest[1])) is not None:
        rest[1] = "{id}"
    endpoint = _TABLE.get((method, *rest))
    return Route(endpoint, id, filename) if endpoint else None


def _without_dots(segments: list[str]) -> list[str]:
    """What a URL parser on the way makes of `.` and `..` (C25)."""
    kept: list[str] = []
    for segment in segments:
        if segment == "..":
            del kept[-1:]
        elif segment != ".":
            kept.append(segment)
    return kept


def rate_class(request: Request, route: Route | None, switches: Switches) -> str:
    if request.method in ("GET", "HEAD"):
        return "read"
    if route is not None and route.endpoint.class_switch:
        return switches[route.endpoint.class_switch]
    return "write"
