"""fsync doesn't lie: what it acknowledged is there after a power loss, and no idempotency key is lost."""

from __future__ import annotations

import errno
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness import state
from harness.child import Program, errno_of
from harness.mount import Mount
from harness.mounts import Mounts
from harness.patience import eventually, patience
from harness.powerloss import PowerLoss
from harness.service import Service

AT_ONCE_S = 1.5


@pytest.fixture
def power(tmp_path: Path) -> Iterator[PowerLoss]:
    (tmp_path / "disk").mkdir()
    yield PowerLoss(tmp_path / "disk", tmp_path / "power")


def on_disk(mount: Mounts, power: PowerLoss, **options: object) -> Mount:
    """A mount whose state lies on the disk that will lose its power."""
    jots = mount(state=power.root / "state", env=power.env, **options)
    jots.expect_error("")
    return jots


def strike(jots: Mount, power: PowerLoss, lose: str = "all") -> int:
    jots.kill()
    return power.strike(lose)


def put(path: str, data: bytes, flags: int, how: str) -> None:
    """One write that is synced as HOW says when this returns."""
    fd = os.open(path, flags | os.O_CREAT | (getattr(os, how) if how.startswith("O_") else 0), 0o644)
    os.write(fd, data)
    if how in ("fsync", "fdatasync"):
        getattr(os, how)(fd)
    os.close(fd)
    if how == "directory":
        fd = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY)
        os.fsync(fd)
        os.close(fd)


APPEND = os.O_WRONLY | os.O_APPEND
REWRITE = os.O_WRONLY | os.O_TRUNC
HOW = pytest.mark.parametrize("how", ["fsync", "fdatasync", "O_SYNC", "O_DSYNC", "directory"])
LOSE = pytest.mark.parametrize("lose", ["all", "contents", "names"])


def test_without_fsync_it_can_be_lost(service: Service, mount: Mounts, power: PowerLoss) -> None:
    """The loss is real: else the tests below prove nothing."""
    service.remote.create("note", "old")
    jots = on_disk(mount, power)
    service.down()
    jots.do(put, str(jots / "note"), b"line\n", APPEND, "none")
    assert strike(jots, power) > 0
    service.up()
    jots.start()
    jots.settled()
    assert service.body("note") == "old"


def test_after_five_seconds_it_is_safe(service: Service, mount: Mounts, power: PowerLoss) -> None:
    service.remote.create("note", "old")
    jots = on_disk(mount, power)
    service.down()
    jots.do(put, str(jots / "note"), b"line\n", APPEND, "none")
    time.sleep(patience(5.5))
    strike(jots, power)
    service.up()
    jots.start()
    jots.settled()
    assert service.body("note") == "old\nline"


@HOW
@LOSE
@pytest.mark.parametrize("kind", ["append", "rewrite", "new", "new in a folder"])
def test_what_was_acknowledged_is_there(service: Service, mount: Mounts, power: PowerLoss, how: str, lose: str,
                                        kind: str) -> None:
    service.remote.create("note", "old")
    service.remote.create_folder("Work")
    jots = on_disk(mount, power, settle=0.1)
    jots.read("note")
    service.down()
    name = {"append": "note", "rewrite": "note", "new": "new", "new in a folder": "Work/new"}[kind]
    flags = APPEND if kind in ("append", "new") else REWRITE
    jots.do(put, str(jots / name), b"line\n", flags, how)
    jots.sh("echo later >> other")  # not synced; may be lost, and must not take anything along
    strike(jots, power, lose)
    jots.start()
    wanted = b"old\nline\n" if kind == "append" else b"line\n"
    if kind != "append":  # whose body was only cached
        assert jots.read(name) == wanted
    service.up()
    jots.settled(30)
    assert jots.read(name) == wanted
    assert service.body(os.path.basename(name)) + "\n" == wanted.decode()


def synced_lines(path: str, tag: str, seed: int) -> tuple[int, int]:
    """Until it fails: how many lines were synced, how many written."""
    choice = random.Random(seed)
    written = synced = 0
    try:
        fd = os.open(path, APPEND | os.O_CREAT, 0o644)
        while True:
            os.write(fd, f"{tag} {written}\n".encode())
            written += 1
            if choice.random() < 0.2:
                os.fsync(fd)
                synced = written
    except OSError:
        return synced, written


