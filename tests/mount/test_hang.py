"""A service that never answers: who waits can be ended, and everybody else goes on."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from harness.child import Program
from harness.mount import Mount
from harness.mounts import Mounts
from harness.patience import eventually, patience
from harness.service import Service

READERS = 50
# DESIGN.md promise 8. Measured: some 10 ms.
ENDS_WITHIN_S = 1.0
USABLE_WITHIN_S = 5.0


def read_it(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


@pytest.fixture
def stuck(service: Service, mount: Mounts) -> Iterator[tuple[Mount, list[Program]]]:
    """A mount of which `cached` has been read, and 50 processes that wait for 50 other notes."""
    for number in range(READERS):
        service.remote.create(f"cold {number}", f"body {number}")
    service.remote.create("cached", "known")
    jots = mount(ttl=1, drain_timeout=1, request_timeout=60)
    jots.expect_error("")
    assert jots.read("cached") == b"known\n"
    with ExitStack() as stack:
        service.fault("hang", method="GET", path=r"/notes/\d+")
        readers = [stack.enter_context(Program()) for _ in range(READERS)]
        for number, reader in enumerate(readers):
            reader.start(read_it, str(jots / f"cold {number}"))
        eventually(lambda: all(_is_waiting(reader) for reader in readers), 20, "all readers wait")
        yield jots, readers
        service.clear_faults()
        service.release()


def _is_waiting(reader: Program) -> bool:
    """In a FUSE request, and not for the next call of ours."""
    with open(f"/proc/{reader.pid}/wchan") as file:
        where = file.read()
    return "fuse" in where or "request_wait" in where


@pytest.mark.sanitizer
def test_everything_else_stays_usable(service: Service, stuck: tuple[Mount, list[Program]]) -> None:
    jots, readers = stuck
    limit = {"timeout_s": USABLE_WITHIN_S}
    assert jots.sh("cat cached", **limit).out == "known\n"
    assert len(jots.sh("ls -l", **limit).lines) == READERS + 2
    assert jots.sh("stat -c %s cached", **limit).out == "6\n"
    jots.sh("df . && stat -f .", **limit)
    jots.sh("echo more >> cached && echo new > new && mkdir Work && echo x > Work/x && mv new newer", **limit)
    assert jots.sh("cat newer cached; rm newer", **limit).out == "new\nknown\nmore\n"
    jots.sh("cat .jotsfs/status > /dev/null", **limit)
    assert not any(reader.answered() for reader in readers)


@pytest.mark.sanitizer
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_each_reader_can_be_ended(stuck: tuple[Mount, list[Program]], number: signal.Signals) -> None:
    _, readers = stuck
    for reader in readers:
        begun = time.monotonic()
        reader.signal(number)
        assert reader.wait(ENDS_WITHIN_S) == -number
        assert time.monotonic() - begun < patience(ENDS_WITHIN_S)


def test_all_at_once(stuck: tuple[Mount, list[Program]]) -> None:
    jots, readers = stuck
    for reader in readers:
        reader.signal(signal.SIGKILL)
    begun = time.monotonic()
    assert {reader.wait(ENDS_WITHIN_S) for reader in readers} == {-signal.SIGKILL}
    assert time.monotonic() - begun < patience(ENDS_WITHIN_S)
    assert jots.sh("cat cached", timeout_s=USABLE_WITHIN_S).out == "known\n"


def test_all_read_on_when_it_answers(service: Service, stuck: tuple[Mount, list[Program]]) -> None:
    _, readers = stuck
    service.clear_faults()
    service.release()
    assert [reader.result() for reader in readers] == [f"body {number}\n".encode() for number in range(READERS)]


def test_unmounting_ends_them_all(stuck: tuple[Mount, list[Program]]) -> None:
    """SIGTERM answers whoever waits; nobody stays behind in the kernel."""
    jots, readers = stuck
    jots.terminate()
    for reader in readers:
        with pytest.raises(OSError):
            reader.result()
    assert not jots.is_mounted


@pytest.mark.sanitizer
@pytest.mark.parametrize("outage", ["black_hole", "down"])
def test_without_a_network(service: Service, mount: Mounts, outage: str) -> None:
    """Everything cached reads and everything can be written, at once; what isn't cached fails, and can be ended."""
    service.seed(count=20)
    service.remote.create("cold", "unread")
    jots = mount(ttl=1, drain_timeout=1)
    jots.expect_error("")
    names = [name for name in jots.names() if name != "cold"]
    # Backwards, which is no walk that read-ahead knows: "cold" stays cold.
    jots.sh("ls -r | grep -v cold | xargs -d '\\n' cat > /dev/null")
    getattr(service, outage)()
    time.sleep(1.5)  # the next call finds that ttl is over
    limit = {"timeout_s": USABLE_WITHIN_S}
    jots.sh("ls -l > /dev/null; ls | grep -v cold | xargs -d '\\n' cat > /dev/null", **limit)
    jots.sh("echo new > new; for i in $(seq 20); do echo $i >> log; done; mkdir d; df . > /dev/null", **limit)
    for name in names[:3]:
        jots.sh(f"echo more >> '{name}'; sed -i '1s/^/first /' '{names[4]}'", **limit)
    with Program() as reader:
        reader.start(read_it, str(jots / "cold"))
        if outage == "black_hole":
            time.sleep(0.2)
            reader.signal(signal.SIGKILL)
            assert reader.wait(ENDS_WITHIN_S) == -signal.SIGKILL
        else:
            with pytest.raises(OSError):
                reader.result()
    service.up()
    jots.settled(60)
    assert service.body("new") == "new"
    assert service.body("log").splitlines() == [str(number) for number in range(1, 21)]
    assert all(service.body(name).endswith("more") for name in names[:3])
    assert [row["name"] for row in service.folders()] == ["d"]


def test_a_timer_does_not_end_a_wait(service: Service, mount: Mounts) -> None:
    """Go programs and timers must not see EINTR from open."""
    service.remote.create("cold", "body")
    jots = mount()
    service.fault("latency", ms=800, method="GET", path=r"/notes/\d+")

    def read_with_a_timer() -> bytes:
        ticks = []
        signal.signal(signal.SIGALRM, lambda *_: ticks.append(1))
        signal.siginterrupt(signal.SIGALRM, False)
        signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
        fd = os.open(jots / "cold", os.O_RDONLY)
        signal.setitimer(signal.ITIMER_REAL, 0)
        assert len(ticks) >= 1
        return os.read(fd, 100)

    assert jots.do(read_with_a_timer) == b"body\n"
