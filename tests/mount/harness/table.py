"""The kernel's mount table. Reading it touches no mount, so it can't hang."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Row:
    device: str
    path: Path
    type: str
    source: str
    options: str


def _unescape(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)


def rows() -> list[Row]:
    found = []
    for line in Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines():
        first, _, last = line.partition(" - ")
        fields, (kind, source, options) = first.split(), last.split(" ", 2)
        found.append(Row(fields[2], Path(_unescape(fields[4])), kind, _unescape(source), f"{fields[5]},{options}"))
    return found


def row(path: Path) -> Row | None:
    """The topmost mount at PATH."""
    return next((found for found in reversed(rows()) if found.path == path), None)


def below(directory: Path) -> list[Path]:
    return [found.path for found in rows() if found.path.is_relative_to(directory)]


def abort(path: Path) -> None:
    """Ends every request of the FUSE mount at PATH with ECONNABORTED: nothing that waits for it waits longer."""
    if found := row(path):
        control = Path("/sys/fs/fuse/connections", found.device.split(":")[1], "abort")
        if control.exists():
            control.write_text("1")


def detach(path: Path) -> None:
    """Unmounts PATH whatever uses it."""
    while row(path):
        commands = [["umount", "-l", str(path)]] if os.geteuid() == 0 else []
        commands.append(["fusermount3", "-uz", str(path)])
        if not any(subprocess.run(command, capture_output=True, timeout=20).returncode == 0 for command in commands):
            raise AssertionError(f"{path} can't be unmounted")