@pytest.mark.parametrize("seed", range(int(os.environ.get("JOTSFS_POWER_LOSSES", "6"))))
def test_at_random_instants(service: Service, mount: Mounts, power: PowerLoss, seed: int) -> None:
    """While it is sending: synced lines are there exactly once, others at most once, and in order; keys survive."""
    choice = random.Random(seed)
    service.unlimited()
    names = ["one", "two", f"new{seed}"]
    for name in names[:2]:
        service.remote.create(name, "")
    jots = on_disk(mount, power, settle=0.1)
    if seed % 2:
        service.fault("hang_after", klass="append", probability=0.5)
    accepted = []
    for number in range(3):
        with Program() as one, Program() as two, Program() as three:
            programs = [one, two, three]
            for name, program in zip(names, programs, strict=True):
                program.start(synced_lines, str(jots / name), f"{number}", seed)
            time.sleep(choice.random() * 0.6)
            os.kill(jots.pid, 9)
            results = [program.result() for program in programs]
        accepted += [(name, f"{number}", *result) for name, result in zip(names, results, strict=True)]
        strike(jots, power, choice.choice(["all", "contents", "names"]))
        jots.start()
    service.clear_faults()
    service.release()
    jots.settled(60)
    for name, tag, synced, written in accepted:
        note = service.note(name)
        body = note["body"] if note else ""
        mine = [int(line.split()[1]) for line in body.splitlines() if line.split()[0] == tag]
        assert mine == list(range(len(mine))), f"{name} {tag}"
        assert synced <= len(mine) <= written + 1, f"{name} {tag}"


def test_the_key_is_safe_before_a_byte_leaves(service: Service, mount: Mounts, power: PowerLoss) -> None:
    """The service has it, we have lost everything that wasn't synced: it is asked again under the same key."""
    service.remote.create("note", "old")
    jots = on_disk(mount, power)
    service.fault("hang_after", klass="append")
    jots.sh("echo line >> note")
    eventually(lambda: service.body("note") == "old\nline", 10, "it is committed")
    strike(jots, power)
    assert state.keys(jots.state) == [service.log(klass="append")[0]["key"]]
    service.clear_faults()
    service.release()
    jots.start()
    jots.settled(30)
    assert service.body("note") == "old\nline"


def test_the_reply_is_forgotten(service: Service, mount: Mounts, power: PowerLoss) -> None:
    """What the reply did was not synced, and what it let go of is still there: nothing is sent twice, nothing lost."""
    service.remote.create("note", "old")
    jots = on_disk(mount, power)
    jots.sh("echo one >> note")
    jots.settled()
    jots.do(put, str(jots / "note"), b"two\n", APPEND, "fsync")
    jots.settled()
    for lose in ("all", "contents", "names"):
        jots.sh(f"echo {lose} >> note; printf '{lose}\\n' > new; sed -i 's/old/&/' note")
        jots.settled()
        strike(jots, power, lose)
        jots.start()
        jots.settled(30)
    assert service.body("note").splitlines() == ["old", "one", "two", "all", "contents", "names"]
    jots.refresh()
    assert jots.read("note").decode() == service.body("note") + "\n"
    assert service.filenames() == ["new", "note"]
    jots.sh("echo more >> note; echo more >> new")
    jots.settled()
    assert service.body("note").splitlines()[-1] == service.body("new").splitlines()[-1] == "more"


def test_a_torn_record_is_cut(service: Service, mount: Mounts) -> None:
    """The last record is there in part: those before it count, and appending goes on."""
    service.remote.create("note", "old")
    jots = mount()
    jots.expect_error("")
    service.down()
    jots.sh("for i in 1 2 3; do echo line $i >> note; done")
    jots.kill()
    tail, = (jots.state / "tails").iterdir()
    data = tail.read_bytes()
    tail.write_bytes(data[:-3])
    jots.start()
    jots.sh("echo more >> note")
    service.up()
    jots.settled(30)
    assert service.body("note").splitlines() == ["old", "line 1", "line 2", "more"]


# --- -o fsync=server ---

def timed(function: object, *arguments: object) -> tuple[str, float]:
    begun = time.monotonic()
    return errno_of(function, *arguments), time.monotonic() - begun


def test_local_fsync_waits_for_nobody(service: Service, mount: Mounts) -> None:
    service.remote.create("note", "old")
    jots = mount()
    jots.expect_error("")
    service.black_hole()
    with Program() as writer:
        fd = writer.call(os.open, str(jots / "note"), APPEND)
        writer.call(os.write, fd, b"half")
        result, elapsed = writer.call(timed, os.fsync, fd)
    assert result == "OK" and elapsed < patience(AT_ONCE_S)
    service.up()


