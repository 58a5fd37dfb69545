"""What others change is seen within ttl, through every call, at the price of one small read per ttl."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator

import pytest

from harness.child import Program
from harness.mount import Mount
from harness.mounts import Mounts
from harness.patience import FACTOR
from harness.service import Service

TTL_S = 1
SMALL, LARGE = 20, 260


def open_and_read(path: str) -> bytes:
    fd = os.open(path, os.O_RDONLY)
    try:
        return os.read(fd, 1 << 20)
    finally:
        os.close(fd)


@pytest.fixture(params=[SMALL, LARGE], ids=["small account", "more than a page"])
def jots(request: pytest.FixtureRequest, service: Service, mount: Mounts) -> Iterator[Mount]:
    """A mount whose notes have been looked at, by a program that goes on running, so that the kernel knows them."""
    service.unlimited()
    service.remote.create_folder("Work")
    service.seed(count=request.param)
    service.remote.create("note", "old", at=service.now() - 100)
    service.remote.create("filed", "old", folder="Work", at=service.now() - 100)
    jots = mount(ttl=TTL_S)
    jots.sh("ls -lR . > /dev/null; cat note Work/filed > /dev/null; ls missing 2> /dev/null; ls Work/missing 2> /dev/null; true")
    yield jots


def after_ttl(change: Callable[[], object]) -> None:
    """Makes the change and lets ttl pass: the next call, the first one since, must see it."""
    change()
    time.sleep(TTL_S * 1.05)


# --- through every call, by the first call that comes later than ttl ---


def test_a_change_is_read_by_open(service: Service, jots: Mount) -> None:
    after_ttl(lambda: service.remote.patch("note", "new text"))
    assert jots.read("note") == b"new text\n"


def test_a_change_shows_in_stat(service: Service, jots: Mount) -> None:
    before = jots.stat("note")
    after_ttl(lambda: service.remote.patch("note", "much longer text"))
    assert jots.stat("note").st_size in (16, 17)
    assert jots.stat("note").st_mtime_ns > before.st_mtime_ns
    assert jots.stat("note").st_ino == before.st_ino


def test_a_change_is_read_through_an_open_file(service: Service, jots: Mount) -> None:
    with Program() as reader:
        fd = reader.call(os.open, str(jots / "note"), os.O_RDONLY)
        assert reader.call(os.read, fd, 100) == b"old\n"
        after_ttl(lambda: service.remote.append("note", "more"))
        deadline = time.monotonic() + 5 * FACTOR
        found = b""
        while not found and time.monotonic() < deadline:
            found = reader.call(os.read, fd, 100)
            time.sleep(0.05)
        assert found == b"more\n"


@pytest.mark.parametrize("name", ["missing", "Work/missing"])
@pytest.mark.parametrize("look", ["stat", "open", "readdir"])
def test_a_new_note_is_found(service: Service, jots: Mount, name: str, look: str) -> None:
    """Although its name was looked up before."""
    folder = "Work" if "/" in name else None
    after_ttl(lambda: service.remote.create("missing", "here", folder=folder))
    if look == "readdir":
        assert "missing" in jots.names(folder or "")
    elif look == "stat":
        assert jots.stat(name).st_size in (4, 5)
    else:
        assert jots.do(open_and_read, str(jots / name)) == b"here\n"


@pytest.mark.parametrize("look", ["stat", "open", "readdir"])
def test_a_rename_is_seen(service: Service, jots: Mount, look: str) -> None:
    after_ttl(lambda: service.remote.rename("note", "renamed"))
    if look == "readdir":
        names = jots.names()
        assert "renamed" in names and "note" not in names
    elif look == "stat":
        assert jots.errno(os.stat, jots / "note") == "ENOENT"
        assert jots.stat("renamed").st_size == 4
    else:
        assert jots.read("renamed") == b"old\n"
        assert jots.errno(os.stat, jots / "note") == "ENOENT"


@pytest.mark.parametrize("look", ["stat", "open"])
def test_a_deletion_is_seen_in_a_small_account(service: Service, mount: Mounts, look: str) -> None:
    service.seed(count=SMALL)
    service.remote.create("note", "old", at=service.now() - 100)
    jots = mount(ttl=TTL_S)
    assert jots.read("note") == b"old\n"
    after_ttl(lambda: service.remote.delete("note"))
    path = str(jots / "note")
    assert jots.errno(os.stat if look == "stat" else open_and_read, path) == "ENOENT"
    assert "note" not in jots.names()


@pytest.mark.parametrize("name", ["note", "Work/filed"])
def test_a_deletion_is_seen_by_readdir(service: Service, jots: Mount, name: str) -> None:
    """In any account, in the directory that is listed."""
    after_ttl(lambda: service.remote.delete(os.path.basename(name)))
    assert os.path.basename(name) not in jots.names(os.path.dirname(name))
    assert jots.errno(os.stat, jots / name) == "ENOENT"


@pytest.mark.parametrize("bumps", ["yes", "no"])
def test_a_move_is_seen_by_readdir(service: Service, jots: Mount, bumps: str) -> None:
    service.switch(move_bumps=bumps)

    def move() -> None:
        service.remote.move("note", "Work")
        service.remote.move("filed", None)

    after_ttl(move)
    assert jots.names("Work") == ["note"]
    names = jots.names()
    assert "filed" in names and "note" not in names
    assert jots.read("Work/note") == jots.read("filed") == b"old\n"


def test_a_deletion_is_seen_within_one_sweep(service: Service, jots: Mount) -> None:
    """By somebody who only asks for the note."""
    service.remote.delete("note")
    end = time.monotonic() + 20 * FACTOR
    while jots.errno(os.stat, jots / "note") == "OK":
        assert time.monotonic() < end
        time.sleep(0.3)
    assert jots.errno(os.stat, jots / "note") == "ENOENT"


def test_folders_come_go_and_change_their_names(service: Service, jots: Mount) -> None:
    assert jots.errno(os.stat, jots / "Plans") == "ENOENT"
    after_ttl(lambda: service.remote.create_folder("Plans"))
    assert jots.names("Plans") == []
    after_ttl(lambda: service.remote.create_folder("More"))
    assert "More" in jots.names()
    after_ttl(lambda: service.remote.rename_folder("Plans", "Ideas"))
    names = jots.names()
    assert "Ideas" in names and "Plans" not in names
    after_ttl(lambda: service.remote.delete_folder("Ideas"))
    assert "Ideas" not in jots.names()


def test_a_deleted_folder_gives_its_notes_to_the_root(service: Service, jots: Mount) -> None:
    """Nothing is bumped by that (API.md C8)."""
    service.switch(folder_delete_bumps="no")
    after_ttl(lambda: service.remote.delete_folder("Work"))
    names = jots.names()
    assert "Work" not in names and "filed" in names
    assert jots.read("filed") == b"old\n"


# --- what it costs ---


def test_one_poll_per_ttl_however_many_files_are_read(service: Service, mount: Mounts) -> None:
    service.unlimited()
    service.seed(count=60)
    jots = mount(ttl=TTL_S)
    jots.sh("cat * > /dev/null")
    begun = time.monotonic()
    with service.requests() as log:
        jots.sh(f"end=$((SECONDS + 4)); while [ $SECONDS -lt $end ]; do cat * > /dev/null; stat * > /dev/null; done",
                timeout_s=60)
    seconds = time.monotonic() - begun
    assert log.count("list_notes") <= seconds / TTL_S + 1
    assert log.count("read") <= seconds / TTL_S * 1.4 + 2  # now and then the folders
    assert log.count("show_note") == 0


def test_a_look_into_the_directory_costs_two_reads_per_ttl(service: Service, mount: Mounts) -> None:
    service.seed(count=60)
    jots = mount(ttl=TTL_S)
    jots.sh("ls > /dev/null")
    begun = time.monotonic()
    with service.requests() as log:
        jots.sh("end=$((SECONDS + 3)); while [ $SECONDS -lt $end ]; do ls -l > /dev/null; ls nothing 2>/dev/null; done; true",
                timeout_s=60)
    assert log.count("read") <= 2 * (time.monotonic() - begun) / TTL_S + 2


@pytest.mark.parametrize("count", [SMALL, LARGE])
def test_an_idle_mount_sends_nothing(service: Service, mount: Mounts, count: int) -> None:
    service.seed(count=count)
    jots = mount(ttl=TTL_S)
    jots.sh("ls -lR > /dev/null; cat * > /dev/null")
    time.sleep(2.5 * TTL_S)
    with service.requests() as log:
        time.sleep(float(os.environ.get("JOTSFS_TEST_IDLE_S", "4")))
    assert log.all() == []


def test_polls_that_fail_are_not_repeated_at_once(service: Service, mount: Mounts) -> None:
    service.seed(count=5)
    jots = mount(ttl=TTL_S)
    jots.expect_error("")
    jots.sh("cat * > /dev/null")
    time.sleep(TTL_S)
    service.fault("status", status=500, path="/notes")
    with service.requests() as log:
        jots.sh("end=$((SECONDS + 3)); while [ $SECONDS -lt $end ]; do cat * > /dev/null; done", timeout_s=60)
    assert 2 <= log.count("list_notes") <= 8
    service.clear_faults()


# --- changes that are hard to see ---


def test_two_changes_in_one_second(service: Service, mount: Mounts) -> None:
    """updated_at has a resolution of one second, and the sizes are equal."""
    service.remote.create("note", "one")
    service.freeze()
    jots = mount(ttl=TTL_S)
    service.remote.patch("note", "two")
    time.sleep(TTL_S * 1.05)
    for _ in range(4):  # read again and again within that second
        assert jots.read("note") == b"two\n"
    service.remote.patch("note", "six")
    service.advance(5)
    time.sleep(TTL_S * 1.05)
    assert jots.read("note") == b"six\n"
    with service.requests() as log:
        for _ in range(3):
            assert jots.read("note") == b"six\n"
    assert log.count("show_note") == 0


@pytest.mark.parametrize("ties", ["id_asc", "id_desc", "random"])
def test_ties(service: Service, mount: Mounts, ties: str) -> None:
    """More changes at one time than the head poll's page has."""
    service.switch(list_ties=ties)
    service.unlimited()
    service.seed(count=LARGE)
    jots = mount(ttl=TTL_S)
    names = jots.names()[:45]
    jots.sh("cat * > /dev/null", timeout_s=60)
    service.freeze()
    now = service.now()
    for name in names:
        service.remote.patch(name, f"new {name}", at=now)
    service.unfreeze()
    time.sleep(TTL_S * 1.05)
    wrong = [name for name in names if jots.read(name).decode() != f"new {name}\n"]
    assert wrong == []


