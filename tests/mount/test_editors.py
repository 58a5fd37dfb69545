"""People edit notes with whatever they like: the note keeps its identity, the editor sees what it would see on ext4, and the
user's action costs one call (DESIGN.md, promises 4 and 5).

Every dance runs twice, on the mount and in a plain directory: what it leaves, what a reader who had the file open sees and what
happens to inode, size and time must be equal. The service's log tells what it cost.
"""

from __future__ import annotations

import errno
import fcntl
import os
import pty
import select
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness import child
from harness.mount import Mount
from harness.mounts import Mounts
from harness.service import Service

OLD = "one\ntwo\nthree"
LONG_AGO = "2026-01-01T00:00:00Z"
KEPT = ("id", "folder_id", "append_deadline_hours", "webhook_url", "alert_email")

Dance = str | Callable[[Path], None]


# --- programs ---

def vim(options: str, keys: str) -> str:
    return f"vim -es -N -u NONE -i NONE --cmd 'set {options}' -c '{keys}' -c wq note"


def emacs(setting: str, edit: str) -> str:
    return ("emacs -Q --batch note --eval '(progn (setq create-lockfiles t make-backup-files t "
            f"backup-enable-predicate (function identity) {setting}) {edit} (save-buffer))'")


def type_into(command: list[str], directory: Path, keys: list[bytes]) -> None:
    """A program on a terminal of its own gets one group of KEYS after the other."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(directory)
        os.environ["TERM"] = "xterm"
        os.execvp(command[0], command)
    fcntl.fcntl(terminal, fcntl.F_SETFL, os.O_NONBLOCK)
    end = time.monotonic() + 15
    for group in [b"", *keys]:
        os.write(terminal, group)
        quiet = 0
        while quiet < 3 and time.monotonic() < end:
            ready, _, _ = select.select([terminal], [], [], 0.1)
            try:
                quiet = 0 if ready and os.read(terminal, 65536) else quiet + 1
            except OSError as error:
                if error.errno != errno.EAGAIN:  # it has ended
                    break
    os.close(terminal)
    assert child.reap(pid, 10) == 0, command


def nano_edit(directory: Path) -> None:
    type_into(["nano", "-I", "+2", "note"], directory, [b"\x0b2\r", b"\x0f\r", b"\x18"])  # ^K, text, ^O, ^X


def nano_backup(directory: Path) -> None:
    type_into(["nano", "-I", "-B", "+2", "note"], directory, [b"\x0b2\r", b"\x0f\r", b"\x18"])


# --- traces of what others do ---

def kept_open(path: Path, data: bytes, mode: int = 0o644) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    os.write(fd, data)
    os.fsync(fd)
    os.close(fd)


NEW = b"one\n2\nthree\nfour\n"


def emacs_trace(directory: Path) -> None:
    """Lock, autosave, backup by rename, write, fsync; ".#note" is a symlink where there are any."""
    (directory / ".#-emacsA1b2C3").write_bytes(b"me@here.1234:5678")
    os.rename(directory / ".#-emacsA1b2C3", directory / ".#note")
    (directory / "#note#").write_bytes(NEW)
    os.rename(directory / "note", directory / "note~")
    kept_open(directory / "note", NEW)
    os.unlink(directory / "#note#")
    os.unlink(directory / ".#note")


def gio_trace(directory: Path) -> None:
    """g_file_replace: a temporary file beside it, fsync, rename."""
    beside = directory / ".goutputstream-K7QXA1"
    kept_open(beside, NEW)
    os.chmod(beside, os.stat(directory / "note").st_mode)
    os.rename(beside, directory / "note")


def gio_backup_trace(directory: Path) -> None:
    """The same with a backup. Where links are refused, as here, it is copied."""
    shutil.copyfile(directory / "note", directory / "note~")
    gio_trace(directory)


def office_trace(directory: Path) -> None:
    lock = directory / ".~lock.note#"
    lock.write_text(",me,here,23.11.2026 19:00,file:///home/me/.config;")
    beside = directory / "lu12345abcde.tmp"
    kept_open(beside, NEW, 0o600)
    os.rename(beside, directory / "note")
    os.unlink(lock)


def qsavefile_trace(directory: Path) -> None:
    """Kate, KWrite and all that save with QSaveFile; a directory fsync ends it."""
    beside = directory / "note.hXqZpL"
    kept_open(beside, NEW, 0o600)
    os.chmod(beside, 0o644)
    os.rename(beside, directory / "note")
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    os.fsync(fd)
    os.close(fd)


def sublime_trace(directory: Path) -> None:
    """Writes in place, then cuts off what is left."""
    with (directory / "note").open("r+b") as file:
        file.write(NEW[:9])
        file.truncate()
        file.seek(0, os.SEEK_END)
        file.write(NEW[9:])


def delete_and_recreate(directory: Path) -> None:
    os.unlink(directory / "note")
    fd = os.open(directory / "note", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    os.write(fd, NEW[:5])
    os.write(fd, NEW[5:])
    os.close(fd)


def swap_with_backup(directory: Path) -> None:
    """The old version keeps another name for a while."""
    kept_open(directory / "note.new", NEW)
    os.rename(directory / "note", directory / "note.old")
    os.rename(directory / "note.new", directory / "note")
    os.unlink(directory / "note.old")


EDITS: dict[str, Dance] = {
    "vim": vim("", "%s/two/2/"),
    "vim-auto": vim("writebackup backupcopy=auto fsync", "%s/two/2/"),
    "vim-yes": vim("writebackup backupcopy=yes fsync", "%s/two/2/"),
    "vim-no": vim("writebackup backupcopy=no fsync", "%s/two/2/"),
    "vim-backup-auto": vim("backup backupcopy=auto", "%s/two/2/"),
    "vim-backup-yes": vim("backup backupcopy=yes", "%s/two/2/"),
    "vim-backup-no": vim("backup backupcopy=no", "%s/two/2/"),
    "emacs": emacs("", '(search-forward "two") (replace-match "2")'),
    "emacs-copying": emacs("backup-by-copying t", '(search-forward "two") (replace-match "2")'),
    "emacs-precious": emacs("file-precious-flag t", '(search-forward "two") (replace-match "2")'),
    "nano": nano_edit,
    "nano-backup": nano_backup,
    "sed": "sed -i 's/two/2/; $a four' note",
    "sed-backup": "sed -i.bak~ 's/two/2/; $a four' note",
    "perl": "perl -i -pe 's/two/2/' note",
    "perl-backup": "perl -i~ -pe 's/two/2/' note",
    "ed": "printf '2s/two/2/\\nw\\nq\\n' | ed -s note",
    "patch": "printf -- '--- note\\n+++ note\\n@@ -1,3 +1,3 @@\\n one\\n-two\\n+2\\n three\\n' | patch -s",
    "patch-backup": "printf -- '--- note\\n+++ note\\n@@ -1,3 +1,3 @@\\n one\\n-two\\n+2\\n three\\n' | patch -s -b -z '~'",
    "gio": "printf '1\\n2\\n3\\n' | gio save note",
    "sort": "sort -r -o note note",
    "tac": "t=$(tac note); printf '%s\\n' \"$t\" > note",
    "mv": "printf 'a\\nb\\n' > .note.tmp && mv .note.tmp note",
    "install": "printf 'a\\nb\\n' > /dev/shm/i.$$; install -m 644 /dev/shm/i.$$ note; rm /dev/shm/i.$$",
    "cp": "printf 'a\\nb\\n' > /dev/shm/i.$$; cp /dev/shm/i.$$ note; rm /dev/shm/i.$$",
    "cp-force": "printf 'a\\nb\\n' > /dev/shm/i.$$; cp --remove-destination /dev/shm/i.$$ note; rm /dev/shm/i.$$",
    "rsync": "printf 'a\\nb\\n' > /dev/shm/i.$$; rsync /dev/shm/i.$$ note; rm /dev/shm/i.$$",
    "rsync-inplace": "printf 'a\\nb\\n' > /dev/shm/i.$$; rsync --inplace /dev/shm/i.$$ note; rm /dev/shm/i.$$",
    "emacs-trace": emacs_trace,
    "gio-trace": gio_trace,
    "gio-backup-trace": gio_backup_trace,
    "office-trace": office_trace,
    "qsavefile-trace": qsavefile_trace,
    "sublime-trace": sublime_trace,
    "delete-and-recreate": delete_and_recreate,
    "swap-with-backup": swap_with_backup,
}
ADDITIONS: dict[str, Dance] = {
    "vim-auto": vim("writebackup backupcopy=auto", "normal! Gofour"),
    "vim-yes": vim("backup backupcopy=yes", "normal! Gofour"),
    "vim-no": vim("backup backupcopy=no", "normal! Gofour"),
    "emacs": emacs("", '(goto-char (point-max)) (insert "four\\n")'),
    "sed": "sed -i '$a four' note",
    "ed": "printf 'a\\nfour\\n.\\nw\\nq\\n' | ed -s note",
    "mv": "(cat note; echo four) > .note.tmp && mv .note.tmp note",
}
NOTHING: dict[str, Dance] = {
    "vim-auto": vim("writebackup backupcopy=auto", ""),
    "vim-yes": vim("backup backupcopy=yes", ""),
    "vim-no": vim("backup backupcopy=no", ""),
    "emacs": emacs("", "(set-buffer-modified-p t)"),
    "sed": "sed -i s/none/none/ note",
    "perl": "perl -i -pe 1 note",
    "cp": "cp note /dev/shm/i.$$ && cat /dev/shm/i.$$ > note; rm /dev/shm/i.$$",
    "mv": "cp -p note .note.tmp && mv .note.tmp note",
    "touch": "touch note && chmod u+w note",
}


# --- what is seen ---

def perform(dance: Dance, directory: Path) -> None:
    if callable(dance):
        dance(directory)
        return
    done = subprocess.run(["bash", "-c", dance], cwd=directory, stdin=subprocess.DEVNULL, capture_output=True,
                          env={**os.environ, "LC_ALL": "C.UTF-8", "HOME": "/tmp"}, timeout=60)
    assert done.returncode == 0, (dance, done.stdout, done.stderr)


def observe(directory: Path, dance: Dance) -> dict[str, Any]:
    """The dance, and all that somebody who watches the directory or has the file open can see of it."""
    note = directory / "note"
    reader = os.open(note, os.O_RDONLY)
    before = os.fstat(reader)
    os.pread(reader, 3, 0)
    perform(dance, directory)
    after, held = os.stat(note), os.fstat(reader)
    seen = {
        "content": note.read_bytes(),
        "size": after.st_size,
        "mode": oct(after.st_mode),
        "another file": after.st_ino != before.st_ino,
        "newer": after.st_mtime_ns > before.st_mtime_ns,
        "names": sorted(name for name in os.listdir(directory) if not name.startswith(".")),
        "the reader's inode is as before": held.st_ino == before.st_ino,
        "links": held.st_nlink,
        "the reader sees": (os.pread(reader, 1000, 0), held.st_size),
    }
    os.close(reader)
    return seen


@pytest.fixture
def jots(service: Service, mount: Mounts) -> Mount:
    """The note in a folder, with all that must survive."""
    work = service.remote.create_folder("Work")
    service.remote.create("note", OLD, folder=work["id"], at=LONG_AGO)
    service.remote.set("note", webhook_url="https://example.com/hook", append_deadline_hours=48,
                       alert_email="me@example.com")
    return mount(settle=0.2)


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    directory = tmp_path / "plain"
    directory.mkdir()
    (directory / "note").write_text(OLD + "\n")
    os.utime(directory / "note", (1767225600, 1767225600))
    return directory


def check(service: Service, jots: Mount, plain: Path, dance: Dance, changes: list[str]) -> None:
    program = dance.split()[0] if isinstance(dance, str) else getattr(dance, "__name__", "").split("_")[0]
    if program in ("vim", "emacs", "nano", "sed", "perl", "gio", "rsync") and not shutil.which(program):
        pytest.skip(f"no {program} here")
    before = service.note("note")
    wanted = observe(plain, dance)
    with service.requests() as log:
        seen = jots.do(observe, jots / "Work", dance, timeout_s=60)
        assert seen == wanted
        stat = jots.stat("Work/note")
        jots.settled()
    assert log.changes == changes
    assert log.count("show_note") <= 2
    note = service.note("note")
    assert {key: note[key] for key in KEPT} == {key: before[key] for key in KEPT}
    assert note["body"] == wanted["content"].decode().removesuffix("\n")
    assert service.filenames() == ["note"]
    # Our own upload, and hearing of it, change nothing that can be seen.
    jots.refresh()
    after = jots.stat("Work/note")
    for name in ("st_ino", "st_size", "st_mtime_ns", "st_ctime_ns", "st_mode"):
        assert getattr(after, name) == getattr(stat, name), name
    assert jots.read("Work/note") == wanted["content"]


@pytest.mark.parametrize("name", EDITS)
def test_a_save_is_one_call(service: Service, jots: Mount, plain: Path, name: str) -> None:
    check(service, jots, plain, EDITS[name], ["update_note"])


@pytest.mark.parametrize("name", ADDITIONS)
def test_a_line_added_at_the_end_is_an_append(service: Service, jots: Mount, plain: Path, name: str) -> None:
    check(service, jots, plain, ADDITIONS[name], ["append"])


@pytest.mark.parametrize("name", NOTHING)
def test_a_save_without_change_costs_nothing(service: Service, jots: Mount, plain: Path, name: str) -> None:
    check(service, jots, plain, NOTHING[name], [])


# --- git ---

def test_git_with_its_directory_elsewhere(service: Service, jots: Mount, tmp_path: Path) -> None:
    """A work tree in the mount: everything works, and only the notes' own changes are sent. `-o local=.git` keeps the file that
    points to the repository on this machine."""
    if not shutil.which("git"):
        pytest.skip("no git here")
    jots.remount(local=".git")
    git = "git -c user.name=me -c user.email=me@example.com"
    with service.requests() as log:
        jots.sh(f"git init -q --separate-git-dir={tmp_path}/repository . && git add Work && {git} commit -qm one")
        jots.sh(f"echo four >> Work/note && {git} commit -qam two && git gc -q && git status --porcelain", timeout_s=60)
        jots.settled()
    assert log.changes == ["append"]
    before = service.note("note")["id"]
    with service.requests() as log:
        assert jots.sh("git status --porcelain").out == ""
        jots.sh("git checkout -q HEAD~1 -- Work/note")
        assert jots.read("Work/note") == OLD.encode() + b"\n"
        jots.settled()
    assert log.changes == ["update_note"]
    assert (service.note("note")["id"], service.body("note")) == (before, OLD)
    jots.sh(f"git reset -q --hard HEAD && {git} stash -q 2>&1; git branch other && git checkout -q other && git fsck")
    assert jots.read("Work/note") == OLD.encode() + b"\nfour\n"


def test_git_with_its_directory_inside(service: Service, jots: Mount) -> None:
    """It needs directories in directories, which the service doesn't have: refused at once, and nothing is left on the service."""
    if not shutil.which("git"):
        pytest.skip("no git here")
    with service.requests() as log:
        assert jots.sh("git init -q .", check=False).status != 0
        jots.sh("rm -rf .git")
        jots.settled()
    assert [change for change in log.changes if change != "append"] == []
    assert jots.names() == ["Work"]
