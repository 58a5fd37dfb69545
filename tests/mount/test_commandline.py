"""The command: its exit statuses and messages, the token's secrecy, and what happens between one mount and the next."""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import time
from pathlib import Path

import pytest

from harness import child, processes, table
from harness.mount import PROGRAM, REPOSITORY, WRAPPER, Mount
from harness.mounts import Mounts
from harness.patience import eventually, patience
from harness.service import Service

ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="mount(8) wants root")


def command(*arguments: str | Path, env: dict[str, str] | None = None, timeout_s: float = 20) -> child.Output:
    surroundings = {"PATH": os.environ["PATH"], "HOME": "/nonexistent"} | (env or {})
    return child.run([*WRAPPER, PROGRAM, *map(str, arguments)], timeout_s, env=surroundings)


def assert_one_clear_line(output: child.Output, *words: str) -> None:
    lines = [line for line in output.err.splitlines() if not line.startswith("==")]  # valgrind's
    assert len(lines) == 1 and lines[0].startswith("jotsfs: "), output.err
    assert output.out == ""
    assert all(word.lower() in lines[0].lower() for word in words), lines[0]


# --- usage ---


@pytest.mark.sanitizer
@pytest.mark.parametrize("arguments", [
    [], ["-o"], ["-x", "MNT"], ["--nonsense", "MNT"], ["http://127.0.0.1:1/api/v1", "MNT", "extra"],
    ["MNT", "-o", "nonsense"], ["MNT", "-o", "ttl"], ["MNT", "-o", "ttl=soon"], ["MNT", "-o", "ttl=-1"],
    ["MNT", "-o", "fsync=maybe"], ["MNT", "-o", "cache_size=much"], ["MNT", "-o", "umask=9"],
    ["MNT", "-o", "local=*.tmp,local=a/b"], ["status"], ["flush"],
], ids=" ".join)
def test_wrong_usage(tmp_path: Path, arguments: list[str]) -> None:
    env = {"HOME": str(tmp_path), "FRESHJOTS_TOKEN": "mn_unused", "FRESHJOTS_BASE_URL": "http://127.0.0.1:1/api/v1"}
    output = command(*[str(tmp_path) if word == "MNT" else word for word in arguments], env=env)
    assert output.status == 2
    assert output.err.startswith("jotsfs: ") and output.out == ""
    assert table.row(tmp_path) is None


def test_help_and_version() -> None:
    for flag in ("-h", "--help"):
        output = command(flag)
        assert output.status == 0 and output.out.startswith("Usage: jotsfs") and output.err == ""
    for flag in ("-V", "--version"):
        output = command(flag)
        assert output.status == 0 and (REPOSITORY / "packaging/VERSION").read_text().strip() in output.out.splitlines()[0]


# --- what stops a mount: one line, exit status 1, nothing mounted ---


def test_a_bad_token(service: Service, mount: Mounts) -> None:
    jots = mount.new(token="mn_wrong_and_secret")
    output = jots.start_background()
    assert output.status == 1
    assert_one_clear_line(output, "token")
    assert "mn_wrong" not in output.err
    assert not jots.is_mounted


def test_no_token(service: Service, mount: Mounts) -> None:
    jots = mount.new()
    del jots.env["FRESHJOTS_TOKEN"]
    output = jots.start_background()
    assert output.status in (1, 2)
    assert_one_clear_line(output, "FRESHJOTS_TOKEN")


def test_no_network_and_no_state(service: Service, mount: Mounts) -> None:
    service.down()
    jots = mount.new()
    output = jots.start_background()
    assert output.status == 1
    assert_one_clear_line(output)
    assert not jots.is_mounted


@pytest.mark.parametrize("kind", ["missing", "file"])
def test_a_bad_mountpoint(mount: Mounts, kind: str) -> None:
    jots = mount.new()
    jots.path.rmdir()
    if kind == "file":
        jots.path.write_text("")
    output = jots.start_background()
    assert output.status == 1
    assert_one_clear_line(output, str(jots.path))


@pytest.mark.parametrize("url", ["http://example.com/api/v1", "ftp://127.0.0.1/", "https://user@example.com/api/v1",
                                 "nonsense"])
