"""Start and steer the stand-in service from Python tests.

    with StandIn() as stand:
        stand.remote.create("todo.txt", "milk")
        mount(stand.api, stand.token)
        ...
        assert stand.count("append") == 1
        assert stand.body("todo.txt") == "milk\\neggs"

The service runs as a process of its own, which ends with `stop()`, with the `with` block, or with this
process. Everything below talks to its control port, costs no rate limit and is not in the request log,
except `request`, which is a plain API client. Methods raise `ControlError` when the stand-in refuses an
argument. Thread-safe.

Notes are named by id (int) or filename (str), folders by id or name.
"""

from __future__ import annotations

import http.client
import json
import select
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

PROGRAM = Path(__file__).resolve().parent / "standin"
START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 10.0

Note = dict[str, Any]
Folder = dict[str, Any]
NoteRef = int | str
FolderRef = int | str
Time = float | str


class ControlError(Exception):
    """The control port refused a call; a defect of the test or of the stand-in."""


@dataclass(frozen=True)
class ApiReply:
    """What `StandIn.request` got; header names are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body) if self.body else None

    @property
    def code(self) -> str | None:
        """`error.code`, or None."""
        value = self.json
        return value.get("error", {}).get("code") if isinstance(value, dict) else None


class _Line:
    """One keep-alive connection to the control port, reopened when it broke."""

    def __init__(self, url: str) -> None:
        self._address = urlsplit(url).netloc
        self._connection: http.client.HTTPConnection | None = None
        self._lock = threading.Lock()

    def call(self, name: str, arguments: dict[str, Any]) -> Any:
        body = json.dumps(arguments)
        with self._lock:
            if self._connection is None:
                self._connection = http.client.HTTPConnection(self._address, timeout=60)
            try:
                self._connection.request("POST", "/" + name, body, {"Content-Type": "application/json"})
                reply = self._connection.getresponse()
                value = json.loads(reply.read())
            except BaseException:
                self.close()
                raise
        if reply.status != 200:
            raise ControlError(f"{name}: {value['error']}")
        return value

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class StandIn:
    """A running stand-in service.

    `api` is its base URL, `token` the secret of the main token (named "main", of the account "main"),
    `control` the control URL, `process` the subprocess, `remote` the other client of the main account.
    """

    def __init__(self, *arguments: str, switches: dict[str, Any] | None = None, tier: str = "dev",
                 sample: bool = False, seed_notes: int = 0, port: int = 0, token: str | None = None,
                 state: Path | str | None = None, stderr: Any = None) -> None:
        """Start the service and wait until it is ready. `arguments` are further command-line options;
        `stderr` goes to subprocess (None: ours; tracebacks of the stand-in's own defects appear there)."""
        command = ["/usr/bin/python3", str(PROGRAM), "--die-with-parent", "--tier", tier,
                   "--seed-notes", str(seed_notes), "--port", str(port), *arguments]
        command += ["--sample"] if sample else []
        command += ["--token", token] if token else []
        command += ["--state", str(state)] if state else []
        for name, value in (switches or {}).items():
            command += ["--switch", f"{name}={_word(value)}"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=stderr)
        ready = self._read_ready()
        self.api: str = ready["api"]
        self.control: str = ready["control"]
        self.token: str = ready["token"]
        self._line = _Line(self.control)
        self.remote = Remote(self, "main")

    def _read_ready(self) -> dict[str, str]:
        if select.select([self.process.stdout], [], [], START_TIMEOUT_S)[0]:
            line = self.process.stdout.readline()
            if line:
                return json.loads(line)
        self.process.kill()
        self.process.wait()
        raise RuntimeError(f"the stand-in did not start (exit status {self.process.returncode})")

    def stop(self) -> int:
        """SIGTERM, and wait; the exit status. Harmless when it has stopped."""
        self._line.close()
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            pipe.close()
        return self.process.returncode

    def __enter__(self) -> StandIn:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def call(self, name: str, /, **arguments: Any) -> Any:
        """Any control call by name; the methods below cover all of them."""
        return self._line.call(name, arguments)

    # Switches and clock

    def switch(self, **values: Any) -> dict[str, Any]:
        """Set switches (see standin/switches.py); the resulting values of all."""
        return self.call("switches", **{name: _word(value) for name, value in values.items()})

    def switches(self) -> dict[str, Any]:
        return self.call("switches")

    def reset_switches(self) -> None:
        self.call("reset_switches")

    def advance(self, seconds: float) -> None:
        """Advance the server's clock (Date, note times, key expiry; not the rate windows)."""
        self.call("clock", advance_s=seconds)

    def freeze(self) -> None:
        """Stop the server's clock, so that all changes get equal times."""
        self.call("clock", freeze=True)

    def unfreeze(self) -> None:
        self.call("clock", freeze=False)

    def now(self) -> float:
        """The server's clock in epoch seconds."""
        return self.call("clock")["now_us"] / 1e6

    # Accounts, tokens, limits

    def open_account(self, name: str, tier: str = "dev") -> Remote:
        """Another account; answers its `Remote`."""
        self.call("open_account", name=name, tier=tier)
        return Remote(self, name)

    def account(self, account: str = "main", plan: str | None = None, **caps: int) -> dict[str, Any]:
        """Set the plan (active, lapsed, no_api, unconfirmed) and caps (plain_notes, rich_notes,
        storage_bytes, note_bytes, folders); answers `{plan, caps, used_bytes}`."""
        given = {} if plan is None else {"plan": plan}
        return self.call("account", account=account, **given, **caps)

    def mint(self, name: str, account: str = "main", scope: str = "read_write",
             note: NoteRef | None = None, secret: str | None = None) -> str:
        """A new token (scope read_write, read_only or write_only; `note` locks it to one); its secret."""
        return self.call("mint", name=name, account=account, scope=scope, note=note,
                         secret=secret)["secret"]

    def revoke(self, name: str = "main") -> None:
        self.call("token", name=name, revoked=True)

    def unrevoke(self, name: str = "main") -> None:
        self.call("token", name=name, revoked=False)

    def set_scope(self, scope: str, name: str = "main") -> None:
        self.call("token", name=name, scope=scope)

    def limit(self, klass: str, count: int, period_s: float = 60, token: str | None = None) -> None:
        """So many requests of a class (read, write, append) per period, for one token or all."""
        self.call("limit", klass=klass, count=count, period_s=period_s, token=token)

    def unlimited(self) -> None:
        """No rate limit that a test could reach."""
        for klass in ("read", "write", "append"):
            self.limit(klass, 10**9)

    def reset_limits(self) -> None:
        """The tiers' limits again, with nothing used."""
        self.call("reset_limits")

    def refill(self) -> None:
        """As if every rate window had just begun."""
        self.call("reset_limits", refill_only=True)

    def forget_keys(self) -> None:
        """Forget all Idempotency-Keys."""
        self.call("forget_keys")

    # Faults and outages

    def fault(self, action: str, *, method: str | None = None, path: str | None = None,
              klass: str | None = None, token: str | None = None, key: str | None = None,
              body: str | None = None, skip: int = 0, nth: int = 1, probability: float = 1.0,
              seed: int = 0, count: int | None = None, **params: Any) -> int:
        """Add a fault rule; its id. Actions and their parameters: standin/faults.py. `path`, `key`
        and `body` are regular expressions, searched in path plus query as sent, the Idempotency-Key and
        the raw body. Of the matching requests, `skip` passes the first N, `nth` chooses every nth,
        `probability` some, and `count` at most so many."""
        return self.call("fault", action=action, method=method, path=path, klass=klass, token=token,
                         key=key, body=body, skip=skip, nth=nth, probability=probability, seed=seed,
                         count=count, **params)["id"]

    def faults(self) -> list[dict[str, Any]]:
        """The rules, with how many requests each `matched` and on how many it `fired`."""
        return self.call("faults")

    def clear_faults(self, id: int | None = None) -> None:
        """Remove one rule or all; what hangs goes on hanging."""
        self.call("clear_faults", id=id)

    def release(self) -> None:
        """Let every request that now hangs go on."""
        self.call("release")

    def down(self) -> None:
        """Refuse connections and reset the open ones."""
        self.call("mode", mode="down")

    def black_hole(self) -> None:
        """Accept connections, answer nothing. What is swallowed is never processed."""
        self.call("mode", mode="black_hole")

    def up(self) -> None:
        """End `down` or `black_hole`, on the same port."""
        self.call("mode", mode="up")

    def reset_connections(self) -> int:
        """Reset all open API connections; how many there were."""
        return self.call("reset_connections")

    def connections(self) -> int:
        """How many API connections are open."""
        return self.call("connections")

    # Request log

    def log(self, since: int = 0, **equal: Any) -> list[dict[str, Any]]:
        """API requests in order of arrival, after number `since`, with attributes that equal those given:
        seq, start, end (monotonic), method, path (decoded), query, klass, endpoint, token, key, connection,
        request_bytes, body, status, code, fault, replayed, committed, reply_bytes."""
        return self.call("log", since=since, **equal)

    def count(self, what: str | None = None, since: int = 0) -> int:
        """Requests by class (read, write, append), method (GET ...) or endpoint (list_notes, show_note,
        create_note, create_notes, update_note, move_note, delete_note, append, list_folders, show_folder,
        create_folder, update_folder, delete_folder). `append` is both class and endpoint; all without."""
        counts = self.call("counts", since=since)
        if what is None:
            return sum(counts["method"].values())
        return max(counts[by].get(what, 0) for by in ("klass", "method", "endpoint"))

    def last(self) -> int:
        """Number of the latest request, to be given as `since`."""
        return self.call("last")

    def clear_log(self) -> None:
        self.call("clear_log")

    def wait_for(self, condition: Callable[[], Any], timeout_s: float = 10, interval_s: float = 0.02) -> Any:
        """The first true value of `condition()`; AssertionError when there is none in time."""
        end = time.monotonic() + timeout_s
        while not (value := condition()):
            if time.monotonic() > end:
                raise AssertionError(f"not within {timeout_s} s")
            time.sleep(interval_s)
        return value

    # State

    def note(self, note: NoteRef, account: str = "main") -> Note | None:
        """A note with body, settings and `history`, or None."""
        return self.call("note", note=note, account=account)

    def body(self, note: NoteRef, account: str = "main") -> str:
        found = self.note(note, account)
        assert found is not None, f"no note {note!r}"
        return found["body"]

    def history(self, note: NoteRef, account: str = "main", op: str | None = None) -> list[dict[str, Any]]:
        """What was committed to a note (also a deleted one, by id): op (create, append, patch, move,
        delete), at, by (api or remote), seq, token, key, and text (or bytes and sha256 above 64 KiB)."""
        found = self.note(note, account)
        if found is None:
            stones = [stone for stone in self.tombstones(account) if note in (stone["id"], stone["filename"])]
            assert stones, f"no note {note!r}"
            found = stones[-1]
        return [event for event in found["history"] if op in (None, event["op"])]

    def notes(self, account: str = "main") -> list[Note]:
        """All notes, without bodies and histories."""
        return self.call("notes", account=account)

    def filenames(self, account: str = "main") -> list[str]:
        return sorted(note["filename"] for note in self.notes(account))

    def folders(self, account: str = "main") -> list[Folder]:
        return self.call("folders", account=account)

    def tombstones(self, account: str = "main") -> list[Note]:
        """Deleted notes, with `deleted_at` and `deleted_by`."""
        return next(row for row in self.dump()["accounts"] if row["name"] == account)["tombstones"]

    def dump(self, bodies: bool = True) -> dict[str, Any]:
        """Everything: accounts (notes, folders, tombstones, caps), tokens, switches."""
        return self.call("dump", bodies=bodies)

    def load(self, dump: dict[str, Any]) -> None:
        """Replace everything by an earlier dump."""
        self.call("load", dump=dump)

    def reset(self) -> None:
        """As freshly started: up, empty, default switches and limits, no faults, empty log, real clock;
        the main token stays valid. For test suites that share a server."""
        self.call("reset")

    def next_id(self, note: int | None = None, folder: int | None = None) -> None:
        """Choose the ids of the next note and folder, which only ever grow."""
        self.call("next_id", note=note, folder=folder)

    def seed(self, count: int = 0, account: str = "main", body_bytes: int = 400, folders: int = 0,
             sample: bool = False) -> None:
        """Add generated notes (quickly, without the API), or the demo's sample."""
        self.call("seed", count=count, account=account, body_bytes=body_bytes, folders=folders, sample=sample)

    # A plain API client

    def request(self, method: str, path: str, value: Any = None, *, key: str | None = None,
                token: str | None = None, headers: dict[str, str] | None = None,
                raw: bytes | None = None, timeout_s: float = 10) -> ApiReply:
        """One API request on a connection of its own, with a JSON `value` or a `raw` body. `path` is
        below the base URL. `token` is a secret (default the main one), `key` an Idempotency-Key."""
        sent = {"Authorization": f"Bearer {token or self.token}"}
        if value is not None or raw is not None:
            sent["Content-Type"] = "application/json"
        if key is not None:
            sent["Idempotency-Key"] = key
        sent |= headers or {}
        body = raw if raw is not None else None if value is None else json.dumps(value).encode()
        base = urlsplit(self.api)
        connection = http.client.HTTPConnection(base.netloc, timeout=timeout_s)
        try:
            connection.request(method, base.path + path, body, sent)
            reply = connection.getresponse()
            return ApiReply(reply.status, {name.lower(): text for name, text in reply.getheaders()},
                            reply.read())
        finally:
            connection.close()


class Remote:
    """Another client of an account (browser, phone, script): not in the log, not rate-limited, not bound
    by locks. `at` dates the change: epoch seconds or ISO time, default the server's now. All answer the
    note or folder as it then is. `values` are attributes of a note (append_only, pinned, folder, ...)."""

    def __init__(self, stand: StandIn, account: str) -> None:
        self._stand = stand
        self.account = account

    def _call(self, verb: str, **arguments: Any) -> Any:
        return self._stand.call("remote", verb=verb, account=self.account, **arguments)

    def create(self, title: str, body: str = "", *, filename: str | None = None, at: Time | None = None,
               **values: Any) -> Note:
        """The filename follows the service's rule unless given."""
        return self._call("create", title=title, body=body, filename=filename, at=at, **values)

    def patch(self, note: NoteRef, body: str | None = None, *, title: str | None = None,
              filename: str | None = None, at: Time | None = None, **values: Any) -> Note:
        """Exactly what is given: a title changes without the filename and the other way round."""
        return self._call("patch", note=note, body=body, title=title, filename=filename, at=at, **values)

    def rename(self, note: NoteRef, title: str, *, at: Time | None = None) -> Note:
        """Title and filename."""
        return self._call("rename", note=note, title=title, at=at)

    def append(self, note: NoteRef, text: str, *, at: Time | None = None) -> Note:
        """With the service's separator; an unknown filename becomes an append-only note."""
        return self._call("append", note=note, text=text, at=at)

    def delete(self, note: NoteRef) -> None:
        self._call("delete", note=note)

    def move(self, note: NoteRef, folder: FolderRef | None, *, at: Time | None = None) -> Note:
        return self._call("move", note=note, folder=folder, at=at)

    def lock(self, note: NoteRef) -> Note:
        return self._call("lock", note=note)

    def unlock(self, note: NoteRef) -> Note:
        return self._call("unlock", note=note)

    def make_rich(self, note: NoteRef, html_bytes: int | None = None) -> Note:
        """The body stays as the plain projection."""
        return self._call("make_rich", note=note, html_bytes=html_bytes)

    def make_plain(self, note: NoteRef) -> Note:
        return self._call("make_plain", note=note)

    def set(self, note: NoteRef, **values: Any) -> Note:
        """Set any attributes (body, updated_at, alerted_at, webhook_failure_count, ...) and nothing else:
        `updated_at` stays unless given."""
        return self._call("set", note=note, **values)

    def create_folder(self, name: str, *, at: Time | None = None) -> Folder:
        return self._call("create_folder", name=name, at=at)

    def rename_folder(self, folder: FolderRef, name: str) -> Folder:
        return self._call("rename_folder", folder=folder, name=name)

    def delete_folder(self, folder: FolderRef) -> None:
        """Its notes survive, un-foldered."""
        self._call("delete_folder", folder=folder)


def _word(value: Any) -> Any:
    """A switch's value as the stand-in spells it: collections are comma-separated."""
    return ",".join(value) if isinstance(value, (list, tuple, set, frozenset)) else value
