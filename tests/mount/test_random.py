"""Random lives of a mount: local changes, descriptors held open, changes made elsewhere, kill -9, remounts and quiet moments, in
any order. A plain directory lives the same life: every call must give the same result, inode numbers must stay with the same
files, in quiet moments the service must hold what the directory holds, and all of it must never cost more calls than if every
step had been sent as it was made.

JOTSFS_SEED=N replays one life, JOTSFS_LIVES=N lives more of them, JOTSFS_PHASES=N longer ones; a failure prints the seed and
the last steps.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import tempfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest

from harness.child import Program
from harness.mount import Mount
from harness.mounts import Mounts
from harness.patience import eventually
from harness.service import Requests, Service
from test_differential import Action, Tree, actions, as_stored, content, is_ours_alone, on_the_service

PHASES = int(os.environ.get("JOTSFS_PHASES", "12"))
STEPS_OF_A_PHASE = 30
SEEDS = [int(os.environ["JOTSFS_SEED"])] if "JOTSFS_SEED" in os.environ else \
    list(range(1, 1 + int(os.environ.get("JOTSFS_LIVES", "4"))))

# Steps that change nothing that the service knows of.
FREE = {"read", "size", "list", "drop", "read_held"}


class Pair:
    """Lives in a process of its own: the mount and the plain directory, and what is open in them."""

    def __init__(self, mounted: Path, plain: Path) -> None:
        self.mounted, self.plain = Tree(mounted), Tree(plain)
        self.done: list[str] = []
        self.inodes: dict[int, int] = {}

    def play(self, steps: list[Action]) -> int:
        """How many of the steps a simple client would have sent."""
        cost = 0
        for action in steps:
            if is_ours_alone(action, self.plain.root):
                continue
            wanted, got = self.plain.do(action), self.mounted.do(action)
            self.done.append(f"{action!r:.150} -> {wanted!r:.100}")
            if got != wanted:
                self.fail(f"the mount says {got!r:.300}")
            cost += action[0] not in FREE and not str(wanted).startswith("E")
        self.compare()
        return cost

    def compare(self) -> None:
        wanted, got = content(self.plain.root), content(self.mounted.root)
        if wanted != got:
            names = {name for name in wanted.keys() | got.keys() if wanted.get(name, 0) != got.get(name, 0)}
            self.fail("".join(f"{name}: {got.get(name, 0)!r:.200} not {wanted.get(name, 0)!r:.200}\n" for name in names))
        for name in wanted:
            ours, theirs = ((tree.root / name).stat() for tree in (self.mounted, self.plain))
            if self.inodes.setdefault(theirs.st_ino, ours.st_ino) != ours.st_ino:
                self.fail(f"{name} is another file now")
        if len(set(self.inodes.values())) != len(self.inodes):
            self.fail("two files have had the same inode number")

    def remote(self, *action: object) -> None:
        self.done.append(f"elsewhere {action!r:.150}")
        assert self.plain.do(action) is None, action

    def note(self, text: str) -> None:
        self.done.append(text)

    def lose(self) -> None:
        """The mount has died: its descriptors are of no use."""
        for tree in (self.mounted, self.plain):
            for slot in list(tree.open):
                try:
                    tree.drop(slot)
                except OSError:
                    tree.open.pop(slot, None)

    def fail(self, why: str) -> None:
        raise AssertionError("\n".join([*self.done[-60:], why]))


def as_shown(body: str) -> str:
    return body + "\n" if body and not body.endswith("\n") else body


def names_in(root: Path) -> list[str]:
    return [str(path.relative_to(root)) for path in root.rglob("*")]


pair: Pair


def begin(mounted: Path, plain: Path) -> None:
    global pair
    pair = Pair(mounted, plain)


def play(steps: list[Action]) -> int:
    return pair.play(steps)


def remote(*action: object) -> None:
    pair.remote(*action)


def note(text: str) -> None:
    pair.note(text)


def lose() -> None:
    pair.lose()


class Life:
    def __init__(self, seed: int, service: Service, jots: Mount, plain: Path, program: Program) -> None:
        self.random = random.Random(seed)
        self.service, self.jots, self.plain, self.program = service, jots, plain, program
        self.steps: Iterator[Action] = actions(random.Random(seed + 1000))
        self.naive = 0
        self.requests = Requests(service)
        program.call(begin, jots.path, plain)

    def local(self) -> None:
        steps = list(islice(self.steps, self.random.randrange(3, STEPS_OF_A_PHASE)))
        self.naive += self.program.call(play, steps, timeout_s=60)

    def die(self) -> None:
        self.program.call(note, "kill -9")
        self.jots.process.send_signal(signal.SIGKILL)
        self.jots.process.wait()
        self.program.call(lose)
        self.jots.remount()
        self.naive += self.program.call(play, [])

    def remount(self) -> None:
        self.program.call(note, "remount")
        self.program.call(lose)
        self.jots.remount()
        self.naive += self.program.call(play, [])

    def quiet(self) -> None:
        """All is sent. (What is held open may be sent later.)"""
        self.program.call(note, "quiet")
        self.program.call(lose)
        self.jots.settled(60)
        assert self.jots.status()["errors"] == []
        wanted = content(self.plain)
        assert on_the_service(self.service) == {name: as_stored(data) for name, data in wanted.items()}, self.history()
        keys = {row["key"] for row in self.requests.all() if row["key"]}
        assert len(keys) <= self.naive, self.history()

    def history(self) -> str:
        return "\n".join(self.program.call(history))

    def elsewhere(self) -> None:
        """In a quiet moment, a few changes of every kind."""
        self.quiet()
        for _ in range(self.random.randrange(1, 5)):
            self.change_elsewhere([str(path.relative_to(self.plain)) for path in self.plain.rglob("*") if path.is_file()])
        self.jots.refresh()
        # A note that a list lacks is asked for before it is believed to be gone.
        names = sorted(content(self.plain))
        eventually(lambda: sorted(self.jots.do(names_in, self.jots.path)) == names, 5, f"{names}\n{self.history()}")
        self.program.call(play, [])

    def change_elsewhere(self, files: list[str]) -> None:
        kind = self.random.choice(("create", "patch", "patch", "append", "append", "delete", "move"))
        if kind == "create":
            name = f"new {self.service.last()} {self.random.random():.4f}"
            self.service.remote.create(name, "made elsewhere")
            self.program.call(remote, "write", name, "made elsewhere\n")
            return
        if not files:
            return
        path = self.random.choice(files)
        name = Path(path).name
        if kind == "patch":
            text = f"one\nelsewhere {self.random.random()}\nthree"
            self.service.remote.patch(name, text)
            self.program.call(remote, "write", path, text + "\n")
        elif kind == "append":
            self.service.remote.append(name, "a line from elsewhere")
            self.program.call(remote, "write", path, as_shown(self.service.body(name)))
        elif kind == "delete":
            self.service.remote.delete(name)
            self.program.call(remote, "unlink", path)
            files.remove(path)
        elif as_shown(self.service.body(name)) == (self.plain / path).read_text():
            # (Else it depends on the second whether that is a new version, of which a final newline is shown.)
            folders = [None, *self.service.folders()]
            folder = self.random.choice(folders)
            new = f"{folder['name']}/{name}" if folder else name
            if (self.plain / new).is_dir():
                return
            self.service.remote.move(name, folder and folder["id"])
            self.program.call(remote, "rename", path, new)
            files[files.index(path)] = new

    def live(self) -> None:
        for _ in range(PHASES):
            self.local()
            self.random.choices((self.die, self.remount, self.quiet, self.elsewhere, lambda: None),
                                weights=(4, 1, 2, 4, 6))[0]()
        self.quiet()
        self.jots.remount()
        self.program.call(play, [])


def history() -> list[str]:
    return pair.done[-60:]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_life(service: Service, mount: Mounts, seed: int) -> None:
    print(f"JOTSFS_SEED={seed}")
    # Empty bodies are another test's matter: here they would stay unsaved for good.
    service.switch(empty_patch="accepted", append_separator=("always", "missing")[seed % 2])
    service.unlimited()
    if seed % 2:  # answers are late, and some of those to changes are lost
        service.fault("latency", ms=20)
        service.fault("reset_after", probability=0.05, seed=seed, klass="append")
        service.fault("reset_after", probability=0.05, seed=seed, klass="write", path=r"/(bulk|folders.*|notes|notes/[1-9].*)$")
    plain = Path(tempfile.mkdtemp(prefix="jotsfs-plain.", dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None))
    try:
        with Program() as program:
            Life(seed, service, mount(settle=0.1, settle_delete=0.2, ttl=0.5), plain, program).live()
    finally:
        shutil.rmtree(plain)