def test_urls_that_must_not_have_the_token(mount: Mounts, url: str) -> None:
    jots = mount.new(env={"FRESHJOTS_BASE_URL": url})
    output = jots.start_background()
    assert output.status in (1, 2)
    assert output.err.startswith("jotsfs: ")
    assert not jots.is_mounted


def test_a_redirect_is_not_followed(service: Service, mount: Mounts) -> None:
    with Service() as other:
        service.fault("redirect", location=other.api + "/notes")
        output = mount.new().start_background()
        assert output.status == 1
        assert other.count() == 0


def test_a_token_file(service: Service, mount: Mounts, tmp_path: Path) -> None:
    token_file = tmp_path / "token"
    token_file.write_text(service.token + "\n")
    token_file.chmod(0o644)
    jots = mount.new(token_file=token_file)
    del jots.env["FRESHJOTS_TOKEN"]
    output = jots.start_background()
    assert output.status == 1
    assert_one_clear_line(output, str(token_file))
    token_file.chmod(0o600)
    assert jots.start_background().status == 0
    jots.write("note", "x\n")
    jots.settled()
    assert service.body("note") == "x"
    # A new token takes effect without a remount, and nothing is lost in between.
    service.revoke()
    jots.sh("echo y >> note")
    token_file.write_text(service.mint("second"))
    jots.settled(40)
    assert service.body("note") == "x\ny"


# --- running ---


def test_in_the_background(service: Service, mount: Mounts) -> None:
    jots = mount.new()
    output = jots.start_background()
    assert (output.status, output.out, output.err) == (0, "", "")
    assert jots.is_mounted
    assert os.getsid(jots.pid) != os.getsid(0)
    assert os.readlink(f"/proc/{jots.pid}/cwd") == "/"
    jots.write("note", "x\n")
    jots.settled()
    assert service.body("note") == "x"
    jots.unmount()
    assert not jots.is_running


@ROOT_ONLY
def test_from_fstab(service: Service, mount: Mounts, tmp_path: Path) -> None:
    token_file = tmp_path / "token"
    token_file.write_text(service.token)
    token_file.chmod(0o600)
    """mount(8) looks for jotsfs where it is installed, so that is faked in a mount namespace of our own."""
    jots = mount.new()
    words = f"rw,nosuid,nodev,_netdev,nofail,noauto,x-systemd.automount,user,token_file={token_file},state_dir={jots.state}"
    installed = tmp_path / "bin"
    installed.mkdir()
    (installed / "jotsfs").symlink_to(Path(PROGRAM).resolve())
    script = f"""
        mount --bind {installed} /usr/local/bin
        mount -t fuse.jotsfs {service.api} {jots.path} -o {words}
        grep ' {jots.path} ' /proc/self/mountinfo
        echo x > {jots.path}/note
        echo 1 > {jots.path}/.jotsfs/flush
        umount {jots.path}
    """
    output = child.run(["unshare", "--mount", "bash", "-ec", script], 40, env=os.environ | {"JOTSFS_TEST": str(tmp_path)})
    assert output.status == 0, output.err
    assert re.search(r" - fuse\.jotsfs ", output.out)
    assert service.body("note") == "x"
    eventually(lambda: not processes.find(str(jots.path)), 15, "jotsfs ends after umount")


@pytest.mark.sanitizer
@pytest.mark.parametrize("background", [False, True])
def test_the_token_is_nowhere(service: Service, mount: Mounts, background: bool) -> None:
    jots = mount.new()
    if background:
        assert jots.start_background().status == 0
    else:
        jots.start()
    service.fault("status", status=500, count=3, klass="write")
    jots.sh("echo x > note; cat .jotsfs/status .jotsfs/status.txt", timeout_s=20)
    jots.settled(60)
    secret = service.token.encode()
    assert not any(secret in word for word in processes.environ(jots.pid) + processes.cmdline(jots.pid))
    assert secret not in jots.read(".jotsfs/status") + jots.read(".jotsfs/status.txt")
    assert service.token not in jots.log
    found = [path for path in jots.state.rglob("*") if path.is_file() and secret in path.read_bytes()]
    assert found == []


