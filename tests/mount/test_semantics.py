"""What programs expect of system calls: mmap, truncation, allocation, copies, locks, unlinked files; and the errno of each refusal,
in the manner of pjdfstest: the same calls on a plain directory must be refused with the same errno."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import stat
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.child import Program, errno_of
from harness.mount import Mount
from harness.mounts import Mounts
from harness.service import Service

OLD = "one\ntwo\nthree"
FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE = 1, 2
AT_FDCWD = -100


@pytest.fixture
def jots(service: Service, mount: Mounts) -> Mount:
    """A cold note, and a folder with another one."""
    work = service.remote.create_folder("Work")
    service.remote.create("note", OLD, at="2026-01-01T00:00:00Z")
    service.remote.create("inner", "text", folder=work["id"])
    return mount(settle=0.2, settle_delete=0.5)


# --- mmap ---

def mmap_write(path: Path, edit: bytes, at: int) -> None:
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as view:
        view[at:at + len(edit)] = edit


def mmap_new(path: Path, data: bytes) -> None:
    """As linkers and databases do: size first, then bytes."""
    with path.open("w+b") as file:
        file.truncate(len(data))
        with mmap.mmap(file.fileno(), 0) as view:
            for at in range(len(data)):
                view[at:at + 1] = data[at:at + 1]
            view.flush()


def test_mmap_write(service: Service, jots: Mount) -> None:
    with service.requests() as log:
        jots.do(mmap_write, jots / "note", b"TWO", 4)
        assert jots.read("note") == b"one\nTWO\nthree\n"
        jots.settled()
    assert log.changes == ["update_note"]
    assert service.body("note") == "one\nTWO\nthree"


def test_mmap_of_a_new_file(service: Service, jots: Mount) -> None:
    data = b"".join(b"line %d\n" % number for number in range(2000))
    jots.do(mmap_new, jots / "new", data)
    assert jots.read("new") == data
    assert jots.settled()["errors"] == []
    assert service.body("new") == data.decode()[:-1]


def test_mmap_read_sees_writes(jots: Mount) -> None:
    def both() -> bytes:
        with (jots / "note").open("r+b") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as view:
            os.pwrite(file.fileno(), b"ONE", 0)
            return view[:7]

    assert jots.do(both) == b"ONE\ntwo"


# --- size ---

def truncated_while_open(path: Path) -> list[object]:
    seen: list[object] = []
    fd = os.open(path, os.O_RDWR)
    os.ftruncate(fd, 7)
    seen.append((os.fstat(fd).st_size, os.pread(fd, 100, 0)))
    os.pwrite(fd, b"!\n", 7)
    seen.append((os.fstat(fd).st_size, os.pread(fd, 100, 0)))
    os.truncate(path, 4)
    seen.append((os.fstat(fd).st_size, os.pread(fd, 100, 0)))
    os.close(os.open(path, os.O_WRONLY | os.O_TRUNC))
    seen.append((os.fstat(fd).st_size, os.pread(fd, 100, 0)))
    os.pwrite(fd, b"new\n", 0)
    os.close(fd)
    return seen


def test_truncation(service: Service, jots: Mount, tmp_path: Path) -> None:
    plain = tmp_path / "note"
    plain.write_text(OLD + "\n")
    with service.requests() as log:
        assert jots.do(truncated_while_open, jots / "note") == truncated_while_open(plain)
        jots.settled()
    assert log.changes == ["update_note"]
    assert service.body("note") == "new"


def test_emptied_cold_and_written(service: Service, jots: Mount) -> None:
    """What is thrown away needn't be fetched; the look before the PATCH is the only GET."""
    with service.requests() as log:
        jots.sh("echo new > note")
        jots.settled()
    assert log.changes == ["update_note"]
    assert log.count("show_note") <= 1
    assert service.body("note") == "new"


