"""Who offers a directory to work in. All that a job knows of them is here, so that a peer (sshfs, rclone, s3fs)
is one more subclass."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from harness import table
from harness.mount import REPOSITORY, Mount
from harness.patience import eventually
from harness.service import Service

FLOOR = os.environ.get("FLOOR", str(REPOSITORY / "build" / "bench" / "floor"))


class Candidate:
    name: str
    path: Path
    remote = True  # has something behind the kernel's page cache

    def start(self) -> None:
        """Ready to use when it returns."""

    def stop(self) -> None:
        """Whatever state it is in."""

    def remount(self) -> None:
        """As after a restart of the machine, with what it keeps."""


class Local(Candidate):
    name = "local"
    remote = False

    def __init__(self, path: Path) -> None:
        self.path = path


class Floor(Candidate):
    """Holds a copy of SOURCE in memory; a remount begins with that copy."""

    def __init__(self, source: Path, path: Path, attributes: bool = False) -> None:
        """ATTRIBUTES: one that can be asked for extended attributes."""
        self.name = "floor-x" if attributes else "floor"
        self.arguments = [*(["-x"] if attributes else []), str(source), str(path)]
        self.path = path
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.path.mkdir(exist_ok=True)
        self.process = subprocess.Popen([FLOOR, *self.arguments])
        eventually(lambda: table.row(self.path) or self.process.poll() is not None, 30, "the floor is mounted")
        assert self.process.poll() is None, "the floor ended"

    def stop(self) -> None:
        table.detach(self.path)
        if self.process:
            self.process.wait(20)

    def remount(self) -> None:
        self.stop()
        self.start()


class Jotsfs(Candidate):
    """With its defaults, whatever the test harness would rather have."""

    name = "jotsfs"

    def __init__(self, service: Service, home: Path, **options: Any) -> None:
        self.mount = Mount(service, home, **({"ttl": 5, "drain_timeout": 30} | options))
        self.path = self.mount.path

    def start(self) -> None:
        self.mount.start()

    def stop(self) -> None:
        self.mount.close()
        for problem in self.mount.problems:
            print(f"!! {problem}", flush=True)

    def remount(self) -> None:
        self.mount.remount()

    def forget(self) -> None:
        """Ends it and removes its state: the next start is cold."""
        self.mount.unmount(60)
        shutil.rmtree(self.mount.state)
        self.mount.process = None

    @property
    def memory_bytes(self) -> int:
        """Resident now."""
        pages = int(Path(f"/proc/{self.mount.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGESIZE")