def test_the_state_is_private(service: Service, mount: Mounts) -> None:
    service.remote.create("note", "secret")
    jots = mount()
    jots.read("note")
    jots.sh("echo more >> note")
    assert stat.S_IMODE(jots.state.stat().st_mode) == 0o700
    open_to_others = [path for path in jots.state.rglob("*") if path.lstat().st_mode & 0o077 and not path.is_symlink()]
    assert open_to_others == []


def test_the_default_state_directory(service: Service, mount: Mounts, tmp_path: Path) -> None:
    jots = mount.new(env={"XDG_STATE_HOME": str(tmp_path / "xdg")}, state_dir=None).start()
    states = list((tmp_path / "xdg" / "jotsfs").iterdir())
    assert len(states) == 1 and states[0].name.startswith("127.0.0.1")
    assert stat.S_IMODE(states[0].stat().st_mode) == 0o700
    assert jots.names() == []


def test_read_only(service: Service, mount: Mounts) -> None:
    service.remote.create("note", "text")
    with service.requests() as log:
        jots = mount(ro=True)
        assert jots.read("note") == b"text\n"
        assert jots.errno((jots / "note").write_bytes, b"x") == "EROFS"
        assert jots.errno(os.mkdir, jots / "Work") == "EROFS"
        jots.unmount()
    assert log.changes == []


def test_a_read_only_token(service: Service, mount: Mounts) -> None:
    service.remote.create("note", "text")
    service.set_scope("read_only")
    jots = mount()
    jots.expect_error("read_only|may only read")
    eventually(lambda: jots.errno((jots / "note").write_bytes, b"x") == "EROFS", 10, "the mount becomes read-only")
    assert jots.read("note") == b"text\n"
    assert service.body("note") == "text"


# --- the commands on a mount ---


def test_status_flush_and_refresh(service: Service, mount: Mounts) -> None:
    service.remote.create("old", "text")
    jots = mount(settle=600, ttl=600)
    jots.names()
    assert command("status", jots.path).status == 0
    jots.write("note", "x\n")
    output = command("status", jots.path)
    assert "note" in output.out
    status = json.loads(command("status", "--json", jots.path).out)
    assert {"version", "url", "online", "saved", "account", "pending", "errors", "budget", "cache"} <= set(status)
    assert (status["saved"], [row["path"].lstrip("/") for row in status["pending"]]) == (False, ["note"])
    assert service.note("note") is None
    assert command("flush", jots.path).status == 0
    assert service.body("note") == "x"
    assert json.loads(command("status", "--json", jots.path).out)["saved"] is True
    service.remote.patch("old", "new text")
    assert command("refresh", jots.path).status == 0
    assert jots.read("old") == b"new text\n"
    assert command("status", jots.home).status != 0


def test_flush_without_a_mount(service: Service, mount: Mounts) -> None:
    service.remote.create("note", "text")
    jots = mount(drain_timeout=1)
    jots.expect_error("")
    service.down()
    jots.sh("echo x >> note; echo y > new")
    assert jots.unmount() != 0
    env = {name: jots.env[name] for name in ("FRESHJOTS_TOKEN", "FRESHJOTS_BASE_URL", "HOME")}
    assert command("flush", jots.state, env=env, timeout_s=60).status != 0
    service.up()
    output = command("flush", jots.state, env=env, timeout_s=40)
    assert output.status == 0, output.err
    assert (service.body("note"), service.body("new")) == ("text\nx", "y")


# --- the end of a mount, and the next ---


@pytest.mark.sanitizer
def test_sigterm_sends_what_is_owed(service: Service, mount: Mounts) -> None:
    jots = mount(settle=600)
    jots.write("note", "x\n")
    assert jots.terminate() == 0
    assert service.body("note") == "x"
    assert not jots.is_mounted


