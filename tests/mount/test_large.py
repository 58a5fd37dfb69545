"""Accounts as large as the tiers allow. What they take is printed; `pytest -s` or -rP shows it."""

from __future__ import annotations

import os
import time

import pytest

from harness.mounts import Mounts
from harness.service import Service

LARGEST = int(os.environ.get("JOTSFS_TEST_LARGE", "20000"))  # 50000 is the Team tier
BOUND_MIB = {10_000: 30, 50_000: 80}


def resident_mib(pid: int, what: str = "VmRSS") -> float:
    with open(f"/proc/{pid}/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(what + ":")) / 1024


def bound_mib(count: int) -> float:
    """What is aimed at; a sanitizer takes more."""
    factor = 10 if os.environ.get("JOTSFS_PATIENCE") else 1
    return (30 if count <= 10_000 else 30 + 50 * (count - 10_000) / 40_000) * factor


@pytest.mark.slow
@pytest.mark.parametrize("count", [10_000, LARGEST])
def test_a_large_account(mount: Mounts, count: int) -> None:
    with Service(seed_notes=0, tier="team") as service:
        service.seed(count=count, folders=20, body_bytes=100)
        service.unlimited()
        jots = mount.new(service=service, ttl=600)
        begun = time.monotonic()
        jots.start()
        names = jots.do(os.listdir, jots.path, timeout_s=120)
        cold = time.monotonic() - begun
        assert service.count("list_notes") <= count / 200 + 3
        assert service.count("show_note") == 0
        output = jots.sh("ls -lR . | wc -l", timeout_s=120)
        assert int(output.out) > count
        print(f"{count} notes: first list {cold:.1f} s, {resident_mib(jots.pid):.1f} MiB, at most"
              f" {resident_mib(jots.pid, 'VmHWM'):.1f} MiB")
        jots.unmount()

        since = service.last()
        begun = time.monotonic()
        jots.remount()
        ready = time.monotonic() - begun
        service.black_hole()  # from here on nothing can be asked
        output = jots.sh("ls -lR . | wc -l", timeout_s=60)
        walked = time.monotonic() - begun - ready
        assert int(output.out) > count
        assert walked < 60
        service.up()
        print(f"{count} notes: mounted again after {ready:.2f} s, ls -lR in {walked:.2f} s,"
              f" {resident_mib(jots.pid):.1f} MiB, {len(service.log(since))} requests")
        assert resident_mib(jots.pid) < bound_mib(count)
        assert sorted(jots.do(os.listdir, jots.path, timeout_s=60)) == sorted(names)
        jots.expect_error("")
        jots.unmount()
