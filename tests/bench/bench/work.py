"""What is timed: plain system calls and commands, as programs make them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

LINE = b"2026-01-01 12:00:00 deploy ok\n"
APPEND = os.O_WRONLY | os.O_APPEND | os.O_CREAT


def append(path: Path, count: int) -> None:
    """`>>` COUNT times: open, write, close."""
    for _ in range(count):
        fd = os.open(path, APPEND)
        os.write(fd, LINE)
        os.close(fd)


def append_numbered(path: Path, count: int) -> None:
    """The same with lines that differ."""
    for number in range(count):
        fd = os.open(path, APPEND)
        os.write(fd, f"line {number}\n".encode())
        os.close(fd)


def log(path: Path, count: int) -> None:
    """A program that keeps its log file open."""
    fd = os.open(path, APPEND)
    for _ in range(count):
        os.write(fd, LINE)
    os.close(fd)


def log_numbered(path: Path, count: int) -> None:
    fd = os.open(path, APPEND)
    for number in range(count):
        os.write(fd, f"line {number}\n".encode())
    os.close(fd)


def read(paths: list[Path]) -> None:
    """cat, with its buffer of 128 KiB."""
    for path in paths:
        fd = os.open(path, os.O_RDONLY)
        while os.read(fd, 131072):
            pass
        os.close(fd)


def drop_pages(paths: list[Path]) -> None:
    """Out of the kernel's page cache, what is behind it stays."""
    for path in paths:
        fd = os.open(path, os.O_RDONLY)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(fd)


def command(words: list[str]) -> None:
    subprocess.run(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)


def grep(directory: Path) -> None:
    command(["grep", "-r", "no such line", str(directory)])


def list_all(directory: Path) -> None:
    command(["ls", "-lR", str(directory)])
