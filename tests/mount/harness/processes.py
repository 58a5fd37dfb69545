"""Finding and ending processes by what they were started with, never by program name."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from harness.patience import eventually


def _read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""


def environ(pid: int) -> list[bytes]:
    return _read(pid, "environ").split(b"\0")


def cmdline(pid: int) -> list[bytes]:
    return _read(pid, "cmdline").split(b"\0")


def is_running(pid: int) -> bool:
    """Neither gone nor a zombie."""
    stat = _read(pid, "stat").rpartition(b") ")[2]
    return stat[:1] not in (b"", b"Z", b"X")


def find(mark: str) -> list[int]:
    """Running processes that have MARK in an argument or in their environment."""
    wanted = mark.encode()
    everyone = [int(entry) for entry in os.listdir("/proc") if entry.isdigit() and int(entry) != os.getpid()]
    return [pid for pid in everyone
            if any(wanted in word for word in cmdline(pid) + environ(pid)) and is_running(pid)]


def inside(directory: Path) -> list[int]:
    """Processes that work in DIRECTORY or below."""
    found = []
    for entry in os.listdir("/proc"):
        try:
            where = Path(os.readlink(f"/proc/{int(entry)}/cwd"))
        except (ValueError, OSError):
            continue
        if where.is_relative_to(directory):
            found.append(int(entry))
    return found


def end(pid: int, number: int = signal.SIGKILL, timeout_s: float = 10) -> None:
    """Sends the signal and waits until the process, which need not be a child, is gone."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return
    eventually(lambda: not is_running(pid), timeout_s, f"process {pid} ends after signal {number}")
