"""One jotsfs: its process, mountpoint, state directory and log."""

from __future__ import annotations

import ctypes
import json
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from harness import child, processes, report, table
from harness.patience import eventually, patience
from harness.service import Service

REPOSITORY = Path(__file__).resolve().parents[3]
PROGRAM = os.environ.get("JOTSFS", str(REPOSITORY / "build" / "jotsfs"))
WRAPPER = shlex.split(os.environ.get("JOTSFS_WRAPPER", ""))

# Short, so that tests are; a test about one of them says so itself.
QUICK: dict[str, Any] = {"ttl": 1, "drain_timeout": 5, "request_timeout": 1}
SANITIZER_OPTIONS = ("ASAN_OPTIONS", "UBSAN_OPTIONS", "TSAN_OPTIONS", "LSAN_OPTIONS")
PR_SET_PDEATHSIG = 1

Result = TypeVar("Result")


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def option_words(options: dict[str, Any]) -> str:
    """For -o: True stands alone, False and None are left out."""
    return ",".join(name if value is True else f"{name}={value}" for name, value in options.items()
                    if value is not None and value is not False)


def _wait_settled(status_file: Path, timeout_s: float) -> dict[str, Any]:
    end = time.monotonic() + timeout_s
    while True:
        status = json.loads(status_file.read_bytes())
        waiting = [row for row in status["pending"] if row["error"] is None]
        if not waiting:
            return status
        if time.monotonic() > end:
            raise AssertionError(f"still pending after {timeout_s:g} s: {waiting}")
        time.sleep(0.03)


