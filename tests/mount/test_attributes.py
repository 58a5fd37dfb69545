"""Programs that care for times and modes are content: cp -p, rsync -a, tar, install, touch, make."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness.mount import Mount
from harness.mounts import Mounts
from harness.service import Service


@pytest.fixture
def jots(service: Service, mount: Mounts) -> Mount:
    return mount(settle=0.2)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    directory = tmp_path / "source"
    (directory / "Sub").mkdir(parents=True)
    for number, name in enumerate(("a.txt", "b.txt", "Sub/c.txt", "Sub/d.txt")):
        path = directory / name
        path.write_text(f"{name}\nsecond line\n")
        os.chmod(path, (0o644, 0o600, 0o640, 0o755)[number])
        os.utime(path, ns=(1_600_000_000_123_456_789 + number, 1_650_000_000_987_654_321 + number))
    return directory


def same(jots: Mount, source: Path, name: str) -> None:
    wanted, got = (source / name).stat(), jots.stat(name)
    assert (got.st_mtime_ns, got.st_mode, got.st_size) == (wanted.st_mtime_ns, wanted.st_mode, wanted.st_size), name


@pytest.mark.parametrize("command", ["cp -a {}/. .", "cp -rp {}/. .", "rsync -a {}/ .", "tar c --format=posix -C {} . | tar xp",
                                     "cp -a {}/. . && rsync -a {}/ ."])
def test_copies_keep_attributes(service: Service, jots: Mount, source: Path, command: str) -> None:
    jots.sh(command.replace("{}", str(source)))
    names = [str(path.relative_to(source)) for path in source.rglob("*") if path.is_file()]
    for name in names:
        same(jots, source, name)
    jots.settled()
    jots.refresh()
    for name in names:
        same(jots, source, name)
    jots.remount()
    for name in names:
        same(jots, source, name)
        assert jots.read(name) == (source / name).read_bytes()


def test_the_second_rsync_sends_nothing(service: Service, jots: Mount, source: Path) -> None:
    jots.sh(f"rsync -a {source}/ .")
    jots.settled()
    jots.remount()
    with service.requests() as log:
        assert jots.sh(f"rsync -ai {source}/ .").out == ""
        jots.settled()
    assert log.changes == []
    (source / "a.txt").write_text("a.txt\nsecond line\nthird\n")
    with service.requests() as log:
        jots.sh(f"rsync -a {source}/ .")
        jots.settled()
    assert log.changes == ["append"]
    assert service.body("a.txt") == "a.txt\nsecond line\nthird"


def test_rsync_delete_and_back(service: Service, jots: Mount, source: Path, tmp_path: Path) -> None:
    jots.sh(f"rsync -a {source}/ .")
    jots.settled()
    (source / "b.txt").unlink()
    jots.sh(f"rsync -a --delete --exclude .jotsfs {source}/ .")
    jots.flush()
    assert service.filenames() == ["a.txt", "c.txt", "d.txt"]
    jots.sh(f"rsync -a . {tmp_path}/back && diff -r {source} {tmp_path}/back")


def test_touch(service: Service, jots: Mount) -> None:
    jots.write("note", "text\n")
    jots.settled()
    with service.requests() as log:
        jots.sh("touch -d 2001-02-03T04:05:06.789Z note; touch -a note; touch -r note -d '2001-02-03T04:05:06.789Z' note")
        assert jots.stat("note").st_mtime_ns == 981173106_789_000_000
        jots.sh("touch note")
        assert abs(jots.stat("note").st_mtime - jots.stat("note").st_ctime) < 1
        jots.settled()
    assert log.changes == []


@pytest.mark.parametrize("times", [(None, 5), (5, None)])
def test_one_time_alone(service: Service, jots: Mount, times: tuple[int | None, int | None]) -> None:
    jots.write("note", "text\n")
    before = jots.stat("note")
    which = "-a" if times[1] is None else "-m"
    jots.sh(f"touch {which} -d @5 note")
    after = jots.stat("note")
    assert (after.st_atime, after.st_mtime) == (5 if times[0] else before.st_atime, 5 if times[1] else before.st_mtime)


def test_install(service: Service, jots: Mount, source: Path) -> None:
    jots.sh(f"install -m 600 -p {source}/a.txt new; install -m 640 {source}/b.txt new; install -d Dir")
    assert jots.stat("new").st_mode & 0o7777 == 0o640
    assert jots.read("new") == b"b.txt\nsecond line\n"
    jots.settled()
    assert jots.stat("new").st_mode & 0o7777 == 0o640
    assert jots.stat("Dir").st_mode & 0o777 == 0o755


def test_chmod_and_chown(service: Service, jots: Mount) -> None:
    jots.write("note", "text\n")
    stat = jots.stat("note")
    assert jots.errno(os.chmod, jots / "note", 0o600) == "OK"
    assert jots.stat("note").st_mode & 0o7777 == 0o600
    assert jots.errno(os.chown, jots / "note", stat.st_uid, stat.st_gid) == "OK"
    assert jots.errno(os.chown, jots / "note", -1, -1) == "OK"
    assert jots.errno(os.chown, jots / "note", stat.st_uid + 1, -1) == "EPERM"
    jots.settled()
    assert jots.stat("note").st_mode & 0o7777 == 0o600


def test_make_is_content(service: Service, jots: Mount) -> None:
    jots.write("Makefile", "out: in\n\tcp in out\n")
    jots.write("in", "text\n")
    assert jots.sh("env -u MAKEFLAGS -u MAKELEVEL make out").out == "cp in out\n"
    jots.settled()
    jots.refresh()
    assert "up to date" in jots.sh("env -u MAKEFLAGS -u MAKELEVEL make out").out
    jots.remount()
    assert "up to date" in jots.sh("env -u MAKEFLAGS -u MAKELEVEL make out").out
    jots.sh("sleep 0.01; touch in")
    assert jots.sh("env -u MAKEFLAGS -u MAKELEVEL make out").out == "cp in out\n"
    with service.requests() as log:
        jots.settled()
    assert log.changes == []


def test_times_go_on_with_every_change(service: Service, jots: Mount) -> None:
    jots.write("note", "text\n")
    seen = [jots.stat("note").st_mtime_ns]
    for command in ("echo more >> note", "printf T | dd of=note conv=notrunc status=none", "truncate -s 5 note", "echo new > note"):
        jots.sh(command)
        seen.append(jots.stat("note").st_mtime_ns)
        jots.settled()
        assert jots.stat("note").st_mtime_ns == seen[-1], command
    assert seen == sorted(set(seen))


def test_a_remote_version_ends_local_attributes(service: Service, jots: Mount) -> None:
    jots.write("note", "text\n")
    jots.settled()
    jots.sh("chmod 600 note; touch -d 2001-01-01 note")
    service.remote.patch("note", "changed", at=service.now() + 5)
    jots.refresh()
    stat = jots.stat("note")
    assert stat.st_mode & 0o777 == 0o644
    assert stat.st_mtime > 1_500_000_000


def test_directory_times(service: Service, jots: Mount) -> None:
    jots.sh("mkdir D")
    for command in ("echo x > D/x", "mv D/x D/y", "rm D/y"):
        before = jots.stat("D").st_mtime_ns
        jots.sh(command)
        assert jots.stat("D").st_mtime_ns > before, command
