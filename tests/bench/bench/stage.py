"""An account, and every candidate with the same files."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.candidate import Candidate, Floor, Jotsfs, Local
from harness import child
from harness.service import Service

LATENCY_MS = 80


@dataclass
class Stage:
    service: Service
    jotsfs: Jotsfs
    floor: Floor
    floor_x: Floor
    local: Local

    @property
    def all(self) -> list[Candidate]:
        return [self.jotsfs, self.floor, self.local]


def _write_files(service: Service, directory: Path) -> None:
    """The account's notes as files: what a mount shows."""
    account = service.dump()["accounts"][0]
    folders = {folder["id"]: directory / folder["name"] for folder in account["folders"]}
    for path in [directory, *folders.values()]:
        path.mkdir(parents=True, exist_ok=True)
    for note in account["notes"]:
        body = note["body"]
        end = "\n" if body and not body.endswith("\n") else ""
        (folders.get(note["folder_id"], directory) / note["filename"]).write_text(body + end)


@contextmanager
def staged(notes: int = 0, body_bytes: int = 400, folders: int = 0, bodies: dict[str, str] | None = None,
           limits: bool = False, **options: Any) -> Iterator[Stage]:
    """An account of NOTES seeded notes and of those in BODIES, all candidates started on it. The service answers
    after LATENCY_MS and, unless LIMITS, takes any number of changes. OPTIONS are of jotsfs."""
    home = Path(tempfile.mkdtemp(prefix="jotsfs-bench-"))
    with Service(tier="team" if notes > 9000 else "dev") as service:
        service.seed(count=notes, body_bytes=body_bytes, folders=folders)
        for name, body in (bodies or {}).items():
            service.remote.create(name, body)
        if not limits:
            for klass in ("append", "write"):  # reads stay limited: jotsfs paces its sweeps by that
                service.limit(klass, 10**9)
        service.fault("latency", ms=LATENCY_MS)
        stage = Stage(service, Jotsfs(service, home / "jotsfs", **options), Floor(home / "local", home / "floor"),
                      Floor(home / "local", home / "floor-x", attributes=True), Local(home / "local"))
        _write_files(service, stage.local.path)
        try:
            for candidate in [*stage.all, stage.floor_x]:
                candidate.start()
                child.within(60, os.listdir, candidate.path)  # jotsfs now has its first list
            yield stage
        finally:
            for candidate in [*stage.all, stage.floor_x]:
                candidate.stop()
            shutil.rmtree(home)
