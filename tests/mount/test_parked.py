"""What the service refuses for good is kept: visible, readable, reported once, and tried again when there is a reason."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from harness.child import Program, errno_of
from harness.mount import Mount
from harness.mounts import Mounts
from harness.service import Service


@dataclass(frozen=True)
class Refusal:
    """Why a change of `note` and the creation of `new` are refused, until it is lifted."""

    code: str
    errno: int
    command: str
    name: str
    shown: str
    saved: str
    impose: Callable[[Service], object]
    lift: Callable[[Service], object]


def fault(status: int, code: str) -> Callable[[Service], object]:
    def impose(service: Service) -> None:
        for match in ({"klass": "append"}, {"method": "POST", "path": "notes"}, {"method": "PATCH", "path": r"notes/[1-9]"}):
            service.fault("status", status=status, code=code, message="not this one", **match)
    return impose


def clear(service: Service) -> None:
    service.clear_faults()


def append(code: str, number: int, impose: Callable[[Service], object], lift: Callable[[Service], object]) -> Refusal:
    return Refusal(code, number, "echo more >> note", "note", "old\nmore\n", "old\nmore", impose, lift)


def create(code: str, number: int, impose: Callable[[Service], object], lift: Callable[[Service], object]) -> Refusal:
    return Refusal(code, number, "echo new > new", "new", "new\n", "new", impose, lift)


def rewrite(code: str, number: int, impose: Callable[[Service], object], lift: Callable[[Service], object]) -> Refusal:
    return Refusal(code, number, "echo new > note", "note", "new\n", "new", impose, lift)


REFUSALS = {
    "append 422": append("validation_failed", errno.EINVAL, fault(422, "validation_failed"), clear),
    "append 413": append("content_too_large", errno.EFBIG, lambda service: service.account(note_bytes=5),
                         lambda service: service.account(note_bytes=1000)),
    "append quota": append("storage_cap_exceeded", errno.EDQUOT, lambda service: service.account(storage_bytes=5),
                           lambda service: service.account(storage_bytes=1000)),
    "create 422": create("validation_failed", errno.EEXIST, fault(422, "validation_failed"), clear),
    "create cap": create("cap_exceeded", errno.EDQUOT, lambda service: service.account(plain_notes=1),
                         lambda service: service.account(plain_notes=100)),
    "create quota": create("storage_cap_exceeded", errno.EDQUOT, lambda service: service.account(storage_bytes=5),
                           lambda service: service.account(storage_bytes=1000)),
    "rewrite 413": rewrite("content_too_large", errno.EFBIG, fault(413, "content_too_large"), clear),
    "rewrite 422": rewrite("validation_failed", errno.EINVAL, fault(422, "validation_failed"), clear),
}


def parked(service: Service, mount: Mounts, refusal: Refusal) -> Mount:
    service.remote.create("note", "old")
    jots = mount(settle=0.1)
    jots.expect_error("")
    refusal.impose(service)
    jots.sh(refusal.command)
    jots.settled()
    return jots


def check_parked(jots: Mount, refusal: Refusal) -> None:
    status = jots.status()
    assert [row["path"] for row in status["errors"]] == [refusal.name]
    error = status["errors"][0]
    assert (error["code"], error["errno"]) == (refusal.code, refusal.errno)
    assert error["message"]
    assert status["pending"][0]["error"] == error["message"] and not status["saved"]
    assert refusal.name in jots.read(".jotsfs/status.txt").decode()
    assert error["message"] in jots.read(".jotsfs/status.txt").decode()
    assert jots.read(refusal.name).decode() == refusal.shown


@pytest.mark.parametrize("refusal", REFUSALS.values(), ids=list(REFUSALS))
@pytest.mark.parametrize("again", ["refresh", "remount", "change", "crash"])
def test_kept_shown_and_tried_again(service: Service, mount: Mounts, refusal: Refusal, again: str) -> None:
    jots = parked(service, mount, refusal)
    check_parked(jots, refusal)
    before = service.last()
    jots.sh("sleep 1.2; ls > /dev/null; sleep 0.3")  # polls are no reason
    assert all(row["method"] == "GET" for row in service.log(before))
    refusal.lift(service)
    saved = refusal.saved
    if again == "refresh":
        jots.refresh()
    elif again == "remount":
        jots.remount()
    elif again == "crash":
        jots.kill()
        jots.start()
    else:
        jots.sh(f"echo again >> {refusal.name}")
        saved += "\nagain"
    status = jots.settled(30)
    assert not status["errors"] and not status["pending"]
    assert service.body(refusal.name) == saved
    assert jots.read(refusal.name).decode() == saved + "\n"


def test_still_refused_after_a_remount(service: Service, mount: Mounts) -> None:
    refusal = REFUSALS["append quota"]
    jots = parked(service, mount, refusal)
    for _ in range(2):
        jots.remount()
        jots.settled()
        check_parked(jots, refusal)
    refusal.lift(service)
    jots.refresh()
    jots.settled()
    assert service.body("note") == refusal.saved


def test_others_go_on(service: Service, mount: Mounts) -> None:
    """One note's refusal is no other's; also in one bulk call."""
    jots = mount(settle=0.2)
    jots.expect_error("")
    service.fault("status", status=422, code="validation_failed", method="POST", path="notes", body="poison")
    jots.sh("for i in $(seq 20); do echo text $i > n$i; done; echo poison > bad")
    status = jots.settled(60)
    assert [row["path"] for row in status["errors"]] == ["bad"]
    assert service.filenames() == sorted(f"n{number}" for number in range(1, 21))
    assert jots.read("bad") == b"poison\n"


def test_reported_once_per_handle_that_wrote(service: Service, mount: Mounts) -> None:
    service.remote.create("note", "old")
    jots = mount()
    jots.expect_error("")
    REFUSALS["append 422"].impose(service)
    path = str(jots / "note")
    with Program() as writer, Program() as second, Program() as reader:
        fds = [program.call(os.open, path, os.O_RDWR | os.O_APPEND) for program in (writer, second, reader)]
        writer.call(os.write, fds[0], b"one\n")
        second.call(os.write, fds[1], b"two\n")
        jots.settled()
        assert writer.call(errno_of, os.fsync, fds[0]) == "EINVAL"
        assert writer.call(errno_of, os.fsync, fds[0]) == "OK"
        assert writer.call(errno_of, os.close, fds[0]) == "OK"
        assert reader.call(errno_of, os.fsync, fds[2]) == "OK"
        assert second.call(errno_of, os.close, fds[1]) == "EINVAL"
        assert reader.call(errno_of, os.close, fds[2]) == "OK"
        late = writer.call(os.open, path, os.O_RDWR | os.O_APPEND)
        assert writer.call(errno_of, os.close, late) == "OK"
    assert jots.read("note") == b"old\none\ntwo\n"


def test_another_write_does_not_hide_it(service: Service, mount: Mounts) -> None:
    """Who wrote what was refused hears of it, though somebody else's write has it tried again."""
    service.remote.create("note", "old")
    jots = mount()
    jots.expect_error("")
    REFUSALS["append 422"].impose(service)
    with Program() as writer:
        fd = writer.call(os.open, str(jots / "note"), os.O_WRONLY | os.O_APPEND)
        writer.call(os.write, fd, b"one\n")
        jots.settled()
        clear(service)
        service.fault("hang", klass="append")
        jots.sh("echo two >> note")
        assert writer.call(errno_of, os.close, fd) == "EINVAL"
    clear(service)
    service.release()
    jots.settled(30)
    assert service.body("note") == "old\none\ntwo"


def test_no_error_when_it_was_saved_meanwhile(service: Service, mount: Mounts) -> None:
    service.remote.create("note", "old")
    jots = mount()
    jots.expect_error("")
    REFUSALS["append 422"].impose(service)
    with Program() as writer:
        fd = writer.call(os.open, str(jots / "note"), os.O_WRONLY | os.O_APPEND)
        writer.call(os.write, fd, b"one\n")
        jots.settled()
        clear(service)
        jots.refresh()
        jots.settled()
        assert writer.call(errno_of, os.close, fd) == "OK"
    assert service.body("note") == "old\none"