@pytest.mark.parametrize("end", ["unmount", "terminate"])
def test_what_is_left_is_sent_by_the_next_mount(service: Service, mount: Mounts, end: str) -> None:
    service.remote.create("note", "text")
    jots = mount(drain_timeout=1)
    jots.expect_error("")
    jots.read("note")
    service.down()
    jots.sh("echo x >> note; echo y > new")
    assert getattr(jots, end)() != 0
    jots.remount()  # the service is still down: state on disk is enough
    assert (jots.read("note"), jots.read("new")) == (b"text\nx\n", b"y\n")
    service.up()
    jots.settled(60)
    assert (service.body("note"), service.body("new")) == ("text\nx", "y")
    assert len(service.history("note", op="append")) == 1


def test_a_remount_keeps_what_it_knew(service: Service, mount: Mounts) -> None:
    service.seed(count=30, folders=2)
    jots = mount()
    before = jots.sh("find . -type f | sort | xargs -d '\\n' sha256sum").out
    service.down()
    jots.remount()
    assert jots.sh("find . -type f | sort | xargs -d '\\n' sha256sum").out == before


def test_a_second_mount_of_the_same_state(service: Service, mount: Mounts) -> None:
    first = mount()
    first.write("note", "x\n")
    second = mount.new(state=first.state)
    output = second.start_background()
    assert output.status == 1
    assert_one_clear_line(output, str(first.state))
    assert not second.is_mounted
    assert first.read("note") == b"x\n"
    first.settled()
    assert service.body("note") == "x"


def test_a_draining_mount_hands_over(service: Service, mount: Mounts) -> None:
    service.remote.create("note", "text")
    first = mount(drain_timeout=60)
    first.expect_error("")
    service.down()
    first.sh("echo x >> note")
    assert child.run(["fusermount3", "-u", str(first.path)]).status == 0
    time.sleep(0.5)
    assert first.is_running
    begun = time.monotonic()
    second = mount(state=first.state)
    second.expect_error("")
    assert time.monotonic() - begun < patience(15)
    first.wait_exit(10)
    service.up()
    second.settled(60)
    assert service.body("note") == "text\nx"


@pytest.mark.sanitizer
def test_a_dead_mount_is_cleaned_up(service: Service, mount: Mounts) -> None:
    service.remote.create("note", "text")
    jots = mount()
    jots.read("note")
    processes.end(jots.pid, signal.SIGKILL)
    assert jots.errno(os.listdir, jots.path) in ("ENOTCONN", "ECONNABORTED")
    jots.process.wait()
    jots.start()
    assert jots.read("note") == b"text\n"


def test_killed_before_it_knew_the_account(service: Service, mount: Mounts) -> None:
    """State without a complete list is no state: the next mount waits for the list."""
    service.switch(latency_ms=200)
    service.remote.create("note", "text")
    jots = mount()
    jots.kill()
    jots.remount()
    assert jots.read("note") == b"text\n"


def test_another_account_is_refused(service: Service, mount: Mounts) -> None:
    """Unsent data of one account never reaches another."""
    service.remote.create("note", "text")
    service.open_account("other").create("note", "theirs")
    jots = mount()
    jots.read("note")
    jots.unmount()
    jots.process = None
    jots.env["FRESHJOTS_TOKEN"] = service.mint("theirs", account="other")
    output = jots.start_background()
    assert output.status == 1
    assert_one_clear_line(output, "state_dir")
    assert service.body("note", "other") == "theirs"


def _database(mount: Mount) -> Path:
    return next(path for path in mount.state.rglob("*") if path.is_file() and path.read_bytes()[:15] == b"SQLite format 3")


def test_broken_state_is_refused_and_kept(service: Service, mount: Mounts) -> None:
    service.remote.create("note", "text")
    jots = mount()
    jots.read("note")
    jots.unmount()
    jots.process = None
    database = _database(jots)
    for extra in database.parent.glob(database.name + "-*"):
        extra.unlink()
    broken = database.read_bytes()[:100] + b"\xa5" * (database.stat().st_size - 100)
    database.write_bytes(broken)
    before = {path: path.read_bytes() for path in jots.state.rglob("*") if path.is_file() and path.suffix != ".lock"}
    output = jots.start_background()
    assert output.status == 1
    assert_one_clear_line(output, str(jots.state))
    assert {path: path.read_bytes() for path in before} == before