def test_fsync_sends_at_once(service: Service, mount: Mounts) -> None:
    """A known note doesn't settle, a partial line doesn't wait; a new file may be the temporary file of a save."""
    service.remote.create("note", "old")
    jots = mount(settle=5)
    with Program() as writer:
        fd = writer.call(os.open, str(jots / "note"), APPEND)
        writer.call(os.write, fd, b"half")
        writer.call(os.fsync, fd)
        eventually(lambda: service.body("note") == "old\nhalf", 3, "the partial line is sent")
        fd = writer.call(os.open, str(jots / "note"), REWRITE)
        writer.call(os.write, fd, b"new\n")
        writer.call(os.fsync, fd)
        eventually(lambda: service.body("note") == "new", 3, "the rewrite is sent")
        fd = writer.call(os.open, str(jots / "file"), REWRITE | os.O_CREAT)
        writer.call(os.write, fd, b"new\n")
        writer.call(os.fsync, fd)
        time.sleep(0.5)
        assert service.filenames() == ["note"]


@pytest.mark.parametrize("kind", ["append", "rewrite", "O_SYNC"])
def test_fsync_server(service: Service, mount: Mounts, kind: str) -> None:
    service.remote.create("note", "old")
    service.fault("latency", ms=300, klass="append")
    jots = mount(fsync="server")
    flags = {"append": APPEND, "rewrite": REWRITE, "O_SYNC": APPEND | os.O_SYNC}[kind]
    wanted = "new" if kind == "rewrite" else "old\nnew"
    with Program() as writer:
        fd = writer.call(os.open, str(jots / "note"), flags)
        writer.call(os.write, fd, b"new\n")
        if kind != "O_SYNC":
            writer.call(os.fsync, fd)
        assert service.body("note") == wanted


def test_fsync_server_of_an_atomic_save(service: Service, mount: Mounts) -> None:
    """The temporary file is synced here; what takes over a note's name waits for the service."""
    service.remote.create("note", "old")
    jots = mount(fsync="server", settle=0.3)
    with Program() as writer:
        fd = writer.call(os.open, str(jots / "temporary"), REWRITE | os.O_CREAT)
        writer.call(os.write, fd, b"new\n")
        result, elapsed = writer.call(timed, os.fsync, fd)
        assert result == "OK" and elapsed < patience(AT_ONCE_S)
        assert service.filenames() == ["note"] and service.body("note") == "old"
        writer.call(os.rename, str(jots / "temporary"), str(jots / "note"))
        writer.call(os.fsync, fd)
        assert service.filenames() == ["note"] and service.body("note") == "new"


@pytest.mark.parametrize("outage", ["down", "black_hole"])
def test_fsync_server_offline(service: Service, mount: Mounts, outage: str) -> None:
    """ETIMEDOUT, at once when it is known; 10 s at most when it has to be found out. Nothing is lost."""
    service.remote.create("note", "old")
    jots = mount(fsync="server")
    jots.expect_error("")
    getattr(service, outage)()
    with Program() as writer:
        fd = writer.call(os.open, str(jots / "note"), APPEND)
        writer.call(os.write, fd, b"one\n")
        result, elapsed = writer.call(timed, os.fsync, fd)
        assert result == "ETIMEDOUT" and elapsed < patience(11)
        eventually(lambda: not jots.status()["online"], 10, "it knows")
        writer.call(os.write, fd, b"two\n")
        result, elapsed = writer.call(timed, os.fsync, fd)
        assert result == "ETIMEDOUT" and elapsed < patience(AT_ONCE_S)
    service.up()
    jots.settled(30)
    assert service.body("note") == "old\none\ntwo"


def test_fsync_server_throttled(service: Service, mount: Mounts) -> None:
    service.remote.create("note", "old")
    jots = mount(fsync="server", drain_timeout=1)
    service.limit("append", 1, period_s=60)
    jots.sh("echo one >> note")
    jots.settled()
    with Program() as writer:
        fd = writer.call(os.open, str(jots / "note"), APPEND)
        # Until a 429 has told, one call may be tried.
        results = []
        for _ in range(2):
            writer.call(os.write, fd, b"two\n")
            results.append(writer.call(timed, os.fsync, fd))
        assert results[-1][0] == "ETIMEDOUT" and results[-1][1] < patience(AT_ONCE_S)
    jots.expect_error("")


def test_fsync_server_refused(service: Service, mount: Mounts) -> None:
    service.remote.create("note", "old")
    jots = mount(fsync="server")
    jots.expect_error("")
    service.fault("status", status=422, code="storage_cap_exceeded", klass="append")
    with Program() as writer:
        fd = writer.call(os.open, str(jots / "note"), APPEND)
        writer.call(os.write, fd, b"new\n")
        with pytest.raises(OSError) as caught:
            writer.call(os.fsync, fd)
        assert caught.value.errno == errno.EDQUOT
