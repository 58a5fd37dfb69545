"""`echo x >> note` is one append call, and the lines are what was written, under every separator rule."""

from __future__ import annotations

import os
import re

import pytest

from harness.child import Program
from harness.mounts import Mounts
from harness.service import Service

RULES = pytest.mark.parametrize("rule", [
    {"append_separator": "always"},
    {"append_separator": "missing"},
    {"append_separator": "always", "append_chomp": "newlines"},
    {"append_separator": "missing", "append_chomp": "newline"},
], ids=["always", "missing", "always-chomped", "missing-chomped"])


def shown(body: str) -> bytes:
    return (body if not body or body.endswith("\n") else body + "\n").encode()


@RULES
@pytest.mark.sanitizer
@pytest.mark.parametrize("body", ["old", "old\nlines", ""], ids=["line", "lines", "empty"])
def test_to_a_small_cold_note(service: Service, mount: Mounts, rule: dict[str, str], body: str) -> None:
    service.switch(**rule)
    service.remote.create("note", body)
    jots = mount()
    with service.requests() as log:
        jots.sh("sh -c 'echo x >> note'")
        jots.settled()
    assert log.changes == ["append"]
    assert log.count("show_note") <= 1
    assert service.body("note") == (f"{body}\nx" if body else "x")
    assert jots.read("note") == shown(service.body("note"))


@RULES
@pytest.mark.parametrize("body", ["old\n", "old\n\n"])
def test_to_a_body_that_ends_in_newlines(service: Service, mount: Mounts, rule: dict[str, str], body: str) -> None:
    """Other clients pipe `echo` output: what is shown is the old file and the new line, whatever call that takes."""
    service.switch(**rule)
    service.remote.create("note", body)
    jots = mount()
    with service.requests() as log:
        jots.sh("echo x >> note")
        jots.settled()
    assert len(log.changes) == 1
    assert shown(service.body("note")) == f"{body}x\n".encode()
    assert jots.read("note") == f"{body}x\n".encode()


@RULES
def test_to_a_new_note(service: Service, mount: Mounts, rule: dict[str, str]) -> None:
    service.switch(**rule)
    jots = mount()
    with service.requests() as log:
        jots.sh("sh -c 'echo x >> note'")
        jots.settled()
    assert len(log.changes) == 1 and log.changes[0] in ("append", "create_note")
    assert log.count("show_note") == 0
    assert (service.body("note"), service.note("note")["append_only"]) == ("x", False)


@RULES
def test_to_a_large_cold_note(service: Service, mount: Mounts, rule: dict[str, str]) -> None:
    service.switch(**rule)
    body = "0123456789" * 300_000
    service.remote.create("note", body)
    jots = mount()
    with service.requests() as log:
        jots.sh("sh -c 'echo x >> note'")
        jots.settled()
    assert log.changes == ["append"]
    assert log.count("show_note") == 0
    assert [row["request_bytes"] < 1000 for row in log.all() if row["endpoint"] == "append"] == [True]
    assert service.body("note") == body + "\nx"


@RULES
def test_a_second_append_needs_no_read(service: Service, mount: Mounts, rule: dict[str, str]) -> None:
    """The receipt tells that the cached body could be extended in place."""
    service.switch(**rule)
    service.remote.create("note", "old", at="2026-01-01T00:00:00Z")
    jots = mount(ttl=600)
    jots.sh("cat note; echo 1 >> note")
    jots.settled()
    with service.requests() as log:
        jots.sh("echo 2 >> note")
        jots.settled()
        assert jots.read("note") == b"old\n1\n2\n"
    assert log.changes == ["append"]
    assert log.count("show_note") == 0


@RULES
@pytest.mark.sanitizer
def test_a_fast_loop_is_grouped(service: Service, mount: Mounts, rule: dict[str, str]) -> None:
    service.switch(latency_ms=80, **rule)
    service.remote.create("note", "old")
    jots = mount()
    with service.requests() as log:
        jots.sh("for i in $(seq 100); do echo line $i >> note; done")
        jots.settled()
    assert set(log.changes) == {"append"}
    assert len(log.changes) <= 20
    wanted = "".join(f"line {number}\n" for number in range(1, 101))
    assert service.body("note") + "\n" == f"old\n{wanted}"
    assert jots.read("note").decode() == f"old\n{wanted}"


def test_a_loop_into_a_new_note(service: Service, mount: Mounts) -> None:
    service.switch(latency_ms=80)
    jots = mount()
    with service.requests() as log:
        jots.sh("for i in $(seq 100); do echo line $i >> note; done")
        jots.settled()
    assert len(log.changes) <= 20 and "update_note" not in log.changes
    assert service.body("note").splitlines() == [f"line {number}" for number in range(1, 101)]


