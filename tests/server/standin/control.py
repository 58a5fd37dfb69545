"""The control port: how tests and the demo steer the stand-in. Plain HTTP with JSON.

`POST /NAME` with a JSON object of arguments calls the method `do_NAME` below and answers its result as
JSON; 400 with `{"error": ...}` for arguments that make no sense. No authentication: it is on loopback.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from typing import Any

from . import samples, wire
from .account import PLANS, Account, Caps
from .delivery import deliver
from .front import Connection, Front
from .limits import Limit
from .message import Reply, Request
from .refusal import Refusal
from .remote import VERBS, Remote
from .switches import Switches
from .world import MAIN, World

JSON = Any


class Control:
    def __init__(self, world: World, api: Front) -> None:
        self._world = world
        self._api = api
        self._switches = Switches()
        self._is_up = True

    def serve(self, connection: Connection, request: Request) -> bool:
        return deliver(connection, request, self._answer(request), None, self._switches,
                       self._world.clock.http_date())

    def _answer(self, request: Request) -> Reply:
        method: Callable[..., JSON] | None = getattr(self, "do_" + request.path.strip("/"), None)
        if method is None or request.method != "POST":
            return Reply.json({"error": f"no control call {request.method} {request.path}"}, 404)
        try:
            return Reply.json(method(**(wire.decode(request.body) if request.body else {})))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            return Reply.json({"error": f"{type(error).__name__}: {error}"}, 400)
        except Refusal as refusal:
            return Reply.json({"error": f"{refusal.code}: {refusal.message}"}, 400)
        except Exception as error:
            traceback.print_exc(file=sys.stderr)
            return Reply.json({"error": f"{type(error).__name__}: {error}"}, 500)

    def _account(self, name: str) -> Account:
        if name not in self._world.accounts:
            raise KeyError(f"no account named {name}")
        return self._world.accounts[name]

    # Switches and clock

    def do_switches(self, **values: JSON) -> JSON:
        """Set the given switches; answers all of them."""
        with self._world.lock:
            self._world.change_switches(values)
            return self._world.switches.as_json()

    def do_reset_switches(self) -> JSON:
        with self._world.lock:
            self._world.switches.reset()

    def do_clock(self, advance_s: float = 0, freeze: bool | None = None) -> JSON:
        clock = self._world.clock
        clock.advance(advance_s)
        if freeze is not None:
            clock.freeze() if freeze else clock.resume()
        return {"now_us": clock.now_us()}

    # Accounts, tokens, limits

    def do_open_account(self, name: str, tier: str = "dev") -> JSON:
        with self._world.lock:
            self._world.open_account(name, tier)

    def do_account(self, account: str = MAIN, plan: str | None = None, **caps: int) -> JSON:
        """Change plan and caps (see `Caps`); answers both."""
        with self._world.lock:
            found = self._account(account)
            if plan is not None:
                if plan not in PLANS:
                    raise ValueError(f"no plan named {plan}")
                found.plan = plan
            for name, value in caps.items():
                if name not in Caps.__annotations__:
                    raise ValueError(f"no cap named {name}")
                setattr(found.caps, name, value)
            return {"plan": found.plan, "caps": vars(found.caps), "used_bytes": found.used_bytes}

    def do_mint(self, name: str, account: str = MAIN, scope: str = "read_write",
                note: int | str | None = None, secret: str | None = None) -> JSON:
        with self._world.lock:
            note_id = Remote(self._world, self._account(account)).find(note).id if note is not None else None
            return self._world.mint(name, account, secret, scope=scope, note_id=note_id).as_json()

    def do_token(self, name: str, revoked: bool | None = None, scope: str | None = None) -> JSON:
        with self._world.lock:
            token = self._world.tokens.named(name)
            if revoked is not None:
                token.revoked = revoked
            if scope is not None:
                token.scope = scope
            return token.as_json()

    def do_limit(self, klass: str, count: int, period_s: float = 60, token: str | None = None) -> JSON:
        with self._world.lock:
            self._world.limits.change(klass, Limit(count, period_s), token)

    def do_reset_limits(self, refill_only: bool = False) -> JSON:
        with self._world.lock:
            self._world.limits.refill() if refill_only else self._world.limits.reset()

    def do_forget_keys(self) -> JSON:
        """As if 24 hours had passed for all Idempotency-Keys."""
        with self._world.lock:
            self._world.keys.forget()

    # Faults and outages

    def do_fault(self, action: str, **options: JSON) -> JSON:
        return self._world.faults.add(action, **options).as_json()

    def do_faults(self) -> JSON:
        return self._world.faults.as_json()

    def do_clear_faults(self, id: int | None = None) -> JSON:
        self._world.faults.remove(id)

    def do_release(self) -> JSON:
        self._world.faults.release()

    def do_mode(self, mode: str) -> JSON:
        """up, down (connections are refused and reset) or black_hole (accepted and never answered)."""
        if mode not in ("up", "down", "black_hole"):
            raise ValueError(f"no mode named {mode}")
        # Set first: what a black hole has swallowed is reset, never processed, when it ends.
        self._world.black_hole = mode == "black_hole"
        if self._is_up and mode == "down":
            self._api.down()
        elif not self._is_up and mode != "down":
            self._api.up()
        self._is_up = mode != "down"

    def do_reset_connections(self) -> JSON:
        return self._api.reset_connections()

    def do_connections(self) -> JSON:
        return self._api.open_connections()

    # Log

    def do_log(self, since: int = 0, **equal: JSON) -> JSON:
        return [entry.as_json() for entry in self._world.log.entries(since, **equal)]

    def do_counts(self, since: int = 0) -> JSON:
        return self._world.log.counts(since)

    def do_last(self) -> JSON:
        return self._world.log.last()

    def do_clear_log(self) -> JSON:
        self._world.log.clear()

    # State

    def do_remote(self, verb: str, account: str = MAIN, **arguments: JSON) -> JSON:
        if verb not in VERBS:
            raise ValueError(f"no remote verb {verb}")
        with self._world.lock:
            result = getattr(Remote(self._world, self._account(account)), verb)(**arguments)
            return result and result.as_json()

    def do_note(self, note: int | str, account: str = MAIN) -> JSON:
        """A note with body, settings and history; null if there is none."""
        with self._world.lock:
            try:
                return Remote(self._world, self._account(account)).find(note).as_json()
            except KeyError:
                return None

    def do_notes(self, account: str = MAIN) -> JSON:
        """All notes of an account, without bodies and histories."""
        with self._world.lock:
            return self._account(account).as_json(bodies=False)["notes"]

    def do_folders(self, account: str = MAIN) -> JSON:
        with self._world.lock:
            return [folder.as_json() for folder in self._account(account).folders.values()]

    def do_dump(self, bodies: bool = True) -> JSON:
        with self._world.lock:
            return self._world.as_json(bodies)

    def do_load(self, dump: JSON) -> JSON:
        with self._world.lock:
            self._world.load(dump)

    def do_reset(self) -> JSON:
        """Up, empty, default switches, no faults, empty log; the main token stays valid."""
        self.do_mode("up")
        with self._world.lock:
            self._world.begin_anew()
        self._api.reset_connections()

    def do_next_id(self, note: int | None = None, folder: int | None = None) -> JSON:
        """Choose the ids of the next note and folder; they only ever grow."""
        with self._world.lock:
            for sequence, value in ((self._world.note_ids, note), (self._world.folder_ids, folder)):
                if value is not None and value < sequence.next:
                    raise ValueError(f"ids up to {sequence.next - 1} are used")
                sequence.next = value or sequence.next

    def do_seed(self, count: int = 0, account: str = MAIN, body_bytes: int = 400, folders: int = 0,
                sample: bool = False) -> JSON:
        with self._world.lock:
            if sample:
                samples.pleasant(self._world, self._account(account))
            samples.many(self._world, self._account(account), count, body_bytes, folders)
