"""Saving over a file, by whatever dance, is one rewrite of the same note."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from harness.child import Program
from harness.mount import Mount
from harness.mounts import Mounts
from harness.service import Service

OLD = "one\ntwo\nthree"
# A body that has just changed is read once more (updated_at counts seconds); this one is long settled.
LONG_AGO = "2026-01-01T00:00:00Z"
NEW = b"one\n2\nthree\nfour\n"


@pytest.fixture
def jots(service: Service, mount: Mounts) -> Mount:
    """A mount whose file `note` has been read."""
    service.remote.create("note", OLD, at=LONG_AGO)
    jots = mount()
    assert jots.read("note") == OLD.encode() + b"\n"
    return jots


def truncate_and_write(path: Path) -> None:
    path.write_bytes(NEW)


def write_beside_and_rename(path: Path) -> None:
    """Most editors' atomic save."""
    beside = path.with_name("note.tmp.12345")
    with beside.open("wb") as file:
        file.write(NEW)
        file.flush()
        os.fsync(file.fileno())
    os.rename(beside, path)


def write_scratch_and_rename(path: Path) -> None:
    beside = path.with_name(".goutputstream-ABCDEF")
    beside.write_bytes(NEW)
    os.rename(beside, path)


def back_up_and_write(path: Path) -> None:
    """vim with backupcopy=no."""
    path.with_name("4913").write_bytes(b"")
    path.with_name("4913").unlink()
    os.rename(path, path.with_name("note~"))
    with path.open("wb") as file:
        file.write(NEW)
        os.fsync(file.fileno())
    path.with_name("note~").unlink()


def back_up_under_a_plain_name(path: Path) -> None:
    os.rename(path, path.with_name("note.bak"))
    path.write_bytes(NEW)
    path.with_name("note.bak").unlink()


def delete_and_write(path: Path) -> None:
    path.unlink()
    path.write_bytes(NEW)


def copy_then_write(path: Path) -> None:
    """vim with backupcopy=yes, emacs."""
    shutil.copy(path, path.with_name("note~"))
    path.write_bytes(NEW)
    path.with_name("note~").unlink()