def test_changes_while_it_was_not_mounted(service: Service, mount: Mounts) -> None:
    service.unlimited()
    service.seed(count=LARGE)
    service.remote.create("note", "old", at=service.now() - 100)
    jots = mount(ttl=TTL_S)
    jots.sh("cat * > /dev/null", timeout_s=60)
    jots.unmount()
    service.remote.patch("note", "new")
    for number in range(40):  # later than that one: it isn't at the head any more
        service.remote.create(f"other {number}", "x")
    jots.remount()
    time.sleep(TTL_S * 1.05)
    assert jots.read("note") == b"new\n"


@pytest.mark.parametrize("omitted", ["updated_at", "byte_size", "folder_id", "created_at", "append_only",
                                     "byte_size,updated_at,folder_id,created_at,append_only"])
def test_fields_that_lists_lack(service: Service, mount: Mounts, omitted: str) -> None:
    service.switch(list_omits=omitted)
    _changes_are_seen(service, mount)


def test_lists_of_the_certain_fields_only(service: Service, mount: Mounts) -> None:
    service.switch(list_fields="minimal")
    _changes_are_seen(service, mount)


def _changes_are_seen(service: Service, mount: Mounts) -> None:
    service.remote.create_folder("Work")
    service.seed(count=10)
    for name in ("note", "deleted", "renamed", "grown"):
        service.remote.create(name, "old", at=service.now() - 100)
    service.remote.create("filed", "old", folder="Work", at=service.now() - 100)
    jots = mount(ttl=TTL_S)
    jots.sh("cat * Work/* > /dev/null 2>&1; true")
    assert jots.names("Work") == ["filed"]
    service.remote.patch("note", "new")  # of the same size
    service.remote.append("grown", "more")
    service.remote.delete("deleted")
    service.remote.rename("renamed", "new name")
    service.remote.create("created", "x")
    time.sleep(TTL_S * 1.05)
    assert jots.read("note") == b"new\n"
    assert jots.read("grown") == b"old\nmore\n"
    assert jots.read("new name") == b"old\n"
    assert jots.read("created") == b"x\n"
    assert jots.read("Work/filed") == b"old\n"
    names = jots.names()
    assert "deleted" not in names and "renamed" not in names


