"""The state directory of a mount that isn't running: what is owed there, looked at and made older."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def _copy(state: Path) -> Iterator[sqlite3.Connection]:
    """Of the database: looking at the original would change it."""
    with tempfile.TemporaryDirectory() as directory:
        for path in state.glob("state.db*"):
            shutil.copy(path, directory)
        database = sqlite3.connect(Path(directory) / "state.db")
        try:
            yield database
        finally:
            database.close()


def owed(state: Path) -> int:
    """How many files the service doesn't have as they are shown."""
    with _copy(state) as database:
        rows = database.execute("SELECT count(*) FROM node WHERE NOT folder AND NOT scratch AND name IS NOT NULL"
                                " AND (content != 0 OR id = 0 OR changed_at != 0)")
        return int(rows.fetchone()[0])


def keys(state: Path) -> list[str]:
    """Of the requests whose outcome isn't known."""
    with _copy(state) as database:
        return [key for (key,) in database.execute("SELECT key FROM frozen")]


def make_older(state: Path, seconds: float) -> None:
    """As if the requests whose outcome isn't known had been sent so much earlier."""
    database = sqlite3.connect(state / "state.db")
    with database:
        changed = database.execute("UPDATE frozen SET first_sent_ms = first_sent_ms - ?, last_sent_ms = last_sent_ms - ?",
                                   (int(seconds * 1000), int(seconds * 1000)))
        assert changed.rowcount > 0, "nothing is in doubt"
    database.close()
