"""The stand-in as a process: starting, options, state on disk, and its end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from client import PROGRAM, StandIn

HERE = Path(__file__).resolve().parent


def test_both_ways_to_start():
    for command, extra in (([PROGRAM], {}), (["-m", "standin"], {"PYTHONPATH": str(HERE)})):
        process = subprocess.Popen(["/usr/bin/python3", *command], stdin=subprocess.DEVNULL,
                                   stdout=subprocess.PIPE, text=True, env={**os.environ, **extra})
        line = process.stdout.readline()
        process.terminate()
        assert '"api": "http://127.0.0.1:' in line and process.stdout.read() == ""
        assert process.wait(5) == 0


def test_options(tmp_path):
    with StandIn("--first-id", "5000", tier="team", sample=True, token="mn_mine",
                 switches={"etag": "off", "list_omits": ["byte_size"]}) as stand:
        assert stand.token == "mn_mine"
        assert {folder["name"] for folder in stand.folders()} >= {"Kitchen", "Work"}
        assert stand.note(5000)["filename"] == "Welcome.txt"
        reply = stand.request("GET", "/notes")
        assert reply.headers["x-ratelimit-limit"] == "2000" and "etag" not in reply.headers
        assert "byte_size" not in reply.json["notes"][0]


def test_bad_switch_on_the_command_line():
    result = subprocess.run(["/usr/bin/python3", PROGRAM, "--switch", "etag=perhaps"], capture_output=True,
                            text=True)
    assert result.returncode == 1 and "etag" in result.stderr and result.stdout == ""


def test_state_survives_a_restart(tmp_path):
    state = tmp_path / "state.json"
    with StandIn(state=state, switches={"ids": "string"}) as stand:
        stand.remote.create("n", "x")
        stand.request("POST", "/notes/by-filename/n/append", {"text": "y"}, key="key-0001")
        token, dump = stand.token, stand.dump()
        assert stand.stop() == 0
    with StandIn(state=state) as stand:
        assert stand.token == token and stand.dump() == dump
        again = stand.request("POST", "/notes/by-filename/n/append", {"text": "y"}, key="key-0001")
        assert again.headers["idempotent-replay"] == "true" and stand.body("n") == "x\ny"
        assert stand.request("GET", "/notes/by-filename/n").json["id"] == str(dump["accounts"][0]["notes"][0]["id"])


def test_sigterm_ends_it_even_while_requests_hang():
    with StandIn() as stand:
        stand.fault("hang")
        with pytest.raises(OSError):
            stand.request("GET", "/notes", timeout_s=0.05)
        start = time.monotonic()
        assert stand.stop() == 0 and time.monotonic() - start < 2


@pytest.mark.parametrize("stdin", ["PIPE", "DEVNULL"])
def test_it_dies_with_its_parent(stdin):
    parent = subprocess.Popen(["/usr/bin/python3", "-c", textwrap.dedent(f"""
        import subprocess, sys, time
        child = subprocess.Popen(["/usr/bin/python3", {str(PROGRAM)!r}, "--die-with-parent"],
                                 stdin=subprocess.{stdin}, stdout=subprocess.PIPE)
        child.stdout.readline()
        print(child.pid, flush=True)
        time.sleep(60)
    """)], stdout=subprocess.PIPE, text=True)
    child = int(parent.stdout.readline())
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    end = time.monotonic() + 5
    while _alive(child):
        assert time.monotonic() < end
        time.sleep(0.02)


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_big_accounts_are_quick():
    start = time.monotonic()
    with StandIn(seed_notes=50_000) as stand:
        assert time.monotonic() - start < 10
        stand.unlimited()
        stand.request("GET", "/notes?limit=200")
        start = time.monotonic()
        for number in range(20):
            stand.remote.create(f"new {number}")
            top = stand.request("GET", "/notes?limit=200").json["notes"][0]
            assert top["filename"] == f"new {number}"
        assert time.monotonic() - start < 2
        resident = int(Path(f"/proc/{stand.process.pid}/statm").read_text().split()[1]) * 4096
        assert resident < 300 << 20


def test_it_runs_on_the_library_alone():
    """Nothing outside Python's standard library: -S leaves site-packages out."""
    code = "import sys; sys.path.insert(0, sys.argv[1]); import standin.control, standin.service"
    subprocess.run(["/usr/bin/python3", "-S", "-c", code, HERE], check=True)
    assert sys.version_info >= (3, 11)
