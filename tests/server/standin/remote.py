"""Other clients of the same account: the browser, a phone, a script on another machine.

What they do is not limited by the API's rules (the browser may unlock a note), is not in the request log
and costs no rate limit; it is in the notes' histories, as `{"by": "remote"}`. Notes are named by id or
filename, folders by id or name. `at` dates a change (epoch seconds or ISO time; default now).
"""

from __future__ import annotations

from typing import Any

from . import bodies
from .account import Account
from .note import Folder, Note, remembered
from .titles import filename_for_title
from .wire import parse_timestamp
from .world import World

_BY = {"by": "remote", "key": None}
_TIMES = {"created_at", "updated_at", "last_appended_at", "alerted_at", "webhook_disabled_at"}


class Remote:
    """Public methods are the verbs; `account` chooses whose notes."""

    def __init__(self, world: World, account: Account) -> None:
        self._world = world
        self._account = account

    def _at(self, at: str | float | None) -> int:
        return self._world.clock.now_us() if at is None else parse_timestamp(at)

    def find(self, note: int | str) -> Note:
        found = (self._account.notes.get(note) if isinstance(note, int)
                 else self._account.find_by_filename(note))
        if found is None:
            raise KeyError(f"no note {note!r} in account {self._account.name}")
        return found

    def find_folder(self, folder: int | str | None) -> Folder | None:
        if folder is None:
            return None
        for candidate in self._account.folders.values():
            if folder in (candidate.id, candidate.name):
                return candidate
        raise KeyError(f"no folder {folder!r} in account {self._account.name}")

    def _folder_id(self, folder: int | str | None) -> int | None:
        found = self.find_folder(folder)
        return found and found.id

    def _values(self, values: dict[str, Any]) -> dict[str, Any]:
        """Attributes of a note as the control port gives them; only those that a note has."""
        values = dict(values)
        if "folder" in values:
            values["folder_id"] = self._folder_id(values.pop("folder"))
        unknown = values.keys() - set(Note.__slots__)
        if unknown:
            raise ValueError(f"notes have no {', '.join(sorted(unknown))}")
        return {key: parse_timestamp(value) if key in _TIMES and value is not None else value
                for key, value in values.items()}

    def create(self, title: str, body: str = "", filename: str | None = None,
               at: str | float | None = None, **values: Any) -> Note:
        """A note; its filename follows the rule unless one is given exactly."""
        name = filename if filename is not None else filename_for_title(title, self._world.switches)
        self._account.check_name(name)
        note = self._account.new_note(self._at(at), name, title, body, **self._values(values))
        note.record("create", _BY, note.created_at, **remembered(body))
        return note

    def patch(self, note: int | str, body: str | None = None, title: str | None = None,
              filename: str | None = None, at: str | float | None = None, **values: Any) -> Note:
        """Change what is given, exactly as given: a title without the filename, and the other way round."""
        found, when = self.find(note), self._at(at)
        given = {"body": body, "title": title, "filename": filename}
        changes = {"updated_at": when, **{k: v for k, v in given.items() if v is not None},
                   **self._values(values)}
        if filename is not None:
            self._account.check_name(filename, found.id)
        self._account.change(found, **changes)
        found.record("patch", _BY, when, keys=sorted(changes.keys() - {"updated_at"}),
                     **({} if body is None else remembered(body)))
        return found

    def rename(self, note: int | str, title: str, at: str | float | None = None) -> Note:
        """A new title, and the filename that the rule makes of it."""
        return self.patch(note, title=title, filename=filename_for_title(title, self._world.switches),
                          at=at)

    def set(self, note: int | str, **values: Any) -> Note:
        """Set attributes without touching `updated_at` (unless it is among them)."""
        found = self.find(note)
        changes = self._values(values)
        if "filename" in changes:
            self._account.check_name(changes["filename"], found.id)
        self._account.change(found, **changes)
        return found

    def append(self, note: int | str, text: str, at: str | float | None = None) -> Note:
        """As through the API, separator included; creates an append-only note for an unknown filename."""
        when = self._at(at)
        if isinstance(note, str) and self._account.find_by_filename(note) is None:
            found = self._account.new_note(when, note, note, text, append_only=True, last_appended_at=when)
        else:
            found = self.find(note)
            self._account.change(found, body=bodies.joined(found.body, text, self._world.switches),
                                 updated_at=when, last_appended_at=when)
        found.record("append", _BY, when, **remembered(text))
        return found

    def delete(self, note: int | str) -> None:
        found, when = self.find(note), self._at(None)
        found.record("delete", _BY, when)
        self._account.remove(found, when, _BY)

    def move(self, note: int | str, folder: int | str | None, at: str | float | None = None) -> Note:
        return self.patch(note, folder=folder, at=at)

    def lock(self, note: int | str) -> Note:
        return self.patch(note, append_only=True)

    def unlock(self, note: int | str) -> Note:
        return self.patch(note, append_only=False)

    def make_rich(self, note: int | str, html_bytes: int | None = None) -> Note:
        """Turn a note rich; its body stays as the projection."""
        found = self.find(note)
        size = html_bytes if html_bytes is not None else found.byte_size * 2
        return self.patch(note, format="rich", html_bytes=size)

    def make_plain(self, note: int | str) -> Note:
        return self.patch(note, format="plain", html_bytes=0)

    def create_folder(self, name: str, at: str | float | None = None) -> Folder:
        self._account.check_folder_name(name)
        return self._account.new_folder(name, self._at(at))

    def rename_folder(self, folder: int | str, name: str) -> Folder:
        found = self.find_folder(folder)
        self._account.check_folder_name(name, found.id)
        found.name, found.updated_at = name, self._at(None)
        return found

    def delete_folder(self, folder: int | str) -> None:
        bumps = self._world.switches["folder_delete_bumps"] == "yes"
        self._account.remove_folder(self.find_folder(folder), self._at(None) if bumps else None)


VERBS = {name for name in vars(Remote) if not name.startswith("_") and not name.startswith("find")}
