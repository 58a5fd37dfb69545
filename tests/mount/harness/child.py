"""Functions and shell commands in processes of their own, with a time limit.

Whatever touches a mount under test runs here: a system call that never returns then fails one test and
doesn't stop the suite, not even when SIGKILL doesn't end it.
"""

from __future__ import annotations

import errno
import multiprocessing
import os
import pickle
import signal
import subprocess
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from harness.patience import patience

DEFAULT_TIMEOUT_S = 20.0
REAP_TIMEOUT_S = 5.0

Result = TypeVar("Result")


class Hang(AssertionError):
    """It did not end in time."""


class Died(AssertionError):
    """The child ended without an answer."""


def reap(pid: int, timeout_s: float = REAP_TIMEOUT_S) -> int | None:
    """The exit status (as in subprocess) of a child of ours that is ending; None when it doesn't."""
    end = time.monotonic() + timeout_s
    while True:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > end:
            return None
        time.sleep(0.005)


def _describe(error: BaseException) -> BaseException:
    """ERROR as it can be sent, with where it happened."""
    where = "in the child process:\n" + "".join(traceback.format_exception(error))
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return Died(where)
    error.add_note(where)
    return error


def _serve(answers: Connection, calls: Connection | None, first: tuple[Callable, tuple] | None) -> NoReturn:
    """The child's life: answer one call, or every call that comes."""
    try:
        os.setpgid(0, 0)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM):
            signal.signal(number, signal.SIG_DFL)
        while True:
            function, arguments = first or calls.recv()
            try:
                answer = (True, function(*arguments))
            except BaseException as error:
                answer = (False, _describe(error))
            answers.send(answer)
            if first:
                os._exit(0)
    finally:
        os._exit(70)


class Program:
    """A process that does what it is told and keeps its descriptors: `fd = program.call(os.open, path, flags)`.

    Functions are sent by name, so they must be importable (os.read, or top-level in a test module).
    """

    def __init__(self, first: tuple[Callable, tuple] | None = None) -> None:
        answers, child_answers = multiprocessing.Pipe(duplex=False)
        child_calls, calls = multiprocessing.Pipe(duplex=False)
        self.pid = os.fork()
        if self.pid == 0:
            answers.close()
            calls.close()
            _serve(child_answers, child_calls, first)
        child_answers.close()
        child_calls.close()
        self._answers, self._calls = answers, calls
        self.status: int | None = None

    def start(self, function: Callable[..., Any], *arguments: Any) -> None:
        self._calls.send((function, arguments))

    def result(self, timeout_s: float = DEFAULT_TIMEOUT_S) -> Any:
        """What the last `start` came to; raises what it raised."""
        if not self._answers.poll(patience(timeout_s)):
            raise Hang(f"process {self.pid} did not answer within {patience(timeout_s):g} s")
        try:
            well, value = self._answers.recv()
        except EOFError:
            raise Died(f"process {self.pid} ended: {self.wait()}") from None
        if not well:
            raise value
        return value

    def call(self, function: Callable[..., Any], *arguments: Any, timeout_s: float = DEFAULT_TIMEOUT_S) -> Any:
        self.start(function, *arguments)
        return self.result(timeout_s)

    def answered(self) -> bool:
        return self._answers.poll(0)

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def wait(self, timeout_s: float = REAP_TIMEOUT_S) -> int | None:
        """Exit status; None when it still runs after the time."""
        if self.status is None:
            self.status = reap(self.pid, patience(timeout_s))
        return self.status

    def close(self) -> None:
        """SIGKILL, to it and to what it started."""
        if self.status is None:
            try:
                os.killpg(self.pid, signal.SIGKILL)
            except ProcessLookupError:
                os.kill(self.pid, signal.SIGKILL)
            self.wait()
        self._answers.close()
        self._calls.close()

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def within(timeout_s: float, function: Callable[..., Result], *arguments: Any) -> Result:
    """FUNCTION's result from a process of its own; Hang when it takes longer."""
    with Program(first=(function, arguments)) as program:
        return program.result(timeout_s)


def errno_of(function: Callable[..., Any], *arguments: Any) -> str:
    """"OK", or the name of the errno that FUNCTION failed with."""
    try:
        function(*arguments)
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error.errno))
    return "OK"


@dataclass(frozen=True)
class Output:
    status: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


def run(command: list[str], timeout_s: float = DEFAULT_TIMEOUT_S, env: dict[str, str] | None = None,
        data: bytes = b"") -> Output:
    """Run to the end; Hang when that takes longer. Output goes to files: a daemon that keeps it open is no wait."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err, tempfile.TemporaryFile() as source:
        source.write(data)
        source.seek(0)
        process = subprocess.Popen(command, stdin=source, stdout=out, stderr=err, env=env, start_new_session=True)
        try:
            status = process.wait(patience(timeout_s))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            try:
                process.wait(REAP_TIMEOUT_S)
                ended = ""
            except subprocess.TimeoutExpired:
                ended = ", and SIGKILL doesn't end it"
            raise Hang(f"not within {patience(timeout_s):g} s{ended}: {command}") from None
        texts = []
        for stream in (out, err):
            stream.seek(0)
            texts.append(stream.read().decode(errors="surrogateescape"))
        return Output(status, *texts)


def shell(command: str, directory: Path, timeout_s: float = DEFAULT_TIMEOUT_S, check: bool = True,
          data: bytes = b"") -> Output:
    """A shell command in DIRECTORY. It changes there itself: that can hang, too."""
    output = run(["bash", "-c", f'cd -- "$0" || exit 125\n{command}', str(directory)], timeout_s,
                 env={**os.environ, "LC_ALL": "C.UTF-8"}, data=data)
    if check and output.status != 0:
        raise AssertionError(f"status {output.status}: {command}\n{output.out}{output.err}")
    return output
