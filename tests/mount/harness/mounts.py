"""The mounts of one test, and that nothing of them is left behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness import processes, table
from harness.mount import PROGRAM, Mount
from harness.service import Service


class Mounts:
    """`mount()` starts one in the foreground; `mount.new()` only prepares it."""

    def __init__(self, service: Service, directory: Path) -> None:
        self.service = service
        self.directory = directory
        self.all: list[Mount] = []

    def __call__(self, **arguments: Any) -> Mount:
        return self.new(**arguments).start()

    def new(self, home: Path | None = None, service: Service | None = None, **arguments: Any) -> Mount:
        """Keyword arguments: those of Mount; the rest are -o options."""
        assert Path(PROGRAM).exists(), f"{PROGRAM} isn't built: make"
        mount = Mount(service or self.service, home or self.directory / f"m{len(self.all)}", **arguments)
        self.all.append(mount)
        return mount

    def close(self) -> list[str]:
        """What was wrong or left, for people."""
        for mount in self.all:
            mount.close()
        problems = [problem for mount in self.all for problem in mount.problems]
        for path in table.below(self.directory):
            problems.append(f"{path} was still mounted")
            table.detach(path)
        for pid in processes.find(str(self.directory)):
            problems.append(f"process {pid} was left: {b' '.join(processes.cmdline(pid)).decode(errors='replace')}")
            processes.end(pid)
        return problems
