"""Cold files are read exactly by every kind of reader, although the list's byte_size may be one off.

The file is the body and one final newline where a body that isn't empty lacks it.
"""

from __future__ import annotations

import mmap
import os
from pathlib import Path

import pytest

from harness.mount import Mount
from harness.mounts import Mounts
from harness.service import Service

MIB = 1 << 20
SIZES = (0, 1, 2, 511, 4095, 4096, 4097, 65536, 131071, 131072, 131073, MIB, 3 * MIB - 1)


def body_of(size: int, final_newline: bool) -> str:
    text = ("0123456789 abcdefghijklmnopqrstuvwxyz\n" * (size // 38 + 1))[:size]
    return text[:-1] + ("\n" if final_newline else ".") if text else ""


def fill(service: Service) -> dict[str, bytes]:
    """Notes of all sizes, with and without a final newline, and the files that they are."""
    files: dict[str, bytes] = {"umlauts": "äöü 日本語 🌱\n".encode() * 1000}
    service.remote.create("umlauts", files["umlauts"].decode())
    for size in SIZES:
        for final_newline in (False, True):
            body = body_of(size, final_newline)
            name = f"{size}{'-newline' if final_newline else ''}"
            service.remote.create(name, body)
            data = body.encode()
            files[name] = data + b"\n" if data and not data.endswith(b"\n") else data
    service.unlimited()
    return files


def compare(found: dict[str, bytes], files: dict[str, bytes]) -> None:
    wrong = {name: (len(found.get(name, b"")), len(data)) for name, data in files.items() if found.get(name) != data}
    assert not wrong, f"name: (bytes read, bytes expected) {wrong}"


def read_all(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def read_mapped(directory: Path) -> dict[str, bytes]:
    found = {}
    for name in os.listdir(directory):
        with (directory / name).open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size == 0:
                found[name] = b""
                continue
            with mmap.mmap(file.fileno(), size, prot=mmap.PROT_READ) as view:
                found[name] = view[:]
    return found


@pytest.fixture(params=["byte_size listed", "byte_size omitted"])
def cold(request: pytest.FixtureRequest, service: Service, mount: Mounts) -> tuple[Mount, dict[str, bytes]]:
    """A mount that has listed all files and read none, and what they must hold."""
    if request.param == "byte_size omitted":
        service.switch(list_omits="byte_size")
    files = fill(service)
    jots = mount(ttl=600)
    jots.sh("ls -l > /dev/null")
    return jots, files


@pytest.mark.parametrize("command", [
    "cp * {to}/",
    "rsync -a ./ {to}/",
    "for name in *; do dd if=$name of={to}/$name bs=1000 status=none; done",
    "for name in *; do cat < $name > {to}/$name; done",
    "for name in *; do tail -c +1 $name > {to}/$name; done",
], ids=["cp", "rsync", "dd", "cat", "tail"])
def test_copies_are_exact(cold: tuple[Mount, dict[str, bytes]], tmp_path: Path, command: str) -> None:
    jots, files = cold
    copy = tmp_path / "copy"
    copy.mkdir()
    output = jots.sh(command.format(to=copy), timeout_s=60)
    assert output.err == ""
    compare(read_all(copy), files)


def test_tar_is_exact(service: Service, mount: Mounts, tmp_path: Path) -> None:
    """tar asks for the size before it opens the file, so only what can be known then counts: the size of a body without a
    final newline, which is how jotsfs stores files, and of one that has been read."""
    files = fill(service)
    jots = mount(ttl=600)
    read_before = [name for name in files if name.endswith("-newline")]
    jots.sh(f"cat {' '.join(read_before)} > /dev/null")
    copy = tmp_path / "copy"
    copy.mkdir()
    output = jots.sh(f"tar cf - . | tar xf - -C {copy}", timeout_s=60)
    assert output.err == ""
    compare(read_all(copy), files)


def test_a_size_that_no_list_told(service: Service, mount: Mounts, tmp_path: Path) -> None:
    """API.md C5: it is fetched when it is first asked for; a size of 0 would make tar and rsync save nothing."""
    service.switch(list_omits="byte_size")
    files = {name: data for name, data in fill(service).items() if data.count(b"\n") < 100}
    jots = mount(ttl=600)
    assert {name: jots.stat(name).st_size for name in files} == {name: len(data) for name, data in files.items()}


def test_counted_sizes_are_exact(cold: tuple[Mount, dict[str, bytes]]) -> None:
    jots, files = cold
    # One file a call: with several, wc takes the sizes from a stat() before it opens any.
    lines = jots.sh("for name in *; do wc -c $name; done", timeout_s=60).lines
    counted = {name: int(size) for size, name in (line.split() for line in lines)}
    assert counted == {name: len(data) for name, data in files.items()}


def test_mapped_reads_are_exact(cold: tuple[Mount, dict[str, bytes]]) -> None:
    jots, files = cold
    compare(jots.do(read_mapped, jots.path, timeout_s=60), files)


def test_sizes_are_exact_once_read(cold: tuple[Mount, dict[str, bytes]]) -> None:
    jots, files = cold
    compare(jots.do(read_all, jots.path, timeout_s=60), files)
    assert {name: jots.stat(name).st_size for name in files} == {name: len(data) for name, data in files.items()}


def test_listed_sizes_are_at_most_one_off(service: Service, mount: Mounts) -> None:
    files = fill(service)
    jots = mount(ttl=600)
    for name, data in files.items():
        assert abs(jots.stat(name).st_size - len(data)) <= 1
    assert service.count("show_note") == 0


@pytest.mark.sanitizer
def test_a_file_read_while_it_grows_is_one_version(service: Service, mount: Mounts) -> None:
    """An open reader sees old or new content, never a mix."""
    old, new = "a" * 300_000, "b" * 300_000
    service.remote.create("note", old)
    jots = mount(ttl=1)

    def halves() -> set[bytes]:
        with (jots / "note").open("rb", buffering=0) as file:
            first = file.read(1000)
            service.remote.patch("note", new)
            rest = first
            while piece := file.read(1000):
                rest += piece
            return set(rest.split(b"\n")[:1])

    assert jots.do(halves) <= {old.encode(), new.encode()}
