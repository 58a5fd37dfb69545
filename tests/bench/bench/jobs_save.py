"""What a user's one action asks of the service."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from bench import timing, work
from bench.report import Aim, Row
from bench.stage import Stage, staged

FILES = 60
VIM = ["vim", "-u", "NONE", "-es", "-c", "set backup swapfile", "-c", "%s/milk/oat milk/", "-c", "wq"]


def _requests(stage: Stage, name: str, aim: int, words: list[str], done: str) -> Iterator[Row]:
    """Until the service has it: DONE is a text in some note's body."""
    with stage.service.requests() as log:
        start = time.perf_counter()
        program_s = timing.seconds(work.command, words)
        stage.service.wait_for(lambda: any(done in note["body"] for note in stage.service.dump()["accounts"][0]["notes"]),
                               30, 0.05)
        taken = time.perf_counter() - start
    changes = log.changes
    yield Row(f"{name}: changing calls", "", {"jotsfs": len(changes)}, against=None, aim=Aim(most=aim),
              note=f"{', '.join(changes)}, and {log.count('read')} reads; {program_s * 1e3:.0f} ms for the program,"
                   f" {taken:.1f} s until on the service")


def run() -> Iterator[Row]:
    with staged(100, bodies={"list.txt": "milk\nbread"}) as stage:
        directory = stage.jotsfs.path
        yield from _requests(stage, "vim, change and save", 1, [*VIM, str(directory / "list.txt")], "oat milk")
        yield from _requests(stage, "sed -i", 1, ["sed", "-i", "s/bread/rye bread/", str(directory / "list.txt")], "rye bread")
        source = _files(stage.local.path.parent / "source")
        yield from _requests(stage, f"cp of {FILES} files", 2, ["cp", *map(str, source), str(directory)], f"file {FILES - 1} ")


def _files(directory: Path) -> list[Path]:
    directory.mkdir()
    paths = [directory / f"copied {number}.txt" for number in range(FILES)]
    for number, path in enumerate(paths):
        path.write_text(f"file {number} \n" * 20)
    return paths
