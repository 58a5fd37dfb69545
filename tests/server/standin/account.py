"""An account: the pool of notes and folders that a personal token or the tokens of a team see.

It keeps the indices true (by name, by time, storage used) and knows the caps of its tier. It enforces
what no writer can get around, i.e. unique names; the rules of the API stand in `notes` and `folders`,
because other clients (the browser, the control port) are not bound by them.

Plans: `active`; `lapsed` (reads only); `no_api` and `unconfirmed` (nothing).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from .listing import Listing
from .note import Folder, Note, Tombstone
from .refusal import Refusal, invalid
from .switches import Switches

GIB = 1024 ** 3
PLANS = ("active", "lapsed", "no_api", "unconfirmed")


@dataclass
class Caps:
    """API.md (b). The team's note cap is unknown; it is at least the Dev tier's."""

    plain_notes: int
    storage_bytes: int
    rich_notes: int = 1000
    note_bytes: int = 3 * 1024 ** 2
    folders: int = 100


TIER_CAPS = {
    "dev": lambda: Caps(plain_notes=10_000, storage_bytes=15 * GIB),
    "team": lambda: Caps(plain_notes=50_000, storage_bytes=50 * 1000 ** 3),
}


class Sequence:
    """Database ids: shared by all accounts, never used twice."""

    def __init__(self, first: int = 1) -> None:
        self.next = first

    def take(self) -> int:
        self.next += 1
        return self.next - 1


class Account:
    def __init__(self, name: str, tier: str, switches: Switches,
                 note_ids: Sequence, folder_ids: Sequence) -> None:
        self.name = name
        self.tier = tier
        self.plan = "active"
        self.caps = TIER_CAPS[tier]()
        self.notes: dict[int, Note] = {}
        self.folders: dict[int, Folder] = {}
        self.tombstones: list[Tombstone] = []
        self.used_bytes = 0
        self.listing = Listing(self.notes, switches)
        self._switches = switches
        self._note_ids = note_ids
        self._folder_ids = folder_ids
        self._by_filename: dict[str, Note] = {}
        self._by_folded: dict[str, set[int]] = {}
        self._count = {"plain": 0, "rich": 0}

    @property
    def is_team(self) -> bool:
        return self.tier == "team"

    # Notes

    def find_by_filename(self, filename: str) -> Note | None:
        note = self._by_filename.get(filename)
        if note is None and self._switches["filename_case"] == "folded":
            twins = self._by_folded.get(filename.casefold())
            note = self.notes[min(twins)] if twins else None
        return note

    def clash(self, filename: str, own_id: int | None = None) -> bool:
        """Whether `filename` belongs to a note other than `own_id`, under the switch `filename_case`."""
        if self._switches["filename_case"] == "sensitive":
            holder = self._by_filename.get(filename)
            return holder is not None and holder.id != own_id
        return bool(self._by_folded.get(filename.casefold(), set()) - {own_id})

    def check_name(self, filename: str, own_id: int | None = None) -> None:
        if self.clash(filename, own_id):
            raise invalid("Filename has already been taken")

    def check_count(self, format: str = "plain", more: int = 1) -> None:
        cap = self.caps.plain_notes if format == "plain" else self.caps.rich_notes
        if self._count[format] + more > cap:
            raise Refusal("cap_exceeded", f"{format} note limit of {cap} reached")

    def check_size(self, size: int, replaced: int = 0) -> None:
        """The per-note cap, then the storage cap, for a body of `size` in place of `replaced` bytes."""
        if size > self.caps.note_bytes:
            raise Refusal("content_too_large",
                          f"body exceeds the per-note {self.caps.note_bytes} byte cap")
        if size > replaced and self.used_bytes - replaced + size > self.caps.storage_bytes:
            raise Refusal("storage_cap_exceeded",
                          f"storage cap of {self.caps.storage_bytes} bytes would be exceeded")

    def new_note(self, at: int, filename: str, title: str, body: str, **settings: Any) -> Note:
        return self.put(Note(self._note_ids.take(), filename, title, body, at, at, **settings))

    def put(self, note: Note) -> Note:
        note.byte_size = self._size(note)
        self.notes[note.id] = note
        self.used_bytes += note.byte_size
        self._count[note.format] += 1
        self._index_name(note)
        self.listing.add(note)
        return note

    def change(self, note: Note, **values: Any) -> None:
        """Set attributes and keep every index true. The only way to alter a stored note."""
        self.listing.drop(note)
        self._count[note.format] -= 1
        if "filename" in values:
            self._forget_name(note)
        for name, value in values.items():
            setattr(note, name, value)
        if "filename" in values:
            self._index_name(note)
        if "body" in values or "format" in values or "html_bytes" in values:
            self.used_bytes -= note.byte_size
            note.byte_size = self._size(note)
            self.used_bytes += note.byte_size
        self._count[note.format] += 1
        self.listing.add(note)

    def remove(self, note: Note, at: int, by: dict[str, Any]) -> None:
        self.discard(note)
        self.tombstones.append(Tombstone(note, at, by))

    def discard(self, note: Note) -> None:
        """Take a note out without a trace, as a rolled-back transaction does."""
        self.listing.drop(note)
        self._forget_name(note)
        self._count[note.format] -= 1
        self.used_bytes -= note.byte_size
        del self.notes[note.id]

    def _size(self, note: Note) -> int:
        if note.format == "rich" and self._switches["rich_size"] == "html":
            return note.html_bytes
        return len(note.body) if note.body.isascii() else len(note.body.encode())

    def _index_name(self, note: Note) -> None:
        self._by_filename[note.filename] = note
        self._by_folded.setdefault(note.filename.casefold(), set()).add(note.id)

    def _forget_name(self, note: Note) -> None:
        if self._by_filename.get(note.filename) is note:
            del self._by_filename[note.filename]
        twins = self._by_folded[note.filename.casefold()]
        twins.discard(note.id)
        if not twins:
            del self._by_folded[note.filename.casefold()]

    # Folders

    def check_folder_name(self, name: str, own_id: int | None = None) -> None:
        folded = name.casefold()
        if any(f.name.casefold() == folded and f.id != own_id for f in self.folders.values()):
            raise invalid("Name has already been taken")

    def new_folder(self, name: str, at: int) -> Folder:
        folder = Folder(self._folder_ids.take(), name, at, at)
        self.folders[folder.id] = folder
        return folder

    def remove_folder(self, folder: Folder, bump_to: int | None) -> None:
        """Un-folder its notes, with a new `updated_at` only if `bump_to` says so."""
        for note in [n for n in self.notes.values() if n.folder_id == folder.id]:
            self.change(note, folder_id=None, updated_at=bump_to or note.updated_at)
        del self.folders[folder.id]

    # State

    def as_json(self, bodies: bool = True) -> dict[str, Any]:
        return {
            "name": self.name, "tier": self.tier, "plan": self.plan, "caps": asdict(self.caps),
            "used_bytes": self.used_bytes,
            "notes": [self._note_json(note, bodies) for note in self.notes.values()],
            "folders": [folder.as_json() for folder in self.folders.values()],
            "tombstones": [stone.as_json() for stone in self.tombstones],
        }

    @staticmethod
    def _note_json(note: Note, bodies: bool) -> dict[str, Any]:
        dump = note.as_json()
        if not bodies:
            del dump["body"], dump["history"]
        return dump

    def load(self, dump: dict[str, Any]) -> None:
        self.plan = dump["plan"]
        self.caps = Caps(**dump["caps"])
        for row in dump["folders"]:
            self.folders[row["id"]] = Folder(**row)
        for row in dump["notes"]:
            self.put(Note(**row))
        for row in dump["tombstones"]:
            row = dict(row)
            deleted_at, by = row.pop("deleted_at"), row.pop("deleted_by")
            self.tombstones.append(Tombstone(Note(**row), deleted_at, by))