# --- pages ---


@pytest.mark.parametrize("cap", [7, 37])
def test_a_service_that_gives_smaller_pages(service: Service, mount: Mounts, cap: int) -> None:
    service.switch(list_page_cap=cap)
    service.unlimited()
    service.seed(count=90)
    jots = mount(ttl=TTL_S)
    names = jots.names()
    assert len(names) == 90
    time.sleep(TTL_S * 1.05)
    with service.requests() as log:
        assert jots.names() == names
    pages = -(-90 // cap)
    assert log.count("list_notes") <= pages + 1
    assert log.count("show_note") == 0
    for name in (names[3], names[50], names[80]):
        after_ttl(lambda name=name: service.remote.delete(name))
        assert name not in jots.names()
    assert len(jots.names()) == 87


@pytest.mark.parametrize("cap", [200, 30])
def test_no_note_vanishes_while_pages_shift(service: Service, mount: Mounts, cap: int) -> None:
    """Deletions move notes to pages that have been read already."""
    service.switch(list_page_cap=cap)
    service.unlimited()
    service.seed(count=420 if cap == 200 else 100)
    jots = mount(ttl=TTL_S)
    keep = jots.names()[::2]
    gone = jots.names()[1::2]
    end = time.monotonic() + 6
    while time.monotonic() < end:
        for _ in range(3):
            if gone:
                service.remote.delete(gone.pop())
        service.remote.patch(keep[len(gone) % len(keep)], f"touched {len(gone)}")
        missing = set(keep) - set(jots.names())
        assert not missing
    expected = sorted(keep + gone)
    time.sleep(TTL_S * 1.05)
    end = time.monotonic() + 15 * FACTOR
    while (names := jots.names()) != expected and time.monotonic() < end:
        time.sleep(0.5)
    assert names == expected


def test_a_page_that_fails_does_not_begin_the_sweep_anew(service: Service, mount: Mounts) -> None:
    service.unlimited()
    service.seed(count=900)
    service.fault("status", status=503, path="sort=created", nth=2)
    jots = mount()
    jots.expect_error("")
    assert len(jots.names()) == 900
    assert service.count("list_notes") <= 16


# --- crossing our own requests ---


def test_a_read_that_crosses_an_append(service: Service, mount: Mounts) -> None:
    """The GET left before our append was acknowledged: its answer must not hide the line, nor show it twice."""
    service.remote.create("note", "old", at=service.now() - 100)
    jots = mount(ttl=600)
    service.fault("latency", ms=700, method="GET", path=r"/notes/\d+")
    with Program() as reader:
        reader.start(open_and_read, str(jots / "note"))
        time.sleep(0.2)
        jots.sh("echo more >> note")
        first = reader.result()
    assert first in (b"old\n", b"old\nmore\n")
    for _ in range(8):
        assert jots.read("note") == b"old\nmore\n"
        time.sleep(0.1)
    jots.settled()
    assert service.body("note") == "old\nmore"


def test_a_list_that_crosses_a_rename(service: Service, mount: Mounts) -> None:
    service.remote.create("note", "old", at=service.now() - 100)
    service.seed(count=5)
    jots = mount(ttl=TTL_S, settle=0.1)
    assert jots.read("note") == b"old\n"
    service.fault("latency", ms=600, method="GET", path=r"/notes\?")
    jots.sh("mv note moved")
    for _ in range(15):
        names = jots.names()
        assert "moved" in names and "note" not in names
        time.sleep(0.1)
    jots.settled()
    assert "moved" in service.filenames()