def write_in_place(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(NEW)


def write_and_cut(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(NEW)
        file.truncate()


@pytest.mark.sanitizer
@pytest.mark.parametrize("save", [
    truncate_and_write, write_beside_and_rename, write_scratch_and_rename, back_up_and_write, back_up_under_a_plain_name,
    delete_and_write, copy_then_write, write_in_place, write_and_cut], ids=lambda save: save.__name__)
def test_a_save_is_one_rewrite(service: Service, jots: Mount, save: object) -> None:
    before = service.remote.set("note", webhook_url="https://example.com/hook")
    with service.requests() as log:
        jots.do(save, jots / "note")
        assert jots.read("note") == NEW
        jots.settled()
    assert log.changes == ["update_note"]
    assert log.count("show_note") <= 1
    after = service.note("note")
    assert after["body"] == NEW.decode().removesuffix("\n")
    assert (after["id"], after["webhook_url"]) == (before["id"], before["webhook_url"])
    assert service.filenames() == ["note"] and jots.names() == ["note"]


EDITORS = [
    ("vim", "vim -es -u NONE -c '%s/two/2/' -c 'normal! Gofour' -c wq note"),
    ("vim", "vim -es -u NONE --cmd 'set backup backupcopy=no writebackup' -c '%s/two/2/' -c 'normal! Gofour' -c wq note"),
    ("vim", "vim -es -u NONE --cmd 'set backupcopy=yes fsync' -c '%s/two/2/' -c 'normal! Gofour' -c wq note"),
    ("sed", "sed -i 's/two/2/; $a four' note"),
    ("perl", "perl -i -pe 's/two/2/; $_ .= \"four\\n\" if eof' note"),
    ("ed", "printf '2s/two/2/\\n$a\\nfour\\n.\\nw\\nq\\n' | ed -s note"),
    ("patch", "printf -- '--- note\\n+++ note\\n@@ -1,3 +1,4 @@\\n one\\n-two\\n+2\\n three\\n+four\\n' | patch -s"),
    ("rsync", "printf 'one\\n2\\nthree\\nfour\\n' > ../new && rsync --ignore-times ../new note"),
]


@pytest.mark.parametrize(("program", "command"), EDITORS, ids=[f"{n}-{row[0]}" for n, row in enumerate(EDITORS)])
def test_real_programs(service: Service, jots: Mount, program: str, command: str) -> None:
    if not shutil.which(program):
        pytest.skip(f"no {program} here")
    before = service.note("note")
    with service.requests() as log:
        jots.sh(command)
        assert jots.read("note") == NEW
        jots.settled()
    assert log.changes == ["update_note"]
    assert (service.body("note"), service.note("note")["id"]) == (NEW.decode().removesuffix("\n"), before["id"])
    assert [name for name in jots.names() if not name.endswith(("~", ".bak"))] == ["note"]
    assert service.filenames() == ["note"]


def test_nothing_new_costs_nothing(service: Service, jots: Mount) -> None:
    with service.requests() as log:
        jots.sh("cp note /dev/shm/$$ && cat /dev/shm/$$ > note; rm /dev/shm/$$; truncate -s 14 note; touch note")
        jots.settled()
    assert log.changes == []


def test_another_final_newline_is_no_change(service: Service, mount: Mounts) -> None:
    """A note that others left with a final newline is shown and saved without becoming dirty."""
    service.remote.create("note", "text\n")
    jots = mount()
    with service.requests() as log:
        jots.write("note", jots.read("note"))
        jots.settled()
    assert log.changes == []
    assert service.body("note") == "text\n"


def test_a_rewrite_that_only_adds_lines_is_an_append(service: Service, jots: Mount) -> None:
    with service.requests() as log:
        jots.write("note", OLD + "\nfour\n")
        jots.settled()
    assert log.changes == ["append"]
    assert service.body("note") == OLD + "\nfour"


@pytest.mark.parametrize(("size", "body"), [(8, "one\ntwo"), (5, "one\nt"), (13, OLD)])
def test_truncate(service: Service, jots: Mount, size: int, body: str) -> None:
    with service.requests() as log:
        jots.do(os.truncate, jots / "note", size)
        assert (jots.stat("note").st_size, jots.read("note")) == (size, (OLD + "\n").encode()[:size])
        jots.settled()
    assert (service.body("note"), jots.read("note")) == (body, (OLD + "\n").encode()[:size])
    assert log.changes in ([["update_note"], []] if body == OLD else [["update_note"]])


def test_truncate_to_nothing(service: Service, jots: Mount) -> None:
    service.switch(empty_patch="accepted")
    jots.sh(": > note")
    assert jots.stat("note").st_size == 0
    jots.settled()
    assert service.body("note") == ""


def test_truncate_to_nothing_refused_is_not_hidden(service: Service, jots: Mount) -> None:
    """Where the service refuses empty bodies the file stays empty here and says that it isn't saved."""
    jots.expect_error("note")
    jots.sh(": > note")
    service.wait_for(lambda: jots.status()["errors"], 20)
    assert [error["path"].lstrip("/") for error in jots.status()["errors"]] == ["note"]
    assert jots.status()["saved"] is False
    assert jots.read("note") == b""
    jots.write("note", "again\n")
    service.wait_for(lambda: service.body("note") == "again", 20)
    jots.settled()
    assert jots.status()["errors"] == []


def test_a_hole_is_not_sent(service: Service, jots: Mount) -> None:
    """NUL is no text: EILSEQ at close, the file stays here and is flagged."""
    jots.expect_error("note")

    def leave_a_hole() -> None:
        fd = os.open(jots / "note", os.O_WRONLY)
        os.pwrite(fd, b"far\n", 100)
        os.close(fd)

    assert jots.errno(leave_a_hole) == "EILSEQ"
    assert jots.read("note")[14:100] == b"\0" * 86
    service.wait_for(lambda: jots.status()["errors"], 20)
    assert service.body("note") == OLD


def test_writing_in_the_middle(service: Service, jots: Mount) -> None:
    with service.requests() as log:
        jots.sh("printf TWO | dd of=note bs=1 seek=4 conv=notrunc status=none")
        jots.settled()
    assert log.changes == ["update_note"]
    assert service.body("note") == "one\nTWO\nthree"


def test_our_upload_changes_no_attribute(service: Service, jots: Mount) -> None:
    jots.write("note", NEW)
    before = jots.stat("note")
    jots.settled()
    jots.refresh()
    after = jots.stat("note")
    for name in ("st_ino", "st_size", "st_mtime_ns", "st_ctime_ns"):
        assert getattr(after, name) == getattr(before, name), name


def test_a_rewrite_held_open_goes_at_fsync(service: Service, jots: Mount) -> None:
    with Program() as editor:
        fd = editor.call(os.open, str(jots / "note"), os.O_WRONLY | os.O_TRUNC)
        editor.call(os.write, fd, NEW)
        editor.call(os.fsync, fd)
        service.wait_for(lambda: service.body("note") == NEW.decode().removesuffix("\n"))
        editor.call(os.close, fd)
    with service.requests() as log:
        jots.settled()
    assert log.changes == []


@pytest.mark.sanitizer
def test_both_sides_edit_different_lines(service: Service, mount: Mounts) -> None:
    service.remote.create("note", "\n".join(str(number) for number in range(20)))
    jots = mount()
    with Program() as editor:
        text = jots.read("note").replace(b"3\n", b"three\n", 1)
        fd = editor.call(os.open, str(jots / "note"), os.O_WRONLY | os.O_TRUNC)
        service.remote.patch("note", service.body("note").replace("17", "seventeen"))
        editor.call(os.write, fd, text)
        editor.call(os.close, fd)
    jots.settled()
    lines = [str(number) for number in range(20)]
    lines[3], lines[17] = "three", "seventeen"
    assert service.body("note").splitlines() == lines
    assert jots.read("note").decode().splitlines() == lines
    assert service.filenames() == ["note"]


def test_both_sides_edit_the_same_line(service: Service, jots: Mount) -> None:
    """Ours keeps the name, theirs becomes a new note: no byte is lost."""
    with Program() as editor:
        fd = editor.call(os.open, str(jots / "note"), os.O_WRONLY | os.O_TRUNC)
        service.remote.patch("note", "one\nTHEIRS\nthree")
        editor.call(os.write, fd, b"one\nOURS\nthree\n")
        editor.call(os.close, fd)
    jots.settled()
    assert service.body("note") == "one\nOURS\nthree"
    copies = [name for name in service.filenames() if name != "note"]
    assert len(copies) == 1 and copies[0].startswith("note (conflict ")
    assert service.body(copies[0]) == "one\nTHEIRS\nthree"
    jots.refresh()
    assert jots.names() == service.filenames()
