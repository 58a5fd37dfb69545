"""Power loss: what jotsfs wrote and did not sync is undone after its end (powerloss.c keeps what that takes)."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

SOURCE = Path(__file__).parent.parent / "powerloss.c"


class PowerLoss:
    """`env` is for a mount whose state directory lies below ROOT. LOSE says what is lost: "all" that wasn't synced, or
    "contents" alone or "names" alone, as a disk may keep one and lose the other."""

    def __init__(self, root: Path, directory: Path) -> None:
        self.root = root
        self.journal = directory / "journal"
        self.library = directory / "powerloss.so"
        self.journal.mkdir(parents=True)
        command = ["gcc", "-shared", "-fPIC", "-O1", "-w", "-o", str(self.library), str(SOURCE), "-ldl", "-lpthread"]
        subprocess.run(command, check=True, capture_output=True, timeout=60)
        self.env = {"LD_PRELOAD": str(self.library), "POWERLOSS_ROOT": str(root), "POWERLOSS_JOURNAL": str(self.journal)}

    def strike(self, lose: str = "all") -> int:
        """Undoes; how many files and names were lost. The process must have been killed."""
        lost = 0
        if lose in ("all", "contents"):
            lost += self._undo_contents()
        if lose in ("all", "names"):
            lost += self._undo_names()
        shutil.rmtree(self.journal)
        self.journal.mkdir()
        return lost

    def _undo_contents(self) -> int:
        copies = {path.name: path for path in self.journal.iterdir() if "-" in path.name and not path.name.startswith("gone")}
        lost = 0
        for directory, _, names in os.walk(self.root):
            for path in (Path(directory) / name for name in names):
                status = path.lstat()
                copy = copies.get(f"{status.st_dev}-{status.st_ino}")
                if copy is not None:
                    with path.open("wb") as file:
                        file.write(copy.read_bytes())
                    lost += 1
        for kept in self.journal.glob("gone-*"):
            status = kept.lstat()
            copy = copies.get(f"{status.st_dev}-{status.st_ino}")
            if copy is not None:
                kept.write_bytes(copy.read_bytes())
        return lost

    def _undo_names(self) -> int:
        record = self.journal / "names"
        rows = [line.split() for line in record.read_text().splitlines()] if record.exists() else []
        synced: dict[str, int] = {row[1]: index for index, row in enumerate(rows) if row[0] == "synced"}
        lost = 0
        for index, row in reversed(list(enumerate(rows))):
            if row[0] == "synced" or index < synced.get(str(Path(row[1]).parent), -1):
                continue
            lost += 1
            Path(row[1]).unlink(missing_ok=True)
            if row[0] == "removed":
                os.link(row[2], row[1])
        return lost