@RULES
def test_empty_lines_are_kept(service: Service, mount: Mounts, rule: dict[str, str]) -> None:
    service.switch(**rule)
    service.remote.create("note", "old")
    jots = mount()
    jots.sh("printf 'a\\n\\n\\nb\\n' >> note; printf '\\n' >> note; printf 'c\\n' >> note")
    jots.settled()
    assert shown(service.body("note")) == b"old\na\n\n\nb\n\nc\n"
    assert jots.read("note") == b"old\na\n\n\nb\n\nc\n"


@RULES
def test_a_line_in_two_pieces(service: Service, mount: Mounts, rule: dict[str, str]) -> None:
    """The partial line waits for its newline: one clean line, one call."""
    service.switch(**rule)
    service.remote.create("note", "old")
    jots = mount()
    with Program() as writer, service.requests() as log:
        fd = writer.call(os.open, str(jots / "note"), os.O_WRONLY | os.O_APPEND)
        writer.call(os.write, fd, b"half ")
        writer.call(os.write, fd, b"line\n")
        writer.call(os.close, fd)
        jots.settled()
    assert log.changes == ["append"]
    assert service.body("note") == "old\nhalf line"


@RULES
def test_a_line_continued_after_it_was_sent(service: Service, mount: Mounts, rule: dict[str, str]) -> None:
    service.switch(**rule)
    service.remote.create("note", "old")
    jots = mount()
    jots.sh("printf half >> note")
    jots.settled()
    assert service.body("note") == "old\nhalf"
    assert jots.read("note") == b"old\nhalf"
    jots.sh("printf ' line\\n' >> note")
    jots.settled()
    assert service.body("note") == "old\nhalf line"
    assert jots.read("note") == b"old\nhalf line\n"


def test_many_writers_lose_nothing(service: Service, mount: Mounts) -> None:
    service.remote.create("note", "old")
    jots = mount()
    jots.sh("for w in 1 2 3 4; do (for i in $(seq 50); do echo \"$w $i\" >> note; done) & done; wait")
    jots.settled()
    lines = service.body("note").splitlines()
    assert len(lines) == 201
    for writer in "1234":
        assert [line for line in lines if line.startswith(f"{writer} ")] == [f"{writer} {i}" for i in range(1, 51)]
    assert jots.read("note").decode().splitlines() == lines


def test_others_append_too(service: Service, mount: Mounts) -> None:
    """Ours and theirs are all there, whole, and shown as the service has them."""
    service.switch(latency_ms=20)
    service.remote.create("note", "old")
    jots = mount(ttl=1)
    with Program() as program:
        program.start(os.system, f"cd {jots.path} && for i in $(seq 100); do echo ours $i >> note; sleep 0.01; done")
        for number in range(20):
            service.remote.append("note", f"theirs {number}")
        program.result()
    jots.settled()
    jots.refresh()
    lines = service.body("note").splitlines()
    assert [line for line in lines if line.startswith("ours")] == [f"ours {i}" for i in range(1, 101)]
    assert [line for line in lines if line.startswith("theirs")] == [f"theirs {i}" for i in range(20)]
    assert len(lines) == 121
    assert jots.read("note") == shown(service.body("note"))


def test_a_locked_note(service: Service, mount: Mounts) -> None:
    service.remote.create("stream", "old", append_only=True)
    jots = mount()
    with service.requests() as log:
        jots.sh("echo x >> stream")
        jots.settled()
    assert log.changes == ["append"]
    assert service.body("stream") == "old\nx"


@pytest.mark.parametrize("action", ["reset_after", "close_after", "truncate", "reset_before", "status"])
def test_exactly_once(service: Service, mount: Mounts, action: str) -> None:
    """A lost answer, or an error, leads to a retry and never to a second line."""
    service.remote.create("note", "old")
    jots = mount()
    jots.expect_error("note|append")
    service.fault(action, klass="append", count=2, **({"status": 503} if action == "status" else {}))
    jots.sh("echo x >> note")
    jots.settled(40)
    assert service.body("note") == "old\nx"
    keys = {row["key"] for row in service.log(endpoint="append")}
    assert len(service.log(endpoint="append")) >= 2 and len(keys) == 1


@pytest.mark.sanitizer
def test_what_was_written_survives_a_crash(service: Service, mount: Mounts) -> None:
    service.remote.create("note", "old")
    jots = mount()
    service.down()
    jots.expect_error("")
    jots.sh("for i in $(seq 20); do echo line $i >> note; done")
    jots.kill()
    service.up()
    jots.remount()
    jots.settled(40)
    assert service.body("note").splitlines() == ["old", *(f"line {i}" for i in range(1, 21))]


def test_the_keys_are_legal_and_never_reused(service: Service, mount: Mounts) -> None:
    service.remote.create("note", "old")
    jots = mount()
    for number in range(5):
        jots.sh(f"echo {number} >> note")
        jots.settled()
    keys = [row["key"] for row in service.log(endpoint="append")]
    assert len(set(keys)) == 5
    assert all(re.fullmatch(r"[\x21-\x7e]{8,255}", key) for key in keys)
