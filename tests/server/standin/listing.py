"""Sorted views of an account's notes, so that a page of a 50,000-note account costs no sort.

A view is one (sort, folder, format) combination as a sorted list of (key, id), built when first asked
for and then kept up to date: before a note changes `drop` takes it out of every view, afterwards `add`
puts it back. Lists are kept most recent first, so keys are negated times.
"""

from __future__ import annotations

import random
from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterable
from typing import Any

from .clock import SECOND
from .note import Note
from .switches import Switches

TIME_OF = {"updated": "updated_at", "created": "created_at", "appended": "last_appended_at"}
MOST_VIEWS = 64

Key = tuple[Any, ...]


def _key_function(sort: str, ties: str, nulls: str) -> Callable[[Note], Key]:
    attribute = TIME_OF[sort]
    unit = 1 if ties == "precise" else SECOND
    sign = 1 if ties == "id_asc" else -1
    null_rank = 1 if nulls == "last" else -1

    def key(note: Note) -> Key:
        at = getattr(note, attribute)
        if at is None:
            return (null_rank, 0, sign * note.id, note.id)
        return (0, -(at // unit), sign * note.id, note.id)

    return key


class View:
    """One sorted list, with the test whether a note belongs to it."""

    def __init__(self, key: Callable[[Note], Key], folder: Any, format: str | None) -> None:
        self._key = key
        self._folder = folder
        self._format = format
        self._rows: list[Key] = []

    def covers(self, note: Note) -> bool:
        return ((self._folder == "any" or note.folder_id == self._folder)
                and (self._format is None or note.format == self._format))

    def fill(self, notes: Iterable[Note]) -> None:
        self._rows = sorted(self._key(note) for note in notes if self.covers(note))

    def add(self, note: Note) -> None:
        insort(self._rows, self._key(note))

    def drop(self, note: Note) -> None:
        del self._rows[bisect_left(self._rows, self._key(note))]

    def ids(self, offset: int, limit: int) -> list[int]:
        return [row[-1] for row in self._rows[offset:offset + limit]]

    def shuffled_ids(self, offset: int, limit: int, rng: random.Random) -> list[int]:
        """A page in which the order among equal times is drawn anew, as a database without an
        `ORDER BY ..., id` may do from one query to the next."""
        page = self._rows[offset:offset + limit]
        if not page:
            return []
        start = bisect_left(self._rows, page[0][:2])
        end = bisect_right(self._rows, (*page[-1][:2], float("inf")))
        rows = self._rows[start:end]
        rows.sort(key=lambda row: (row[:2], rng.random()))
        return [row[-1] for row in rows[offset - start:offset - start + limit]]


class Listing:
    def __init__(self, notes: dict[int, Note], switches: Switches) -> None:
        self._notes = notes
        self._switches = switches
        self._views: dict[tuple[Any, ...], View] = {}
        self._rng = random.Random(1)

    def drop(self, note: Note) -> None:
        for view in self._views.values():
            if view.covers(note):
                view.drop(note)

    def add(self, note: Note) -> None:
        for view in self._views.values():
            if view.covers(note):
                view.add(note)

    def page(self, sort: str, folder: Any, format: str | None, offset: int, limit: int) -> list[Note]:
        """Notes of one page; `folder` is an id, None for the root, or "any"."""
        view = self._view(sort, folder, format)
        if self._switches["list_ties"] == "random":
            ids = view.shuffled_ids(offset, limit, self._rng)
        else:
            ids = view.ids(offset, limit)
        return [self._notes[note_id] for note_id in ids]

    def _view(self, sort: str, folder: Any, format: str | None) -> View:
        ties, nulls = self._switches["list_ties"], self._switches["list_nulls"]
        name = (sort, folder, format, ties, nulls)
        view = self._views.pop(name, None)
        if view is None:
            view = View(_key_function(sort, ties, nulls), folder, format)
            view.fill(self._notes.values())
            if len(self._views) >= MOST_VIEWS:
                del self._views[next(iter(self._views))]
        self._views[name] = view
        return view