def test_emptied_in_vain(service: Service, jots: Mount) -> None:
    """The service keeps no empty body (API.md C14): said, not hidden; and put right by the next write."""
    jots.expect_error("note: the service refused it")
    jots.sh(": > note")
    service.wait_for(lambda: jots.status()["errors"])
    assert (service.body("note"), jots.read("note")) == (OLD, b"")
    jots.sh("echo again >> note")
    assert jots.settled()["errors"] == []
    assert service.body("note") == "again"


def allocate(path: Path, mode: int, offset: int, size: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    fd = os.open(path, os.O_RDWR)
    try:
        if libc.fallocate(fd, mode, ctypes.c_long(offset), ctypes.c_long(size)) != 0:
            raise OSError(ctypes.get_errno(), "fallocate")
    finally:
        os.close(fd)


def test_allocation(service: Service, jots: Mount) -> None:
    with service.requests() as log:
        assert jots.errno(allocate, jots / "note", 0, 0, 5) == "OK"
        assert jots.errno(allocate, jots / "note", FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 5) == "ENOTSUP"
        assert jots.errno(allocate, jots / "note", 0, 0, 0) == "EINVAL"
        assert jots.errno(allocate, jots / "note", 0, 0, 100 << 20) == "EFBIG"
        jots.settled()
    assert log.changes == []
    assert jots.read("note") == OLD.encode() + b"\n"


def allocate_and_fill(path: Path, data: bytes) -> None:
    """As rsync --preallocate does."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    os.posix_fallocate(fd, 0, len(data))
    os.write(fd, data)
    os.close(fd)


def test_allocated_and_filled(service: Service, jots: Mount) -> None:
    jots.do(allocate_and_fill, jots / "new", b"some text\n")
    assert jots.settled()["errors"] == []
    assert service.body("new") == "some text"


def copy_range(source: Path, target: Path) -> None:
    size = source.stat().st_size
    fds = os.open(source, os.O_RDONLY), os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    while size:
        try:
            size -= os.copy_file_range(fds[0], fds[1], size)
        except OSError as error:  # as cp does
            assert error.errno in (errno.EOPNOTSUPP, errno.EXDEV, errno.ENOSYS, errno.EINVAL)
            size -= os.sendfile(fds[1], fds[0], None, size)
    for fd in fds:
        os.close(fd)


def test_copies_in_the_kernel(service: Service, jots: Mount, tmp_path: Path) -> None:
    jots.do(copy_range, jots / "note", jots / "copy")
    jots.do(copy_range, jots / "note", tmp_path / "copy")
    assert jots.read("copy") == (tmp_path / "copy").read_bytes() == OLD.encode() + b"\n"
    jots.sh("cp --reflink=auto --sparse=always note copy2")
    jots.settled()
    assert (service.body("copy"), service.body("copy2")) == (OLD, OLD)


# --- refusals by design ---

def mkfifo(path: Path) -> None:
    os.mkfifo(path)


def open_tmpfile(path: Path) -> None:
    os.close(os.open(path, os.O_TMPFILE | os.O_RDWR))


def mknod_device(path: Path) -> None:
    os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 3))


@pytest.mark.parametrize(("function", "arguments", "expected"), [
    (open_tmpfile, ("",), {"ENOTSUP"}),
    (os.link, ("note", "hard"), {"EPERM"}),
    (os.symlink, ("note", "soft"), {"EPERM"}),
    (mkfifo, ("fifo",), {"EPERM"}),
    (os.mkdir, ("Work/Deeper",), {"EPERM"}),
    (mknod_device, ("device",), {"EPERM"}),
])
def test_what_notes_are_not(jots: Mount, function: Callable[..., None], arguments: tuple[str, ...],
                            expected: set[str]) -> None:
    assert jots.errno(function, *(jots / name for name in arguments)) in expected
    assert jots.names() == ["Work", "note"]


def test_a_socket_is_refused(jots: Mount) -> None:
    assert jots.sh("python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"s\")'", check=False).status != 0


# --- locks ---

def lock(path: Path, how: str) -> int:
    fd = os.open(path, os.O_RDWR)
    (fcntl.flock if how == "flock" else fcntl.lockf)(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return fd


@pytest.mark.parametrize("how", ["flock", "fcntl"])
def test_locks(jots: Mount, how: str) -> None:
    with Program() as one, Program() as two:
        fd = one.call(lock, jots / "note", how)
        with pytest.raises(BlockingIOError):
            two.call(lock, jots / "note", how)
        one.call(os.close, fd)
        two.call(os.close, two.call(lock, jots / "note", how))
        one.call(lock, jots / "note", how)
        one.close()
        two.call(lock, jots / "note", how)


# --- unlinked and replaced files ---

def test_an_unlinked_file_lives_on(service: Service, jots: Mount) -> None:
    with Program() as program:
        fd = program.call(os.open, str(jots / "note"), os.O_RDWR)
        program.call(os.unlink, str(jots / "note"))
        assert program.call(os.pread, fd, 100, 0) == OLD.encode() + b"\n"
        program.call(os.pwrite, fd, b"ONE", 0)
        program.call(os.ftruncate, fd, 7)
        assert program.call(os.pread, fd, 100, 0) == b"ONE\ntwo"
        assert program.call(os.fstat, fd).st_nlink == 0
        jots.settled()
        assert service.filenames() == ["inner"]
        assert program.call(os.pread, fd, 100, 0) == b"ONE\ntwo"
        program.call(os.pwrite, fd, b"still here\n", 0)
        program.call(os.fsync, fd)
        assert program.call(os.pread, fd, 100, 0) == b"still here\n"
        program.call(os.close, fd)
    with service.requests() as log:
        jots.settled()
    assert log.changes == []
    assert service.filenames() == ["inner"]


def test_a_new_file_unlinked_while_open(service: Service, jots: Mount) -> None:
    """A temporary file."""
    with Program() as program, service.requests() as log:
        fd = program.call(os.open, str(jots / "tmp"), os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        program.call(os.unlink, str(jots / "tmp"))
        program.call(os.write, fd, b"text\n")
        assert program.call(os.pread, fd, 100, 0) == b"text\n"
        time.sleep(0.5)
        program.call(os.close, fd)
        jots.settled()
    assert log.changes == []


def test_an_unlinked_name_is_free_at_once(service: Service, jots: Mount) -> None:
    before = service.note("note")["id"]
    with Program() as program:
        fd = program.call(os.open, str(jots / "note"), os.O_RDONLY)
        program.call(os.unlink, str(jots / "note"))
        assert jots.errno(os.stat, jots / "note") == "ENOENT"
        new = program.call(os.open, str(jots / "note"), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        assert program.call(os.fstat, new).st_ino != program.call(os.fstat, fd).st_ino
        program.call(os.write, new, b"new\n")
        program.call(os.close, new)
        assert program.call(os.pread, fd, 100, 0) == OLD.encode() + b"\n"
        jots.settled()
        assert program.call(os.pread, fd, 100, 0) == OLD.encode() + b"\n"
    assert (service.note("note")["id"], service.body("note")) == (before, "new")


# --- errno, as on a plain directory ---

def open_close(path: Path, flags: int) -> None:
    os.close(os.open(path, flags, 0o644))


def rename2(old: Path, new: Path, flags: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(AT_FDCWD, os.fsencode(old), AT_FDCWD, os.fsencode(new), flags) != 0:
        raise OSError(ctypes.get_errno(), "renameat2")


def write_read_only(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.write(fd, b"x")
    finally:
        os.close(fd)


LONG = "x" * 256
CASES: list[tuple[Callable[..., object], tuple[object, ...]]] = [
    (os.rename, ("missing", "new")), (os.rename, ("note", "missing/new")), (os.rename, ("note", "Work")),
    (os.rename, ("Work", "note")), (os.rename, ("Work", "Empty")), (os.rename, ("Empty", "Work")),
    (os.rename, ("note/x", "new")), (os.rename, ("note", "note/x")), (os.rename, ("note", LONG)),
    (os.rename, (LONG, "new")), (os.rename, ("Work", "Work/x")), (os.rename, ("Work/x", "Work")),
    (os.rename, ("note", "note")), (os.rename, ("Work/.", "new")), (os.rename, ("note", "Work/..")),
    (os.rename, ("Work/inner", "note")), (os.rename, ("Work", "Work")), (os.rename, ("note", "Work/")),
    (rename2, ("note", "Work", 1)), (rename2, ("note", "Work/inner", 1)), (rename2, ("note", "missing", 2)),
    (rename2, ("missing", "note", 2)), (rename2, ("note", "new", 3)), (rename2, ("note", "new", 64)),
    (rename2, ("Work/inner", "note", 2)),
    (os.unlink, ("missing",)), (os.unlink, ("note/x",)), (os.unlink, ("Work",)), (os.unlink, ("missing/x",)),
    (os.unlink, (LONG,)), (os.unlink, ("note/",)), (os.unlink, ("Work/.",)), (os.unlink, ("",)),
    (os.mkdir, ("note",)), (os.mkdir, ("Work",)), (os.mkdir, ("note/x",)), (os.mkdir, ("missing/x",)), (os.mkdir, (".",)),
    (os.mkdir, (LONG,)), (os.mkdir, ("note/",)),
    (os.rmdir, ("missing",)), (os.rmdir, ("note",)), (os.rmdir, ("Work",)), (os.rmdir, ("Work/.",)), (os.rmdir, ("Work/..",)),
    (os.rmdir, ("note/x",)), (os.rmdir, (LONG,)), (os.rmdir, ("Empty/",)),
    (open_close, ("missing", os.O_RDONLY)), (open_close, ("note/x", os.O_RDONLY)), (open_close, ("Work", os.O_WRONLY)),
    (open_close, ("Work", os.O_RDWR | os.O_CREAT)), (open_close, ("note", os.O_RDONLY | os.O_DIRECTORY)),
    (open_close, ("note", os.O_WRONLY | os.O_CREAT | os.O_EXCL)), (open_close, (LONG, os.O_WRONLY | os.O_CREAT)),
    (open_close, ("missing/x", os.O_WRONLY | os.O_CREAT)), (open_close, ("new/", os.O_WRONLY | os.O_CREAT)),
    (open_close, ("note/", os.O_RDONLY)), (open_close, ("Work", os.O_RDONLY | os.O_TRUNC)),
    (open_close, ("note", os.O_RDONLY | os.O_NOFOLLOW)), (open_close, ("note", os.O_RDWR | os.O_SYNC)),
    (write_read_only, ("note",)),
    (os.truncate, ("missing", 0)), (os.truncate, ("Work", 0)), (os.truncate, ("note", -1)), (os.truncate, ("note/x", 0)),
    (os.truncate, (LONG, 0)), (os.truncate, ("note", 3)),
    (os.listdir, ("note",)), (os.listdir, ("missing",)), (os.stat, ("note/x",)), (os.stat, (LONG,)),
    (os.readlink, ("note",)), (os.chmod, ("missing", 0o600)), (os.utime, ("missing",)), (os.utime, ("note/x",)),
]


def outcome(root: Path, function: Callable[..., object], arguments: tuple[object, ...]) -> str:
    """All names in ARGUMENTS are below ROOT."""
    os.chdir(root)
    return errno_of(function, *arguments)


@pytest.fixture
def pair(service: Service, mount: Mounts, tmp_path: Path) -> tuple[Mount, Path]:
    plain = tmp_path / "plain"
    for name in ("Work", "Empty"):
        (plain / name).mkdir(parents=True)
    (plain / "note").write_text("text\n")
    (plain / "Work" / "inner").write_text("text\n")
    work = service.remote.create_folder("Work")
    service.remote.create_folder("Empty")
    service.remote.create("note", "text")
    service.remote.create("inner", "text", folder=work["id"])
    return mount(), plain


def name_tree(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*"))


@pytest.mark.parametrize("group", ["rename", "rename2", "unlink", "mkdir", "rmdir", "open_close", "truncate", "others"])
def test_errno(pair: tuple[Mount, Path], group: str) -> None:
    """After each call both trees must still hold the same."""
    jots, plain = pair
    groups = {"rename", "rename2", "unlink", "mkdir", "rmdir", "open_close", "truncate"}
    wrong = []
    for function, arguments in CASES:
        name = function.__name__
        if name != group and (group != "others" or name in groups):
            continue
        wanted, got = Path(plain), jots.path
        expected = jots.do(outcome, wanted, function, arguments)
        seen = jots.do(outcome, got, function, arguments)
        shown = [argument if argument != LONG else "LONG" for argument in arguments]
        if seen != expected:
            wrong.append(f"{name}{shown}: {seen}, on a plain directory {expected}")
        if jots.do(name_tree, jots.path) != name_tree(plain):
            wrong.append(f"{name}{shown}: the trees differ")
            break
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("name", ["x" * 201, "ä" * 101])
def test_names_over_two_hundred_bytes(jots: Mount, name: str) -> None:
    assert jots.errno(open_close, jots / name, os.O_WRONLY | os.O_CREAT) == "ENAMETOOLONG"
    assert jots.errno(os.rename, jots / "note", jots / name) == "ENAMETOOLONG"
    assert jots.errno(os.stat, jots / name) == "ENOENT"


@pytest.mark.parametrize(("name", "expected"), [(b"a\x01b", "EINVAL"), (b"a\xffb", "EILSEQ"), (b"line\nfeed", "EINVAL")])
def test_names_that_are_none(jots: Mount, name: bytes, expected: str) -> None:
    path = os.fsencode(jots.path) + b"/" + name
    assert jots.errno(open_close, path, os.O_WRONLY | os.O_CREAT) == expected
    assert jots.errno(os.rename, os.fsencode(jots / "note"), path) == expected
    assert jots.errno(os.mkdir, path) == expected
    assert jots.errno(os.unlink, path) == "ENOENT"


# --- what is no text ---

def half_a_character(path: Path) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.write(fd, b"line\nhalf \xc3")
    os.close(fd)


def half_written(path: Path) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.write(fd, b"line\nhalf \xc3")
    os.close(fd)


def test_what_can_never_be_sent(service: Service, jots: Mount) -> None:
    """It says so at close, at flush and in the status, stays readable over a remount, and goes up once it is text."""
    jots.expect_error("half")
    assert jots.errno(half_written, jots / "half") == "EILSEQ"
    assert [row["errno"] for row in service.wait_for(lambda: jots.status()["errors"])] == [errno.EILSEQ]
    assert jots.errno((jots / ".jotsfs/flush").write_bytes, b"1\n") == "EIO"
    jots.remount()
    assert [row["path"] for row in jots.status()["errors"]] == ["half"]
    assert jots.read("half") == b"line\nhalf \xc3"
    with service.requests() as log:
        jots.sh("echo other > other")
        service.wait_for(lambda: service.note("other"))
        jots.sh("printf '\\244\\n' >> half")
        assert jots.settled()["errors"] == []
    assert len(log.changes) == 2
    assert service.body("half") == "line\nhalf ä"


def test_half_a_character_waits_for_the_other_half(service: Service, jots: Mount) -> None:
    jots.do(half_a_character, jots / "note")
    jots.sh("sleep 0.5; printf '\\244\\n' >> note")
    assert jots.settled()["errors"] == []
    assert service.body("note") == OLD + "\nline\nhalf ä"


def test_a_hole_while_it_is_being_filled(service: Service, jots: Mount) -> None:
    """fsync in between sends nothing that is no text, and refuses nothing."""
    with Program() as program, service.requests() as log:
        fd = program.call(os.open, str(jots / "note"), os.O_RDWR)
        program.call(os.ftruncate, fd, 20)
        program.call(os.fsync, fd)
        time.sleep(0.5)
        assert log.changes == []
        program.call(os.pwrite, fd, b"four\n\n", 14)
        program.call(os.fsync, fd)
        service.wait_for(lambda: service.body("note") == OLD + "\nfour\n\n")
        program.call(os.close, fd)
    assert jots.settled()["errors"] == []
