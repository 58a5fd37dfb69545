"""Random operations give the same results and errors on the mount as on a plain directory, and the service ends up with
what the plain directory holds.

JOTSFS_SEED=N replays one sequence, JOTSFS_STEPS=N makes it longer; a failure prints the seed and the last steps.
"""

from __future__ import annotations

import errno
import os
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.mounts import Mounts
from harness.service import Service

STEPS = int(os.environ.get("JOTSFS_STEPS", "1500"))
SEEDS = [int(os.environ["JOTSFS_SEED"])] if "JOTSFS_SEED" in os.environ else [1, 2, 3, 4]

FILES = ("a", "b", "c", "dé", "note with space")
DIRECTORIES = ("D", "E")
CHUNKS = ("x", "line\n", "two\nlines\n", "\n", "ünï\n", "long " * 2000 + "\n", "no newline at all")
MOST_OPEN = 6

Action = tuple[object, ...]


class Tree:
    """A directory and the descriptors open in it; `do` answers an action's result or errno."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.open: dict[int, int] = {}

    def do(self, action: Action) -> object:
        try:
            return getattr(self, str(action[0]))(*action[1:])
        except OSError as error:
            return errno.errorcode[error.errno or 0]

    def write(self, name: str, text: str) -> None:
        (self.root / name).write_bytes(text.encode())

    def append(self, name: str, text: str) -> None:
        with (self.root / name).open("ab") as file:
            file.write(text.encode())

    def make(self, name: str) -> None:
        os.close(os.open(self.root / name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))

    def read(self, name: str) -> bytes:
        return (self.root / name).read_bytes()

    def size(self, name: str) -> tuple[bool, int]:
        path = self.root / name
        return path.is_dir(), 0 if path.is_dir() else path.stat().st_size

    def truncate(self, name: str, share: float) -> int:
        """Only shorter (a hole is no text), and at a character."""
        data = (self.root / name).read_bytes()
        size = len(data[:int(len(data) * share)].decode(errors="ignore").encode())
        os.truncate(self.root / name, size)
        return size

    def overwrite(self, name: str, share: float) -> None:
        with (self.root / name).open("r+b") as file:
            data = file.read()
            at = data.find(b"l", int(len(data) * share))
            if at >= 0:
                file.seek(at)
                file.write(b"L")

    def replace(self, name: str, text: str) -> None:
        """An atomic save."""
        beside = self.root / (name + ".tmp")
        beside.write_bytes(text.encode())
        os.rename(beside, self.root / name)

    def rename(self, old: str, new: str) -> None:
        os.rename(self.root / old, self.root / new)

    def unlink(self, name: str) -> None:
        os.unlink(self.root / name)

    def mkdir(self, name: str) -> None:
        os.mkdir(self.root / name)

    def rmdir(self, name: str) -> None:
        os.rmdir(self.root / name)

    def list(self, name: str) -> list[str]:
        return sorted(os.listdir(self.root / name))

    def hold(self, slot: int, name: str, flags: int) -> None:
        self.drop(slot)
        self.open[slot] = os.open(self.root / name, flags, 0o644)

    def drop(self, slot: int) -> None:
        if slot in self.open:
            os.close(self.open.pop(slot))

    def write_held(self, slot: int, text: str) -> int | None:
        return os.write(self.open[slot], text.encode()) if slot in self.open else None

    def read_held(self, slot: int, at: int) -> tuple[bytes, int] | None:
        if slot not in self.open:
            return None
        return os.pread(self.open[slot], 10_000, at), os.fstat(self.open[slot]).st_size

    def close(self) -> None:
        for slot in list(self.open):
            self.drop(slot)


def actions(random_: random.Random) -> Iterator[Action]:
    """Held files are written at their end only: elsewhere the text could be cut within a character."""
    flags = (os.O_RDONLY, os.O_RDWR | os.O_APPEND, os.O_WRONLY | os.O_APPEND | os.O_CREAT,
             os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_TRUNC)

    def name() -> str:
        directory = random_.choice(("", "", *(f"{name}/" for name in DIRECTORIES)))
        return directory + random_.choice(FILES)

    def text() -> str:
        return "".join(random_.choices(CHUNKS, weights=(3, 9, 5, 2, 5, 1, 2), k=random_.randint(0, 4)))

    def slot() -> int:
        return random_.randrange(MOST_OPEN)

    choices: list[tuple[int, Callable[[], Action]]] = [
        (10, lambda: ("write", name(), text())),
        (14, lambda: ("append", name(), text())),
        (4, lambda: ("make", name())),
        (12, lambda: ("read", name())),
        (8, lambda: ("size", name())),
        (5, lambda: ("truncate", name(), random_.random())),
        (5, lambda: ("overwrite", name(), random_.random())),
        (6, lambda: ("replace", name(), text())),
        (10, lambda: ("rename", name(), name())),
        (2, lambda: ("rename", random_.choice(DIRECTORIES), random_.choice(DIRECTORIES))),
        (1, lambda: ("rename", random_.choice(DIRECTORIES), name())),
        (1, lambda: ("rename", name(), random_.choice(DIRECTORIES))),
        (7, lambda: ("unlink", random_.choice((name(), name(), random_.choice(DIRECTORIES))))),
        (5, lambda: ("mkdir", random_.choice((*DIRECTORIES, *DIRECTORIES, FILES[0])))),
        (3, lambda: ("rmdir", random_.choice((*DIRECTORIES, name())))),
        (6, lambda: ("list", random_.choice(("", *DIRECTORIES)))),
        (5, lambda: ("hold", slot(), name(), random_.choice(flags))),
        (4, lambda: ("drop", slot())),
        (8, lambda: ("write_held", slot(), text())),
        (8, lambda: ("read_held", slot(), random_.randrange(50))),
    ]
    weights = [weight for weight, _ in choices]
    while True:
        yield random_.choices(choices, weights)[0][1]()


def is_ours_alone(action: Action, plain: Path) -> bool:
    """What the mount refuses by design and a plain directory allows: a filename twice in the account, a directory in a
    directory."""
    names = [Path(word) for word in action[1:] if isinstance(word, str)]
    if action[0] == "rename" and (plain / names[0]).is_dir() and len(names[1].parts) > 1:
        return True
    made = {"rename": names[1:], "write": names[:1], "append": names[:1], "make": names[:1], "hold": names[:1],
            "replace": [names[0], Path(f"{names[0]}.tmp")] if names else []}.get(str(action[0]), [])
    leaves = names[0] if action[0] == "rename" else None
    directories = [Path(), *(path.relative_to(plain) for path in plain.iterdir() if path.is_dir())]
    return any((plain / directory / name.name).exists() and directory / name.name not in (name, leaves)
               for name in made for directory in directories)


def compare(seed: int, mounted: Path, plain: Path) -> None:
    """Runs in a child process: every step may hang."""
    trees = Tree(mounted), Tree(plain)
    steps = [action for _, action in zip(range(STEPS), actions(random.Random(seed)))]
    done: list[str] = []
    for action in steps:
        if is_ours_alone(action, plain):
            continue
        ours, theirs = (tree.do(action) for tree in trees)
        done.append(f"{action!r:.150} -> {theirs!r:.80}")
        if ours != theirs:
            raise AssertionError("\n".join([f"seed {seed}", *done[-25:], f"the mount says {ours!r:.300}"]))
    for tree in trees:
        tree.close()
    ours, theirs = content(mounted), content(plain)
    assert ours == theirs, f"seed {seed}, at the end"


def content(root: Path) -> dict[str, bytes | None]:
    return {str(path.relative_to(root)): None if path.is_dir() else path.read_bytes() for path in root.rglob("*")}


def on_the_service(service: Service) -> dict[str, str | None]:
    folders = {row["id"]: row["name"] for row in service.folders()}
    found: dict[str, str | None] = {name: None for name in folders.values()}
    for note in service.notes():
        place = f"{folders[note['folder_id']]}/" if note["folder_id"] else ""
        found[place + note["filename"]] = service.body(note["id"])
    return found


def as_stored(data: bytes | None) -> str | None:
    """A file's body (DESIGN.md, Text): without its final newline when it ends in exactly one after something."""
    if data is None:
        return None
    text = data.decode()
    return text[:-1] if len(text) > 1 and text.endswith("\n") and text[-2] != "\n" else text


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("separator", ["always", "missing"])
def test_like_a_plain_directory(service: Service, mount: Mounts, seed: int, separator: str) -> None:
    print(f"JOTSFS_SEED={seed}")
    # Empty bodies are another test's matter: here they would stay unsaved for good.
    service.switch(empty_patch="accepted", append_separator=separator)
    service.unlimited()
    plain = Path(tempfile.mkdtemp(prefix="jotsfs-plain.", dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None))
    try:
        jots = mount(settle=0.1, settle_delete=0.2)
        jots.do(compare, seed, jots.path, plain, timeout_s=120)
        jots.settled(60)
        wanted = content(plain)
        assert jots.do(content, jots.path) == wanted
        assert on_the_service(service) == {name: as_stored(data) for name, data in wanted.items()}
        jots.remount()
        assert jots.do(content, jots.path) == wanted
    finally:
        shutil.rmtree(plain)
