"""A note that others change too: every line whole, none lost, wherever it goes meanwhile."""

from __future__ import annotations

import time

import pytest

from harness.child import Program
from harness.mount import Mount
from harness.mounts import Mounts
from harness.patience import eventually
from harness.service import Service

LINES = 60


def append_lines(path: str, tag: str, count: int) -> None:
    for number in range(count):
        with open(path, "a") as file:
            file.write(f"{tag} {number}\n")
        time.sleep(0.01)


def numbers(body: str, tag: str) -> list[int]:
    return [int(line.split()[1]) for line in body.splitlines() if line.split()[0] == tag]


@pytest.mark.parametrize("rule", ["always", "missing"])
@pytest.mark.parametrize("interleaves", ["no", "yes"])
def test_two_mounts_and_a_client(service: Service, mount: Mounts, rule: str, interleaves: str) -> None:
    """API.md C2 says that the service may mix concurrent appends: then only ours, which it gets one by one, are checked."""
    service.unlimited()
    service.switch(append_separator=rule, append_interleaves=interleaves, latency_ms=15)
    note = service.remote.create("log", "begin")
    first, second = mount(), mount()
    with Program() as one, Program() as two:
        one.start(append_lines, str(first / "log"), "one", LINES)
        if interleaves == "no":
            two.start(append_lines, str(second / "log"), "two", LINES)
            for number in range(LINES // 2):
                reply = service.request("POST", f"/notes/{note['id']}/append", {"text": f"client {number}"}, key=f"client-key-{number}")
                assert reply.status == 200
            two.result(60)
        one.result(60)
    first.settled()
    second.settled()
    body = service.body("log")
    assert numbers(body, "one") == list(range(LINES))
    if interleaves == "no":
        assert numbers(body, "two") == list(range(LINES))
        assert numbers(body, "client") == list(range(LINES // 2))
        assert len(body.splitlines()) == 1 + 2 * LINES + LINES // 2
    for jots in (first, second):
        jots.refresh()
        eventually(lambda jots=jots: jots.read("log").decode() == body + "\n", 10, "both show it all")


def pending(service: Service, jots: Mount, name: str = "note") -> None:
    """Three lines that the service doesn't have; it can't be reached."""
    jots.expect_error("")
    service.down()
    jots.sh(f"for i in 1 2 3; do echo line $i >> {name}; done")


@pytest.mark.parametrize("read", [False, True], ids=["cold", "read"])
def test_deleted_elsewhere(service: Service, mount: Mounts, read: bool) -> None:
    """Local edit against remote delete: it is made again, with all that was known of it."""
    service.remote.create("note", "old")
    jots = mount(settle=0.2)
    if read:
        jots.read("note")
    pending(service, jots)
    service.remote.delete("note")
    service.up()
    jots.settled(30)
    old = ["old"] if read else []
    assert service.body("note").splitlines() == [*old, "line 1", "line 2", "line 3"]
    assert jots.read("note").decode() == service.body("note") + "\n"
    jots.sh("echo more >> note")
    jots.settled()
    assert service.body("note").splitlines() == [*old, "line 1", "line 2", "line 3", "more"]


def test_deleted_while_an_append_is_under_way(service: Service, mount: Mounts) -> None:
    service.remote.create("note", "old")
    jots = mount(settle=0.2)
    jots.expect_error("")
    jots.read("note")
    service.fault("hang", klass="append", count=1)
    jots.sh("echo one >> note")
    eventually(lambda: service.log(klass="append"), 10, "it is sent")
    service.remote.delete("note")
    jots.sh("echo two >> note; cat note > /dev/null; sleep 1.5; cat note > /dev/null")
    jots.settled(30)
    assert service.body("note").splitlines() == ["old", "one", "two"]


@pytest.mark.parametrize("where", ["renamed", "moved", "both"])
def test_renamed_or_moved_elsewhere(service: Service, mount: Mounts, where: str) -> None:
    note = service.remote.create("note", "old")
    service.remote.create_folder("Work")
    jots = mount()
    jots.read("note")
    pending(service, jots)
    if where != "moved":
        service.remote.rename(note["id"], "renamed")
    if where != "renamed":
        service.remote.move(note["id"], "Work")
    service.up()
    jots.settled(30)
    assert service.body(note["id"]).splitlines() == ["old", "line 1", "line 2", "line 3"]
    jots.refresh()
    path = ("" if where == "renamed" else "Work/") + ("note" if where == "moved" else "renamed")
    assert jots.read(path) == b"old\nline 1\nline 2\nline 3\n"
    assert len(service.filenames()) == 1
    jots.sh(f"echo more >> {path}")
    jots.settled()
    assert service.body(note["id"]).splitlines()[-1] == "more"


def test_its_folder_is_deleted_elsewhere(service: Service, mount: Mounts) -> None:
    service.remote.create_folder("Work")
    note = service.remote.create("note", "old", folder="Work")
    jots = mount()
    pending(service, jots, "Work/note")
    service.remote.delete_folder("Work")
    service.up()
    jots.settled(30)
    assert service.body(note["id"]).splitlines() == ["old", "line 1", "line 2", "line 3"]
    assert len(service.filenames()) == 1


@pytest.mark.parametrize("body", ["old", "old\n", "old\n\n"])
def test_locked_elsewhere(service: Service, mount: Mounts, body: str) -> None:
    """Appends go on; what only a rewrite could say isn't needed for lines."""
    service.remote.create("note", body)
    jots = mount()
    jots.read("note")
    pending(service, jots)
    service.remote.lock("note")
    service.up()
    jots.settled(30)
    shown = body if body.endswith("\n") else body + "\n"
    assert service.body("note").startswith(shown)
    assert [line for line in service.body("note")[len(shown):].splitlines() if line] == ["line 1", "line 2", "line 3"]
    assert service.filenames() == ["note"]
    jots.sh("echo more >> note")
    jots.settled()
    assert service.body("note").splitlines()[-1] == "more"


def test_unlocked_elsewhere(service: Service, mount: Mounts) -> None:
    service.remote.create("note", "old", append_only=True)
    jots = mount()
    pending(service, jots)
    service.remote.unlock("note")
    service.up()
    jots.settled(30)
    assert service.body("note").splitlines() == ["old", "line 1", "line 2", "line 3"]
    jots.refresh()
    jots.write("note", "new\n")
    jots.settled()
    assert service.body("note") == "new"


def test_turned_rich_elsewhere(service: Service, mount: Mounts) -> None:
    """Then nothing can be appended: the lines stay here, flagged, and go when it is plain again."""
    service.remote.create("note", "old")
    jots = mount()
    jots.read("note")
    pending(service, jots)
    service.remote.make_rich("note")
    service.up()
    status = jots.settled(30)
    assert [row["path"] for row in status["errors"]] == ["note"]
    assert service.body("note") == "old"
    service.remote.make_plain("note")
    jots.refresh()
    assert not jots.settled(30)["errors"]
    assert service.body("note").splitlines() == ["old", "line 1", "line 2", "line 3"]


@pytest.mark.parametrize("rule", ["always", "missing"])
@pytest.mark.parametrize("theirs", ["theirs", "theirs\n", "theirs\n\n", "\ntheirs"], ids=repr)
@pytest.mark.parametrize("read", [False, True], ids=["cold", "read"])
def test_others_append_meanwhile(service: Service, mount: Mounts, rule: str, theirs: str, read: bool) -> None:
    """With and without newlines of their own: our lines come whole and behind, and nothing of theirs changes."""
    service.switch(append_separator=rule)
    service.remote.create("note", "old")
    jots = mount()
    if read:
        jots.read("note")
    pending(service, jots)
    service.remote.append("note", theirs)
    before = service.body("note")
    service.up()
    jots.settled(30)
    body = service.body("note")
    assert body.startswith(before)
    assert [line for line in body[len(before):].split("\n") if line] == ["line 1", "line 2", "line 3"]
    jots.refresh()
    eventually(lambda: jots.read("note").decode() == (body if body.endswith("\n") else body + "\n"), 10, "it is shown")
    jots.sh("echo more >> note")
    jots.settled()
    assert service.body("note").splitlines()[-1] == "more"


@pytest.mark.parametrize("rule", ["always", "missing"])
def test_partial_lines(service: Service, mount: Mounts, rule: str) -> None:
    """A line in pieces is one line on the service as well, however the pieces go; also with others between them."""
    service.switch(append_separator=rule)
    service.remote.create("note", "old")
    jots = mount()
    jots.sh("printf 'a' >> note; printf 'b' >> note; printf 'c\\n' >> note")
    jots.settled()
    assert service.body("note") == "old\nabc"
    jots.sh("printf 'half' >> note")
    jots.settled()
    assert service.body("note") == "old\nabc\nhalf"
    jots.sh("printf ' done\\nnext\\n' >> note")
    jots.settled()
    assert service.body("note") == "old\nabc\nhalf done\nnext"
    assert jots.read("note") == b"old\nabc\nhalf done\nnext\n"


def test_a_partial_line_in_a_locked_note(service: Service, mount: Mounts) -> None:
    service.remote.create("note", "old", append_only=True)
    jots = mount()
    jots.sh("printf 'half' >> note; sleep 0.3; printf ' done\\n' >> note")
    jots.settled()
    assert service.body("note") == "old\nhalf done"


def test_a_new_file_without_final_newline(service: Service, mount: Mounts) -> None:
    jots = mount(settle=0.2)
    jots.sh("printf 'a\\nb' > note")
    jots.settled()
    assert (service.body("note"), jots.read("note")) == ("a\nb", b"a\nb")
    jots.sh("printf 'c\\nd' >> note")
    jots.settled()
    assert (service.body("note"), jots.read("note")) == ("a\nbc\nd", b"a\nbc\nd")
    jots.remount()
    assert jots.read("note") == b"a\nbc\nd"
    jots.sh("printf '\\n' >> note; echo e >> note")
    jots.settled()
    assert (service.body("note"), jots.read("note")) == ("a\nbc\nd\ne", b"a\nbc\nd\ne\n")