class Mount:
    """`home` holds mountpoint, state and log; two mounts of one home share the state directory."""

    def __init__(self, service: Service, home: Path, *, path: Path | None = None, state: Path | None = None,
                 token: str | None = None, env: dict[str, str] | None = None, **options: Any) -> None:
        self.service = service
        self.home = home
        self.path = path or home / "mnt"
        self.state = state or home / "state"
        self.log_file = home / "log"
        self.options = QUICK | {"state_dir": self.state} | options
        self.process: subprocess.Popen[bytes] | None = None
        self.background_pid: int | None = None
        self.problems: list[str] = []
        self._expected: list[str] = []
        for directory in (home, self.path):
            directory.mkdir(parents=True, exist_ok=True)
        passed = {name: os.environ[name] for name in ("PATH", "TZ") if name in os.environ}
        sanitizers = {name: f"{os.environ.get(name, '')}:log_path={home}/sanitizer".strip(":")
                      for name in SANITIZER_OPTIONS}
        self.env = passed | sanitizers | {
            "HOME": str(home), "LC_ALL": "C.UTF-8", "JOTSFS_TEST": str(home),
            "FRESHJOTS_BASE_URL": service.api, "FRESHJOTS_TOKEN": token or service.token} | (env or {})

    # --- the process ---

    def command(self, *more: str) -> list[str]:
        return [*WRAPPER, PROGRAM, str(self.path), *more, "-o", option_words(self.options)]

    def start(self, **options: Any) -> Mount:
        """In the foreground, and waits until it is mounted."""
        self.options |= options
        was_there = self.is_mounted  # a dead mount, which jotsfs has to clean up
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(self.command("-f"), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            env=self.env, umask=0o022, start_new_session=True,
                                            preexec_fn=_die_with_parent)
        eventually(lambda: self.is_mounted or self.process.poll() is not None, 30, f"{self.path} is mounted")
        if was_there:
            eventually(lambda: self.errno((self / ".jotsfs/status").read_bytes) == "OK" or self.process.poll() is not None,
                       30, f"{self.path} is alive")
        if self.process.poll() is not None:
            raise AssertionError(f"jotsfs ended with status {self.process.returncode}:\n{self.log}")
        return self

    def start_background(self, **options: Any) -> child.Output:
        """As a user does: returns when the command does, mounted or not."""
        self.options |= options
        output = child.run(self.command(), env=self.env)
        if output.status == 0:
            found = [pid for pid in processes.find(str(self.path)) if pid != os.getpid()]
            self.background_pid = found[0] if found else None
        return output

    @property
    def pid(self) -> int:
        if self.process is not None:
            return self.process.pid
        assert self.background_pid is not None, "not started"
        return self.background_pid

    @property
    def is_mounted(self) -> bool:
        return table.row(self.path) is not None

    @property
    def is_running(self) -> bool:
        if self.process is not None:
            return self.process.poll() is None
        return self.background_pid is not None and processes.is_running(self.background_pid)

    def wait_exit(self, timeout_s: float = 15) -> int | None:
        """Exit status; None for a background process, which isn't our child."""
        eventually(lambda: not self.is_running, timeout_s, f"jotsfs {self.pid} ends")
        return self.process.returncode if self.process else None

    def kill(self) -> None:
        """SIGKILL, as a crash: the dead mount is detached, the state stays as it was."""
        processes.end(self.pid)
        if self.process:
            self.process.wait()
        table.detach(self.path)

    def terminate(self, timeout_s: float = 15) -> int | None:
        """SIGTERM; exit status."""
        os.kill(self.pid, signal.SIGTERM)
        return self.wait_exit(timeout_s)

    def unmount(self, timeout_s: float = 15) -> int | None:
        """fusermount3 -u, and waits for the process; exit status."""
        output = child.run(["fusermount3", "-u", str(self.path)])
        assert output.status == 0, output.err
        return self.wait_exit(timeout_s)

    def remount(self, **options: Any) -> Mount:
        """Ends the mount, if it is there, and makes it again from the same state."""
        if self.is_running:
            self.unmount()
        self.process = self.background_pid = None
        return self.start(**options)

    # --- the log ---

    @property
    def log(self) -> str:
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def expect_error(self, pattern: str) -> None:
        """Lines of level error that match are what the test is about."""
        self._expected.append(pattern)

    # --- files, always in another process ---

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    def do(self, function: Callable[..., Result], *arguments: Any, timeout_s: float = child.DEFAULT_TIMEOUT_S) -> Result:
        """FUNCTION's result from a process of its own."""
        return child.within(timeout_s, function, *arguments)

    def errno(self, function: Callable[..., Any], *arguments: Any) -> str:
        """"OK" or the name of the errno that FUNCTION fails with."""
        return self.do(child.errno_of, function, *arguments)

    def sh(self, command: str, check: bool = True, timeout_s: float = child.DEFAULT_TIMEOUT_S,
           data: bytes = b"") -> child.Output:
        """A shell command in the mount."""
        return child.shell(command, self.path, timeout_s, check, data)

    def read(self, name: str) -> bytes:
        return self.do((self / name).read_bytes)

    def write(self, name: str, data: bytes | str) -> None:
        """open O_TRUNC|O_CREAT, write, close."""
        self.do((self / name).write_bytes, data.encode() if isinstance(data, str) else data)

    def stat(self, name: str = "") -> os.stat_result:
        return self.do(os.lstat, self / name)

    def exists(self, name: str) -> bool:
        return self.do(os.path.lexists, self / name)

    def names(self, directory: str = "") -> list[str]:
        return sorted(self.do(os.listdir, self / directory))

    # --- what is owed ---

    def status(self) -> dict[str, Any]:
        return json.loads(self.read(".jotsfs/status"))

    def settled(self, timeout_s: float = 20) -> dict[str, Any]:
        """Waits, without hurrying it, until all that is owed is saved or refused for good; the status then."""
        return self.do(_wait_settled, self / ".jotsfs/status", patience(timeout_s), timeout_s=timeout_s + 10)

    def flush(self, timeout_s: float = 20) -> None:
        """Sends what is owed, settle times cut short."""
        self.do((self / ".jotsfs/flush").write_bytes, b"1\n", timeout_s=timeout_s)

    def refresh(self) -> None:
        """Sees what is new on the service."""
        self.do((self / ".jotsfs/refresh").write_bytes, b"1\n")

    # --- the end ---

    def close(self) -> None:
        """Unmounts and reaps, whatever state the test left; `problems` says what was wrong."""
        if self.process is None and self.background_pid is None:
            self.background_pid = next(iter(processes.find(str(self.path))), None)
        if self.is_mounted and not self._try_unmount():
            table.detach(self.path)
            if self.is_running:
                os.kill(self.pid, signal.SIGTERM)  # somebody works in it: it would live as long as they do
        try:
            if self.process or self.background_pid:
                self.wait_exit(float(self.options["drain_timeout"]) + 10)
        except AssertionError:
            self.problems.append(f"jotsfs {self.pid} goes on running after its unmount")
            processes.end(self.pid)
        status = self.process.wait() if self.process else None
        if status is not None and status < 0 and -status != signal.SIGKILL:
            self.problems.append(f"jotsfs died of {signal.Signals(-status).name}")
        self.problems += [f"sanitizer: {line}" for line in report.sanitizer_lines(self.home, self.log)]
        self.problems += [f"logged: {line}" for line in report.error_lines(self.log, self._expected)]

    def _try_unmount(self) -> bool:
        try:
            return child.run(["fusermount3", "-u", str(self.path)]).status == 0
        except child.Hang:
            table.abort(self.path)
            return False
