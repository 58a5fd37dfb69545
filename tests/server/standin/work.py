"""The work on one request: token, rate limit, plan, scope, idempotency key, endpoint, in this order."""

from __future__ import annotations

import hashlib
import sys
import time
import traceback
from dataclasses import replace

from . import idempotency, scopes, wire
from .call import Call
from .limits import Grant
from .message import Reply, Request
from .refusal import Refusal, not_found
from .reqlog import Entry
from .routes import Route
from .scopes import Token
from .world import World


class Work:
    def __init__(self, world: World, request: Request, route: Route | None, token: Token | None,
                 klass: str, entry: Entry) -> None:
        self._world = world
        self._request = request
        self._route = route
        self._grant: Grant | None = None
        self._cost = 1
        self.token = token
        self.klass = klass
        self.entry = entry

    def process(self, slow_s: float) -> Reply:
        try:
            reply = self._admitted(slow_s)
        except Refusal as refusal:
            reply = self._refused(refusal)
        except Exception:
            # A defect of the stand-in. The traceback on stderr makes the test that caused it fail.
            traceback.print_exc(file=sys.stderr)
            reply = self._refused(Refusal("internal_error", "The stand-in service has a defect"))
        if self._request.method in ("GET", "HEAD") and reply.status == 200:
            reply = self._conditional(reply)
        self._add_rate_headers(reply)
        return reply

    def throttle_headers(self) -> dict[str, str]:
        limit = 60
        if self.token is not None:
            tier = self._world.accounts[self.token.account].tier
            limit = self._world.limits.limit_of(self.token.name, tier, self.klass).count
        return {"X-RateLimit-Limit": str(limit), "X-RateLimit-Remaining": "0",
                "X-RateLimit-Reset": str(self._world.clock.now_us() // 1_000_000 + 1)}

    def remember_error(self, reply: Reply) -> None:
        world = self._world
        with world.lock:
            key = self._request.headers.get("idempotency-key")
            if key and self.token:
                world.keys.remember_error(self._key_name(key), self._request, reply, world.clock.now_us())

    # Admission

    def _admitted(self, slow_s: float) -> Reply:
        world = self._world
        with world.lock:
            token = scopes.authenticate(self.token)
            account = world.accounts[token.account]
            self._take_rate(account.tier)
            scopes.check_plan(account, self._request.method)
            scopes.check_method(token, self._request.method)
            key = world.keys.of_request(self._request)
        if key is None:
            return self._run(slow_s)
        return self._run_once(self._key_name(key), slow_s)

    def _take_rate(self, tier: str) -> None:
        world = self._world
        self._cost = self._rate_cost()
        self._grant = world.limits.take(self.token.name, tier, self.klass, self._cost)
        if self._grant.allowed:
            return
        refusal = Refusal("rate_limited", f"Rate limit exceeded for {self.klass} requests")
        key = self._request.headers.get("idempotency-key")
        if key:
            world.keys.remember_error(self._key_name(key), self._request, Reply.refusal(refusal),
                                      world.clock.now_us())
        raise refusal

    def _refund(self) -> None:
        self._world.limits.give_back(self.token.name, self.klass, self._cost)
        self._grant = replace(self._grant, remaining=self._grant.remaining + self._cost)

    def _rate_cost(self) -> int:
        if (self._route is not None and self._route.endpoint.name == "create_notes"
                and self._world.switches["bulk_cost"] == "rows"):
            try:
                return max(1, len(wire.decode(self._request.body)["notes"]))
            except (ValueError, TypeError, KeyError):
                return 1
        return 1

    # Idempotency

    def _key_name(self, key: str) -> tuple[str, str]:
        scope = self._world.switches["key_scope"]
        holder = {"token": self.token.secret, "account": self.token.account, "global": ""}[scope]
        return holder, key

    def _run_once(self, name: tuple[str, str], slow_s: float) -> Reply:
        world = self._world
        while True:
            with world.lock:
                record, is_new = world.keys.begin(name, self._request, world.clock.now_us())
                if not is_new and record.reply is not None:
                    return self._replayed(record)
            if is_new:
                break
            self._await_running(record)
        try:
            reply = self._run(slow_s)
        except Refusal as refusal:
            reply = self._refused(refusal)
        except BaseException:
            with world.lock:
                world.keys.abandon(name, record)
            raise
        with world.lock:
            world.keys.finish(name, record, reply)
        return reply

    def _replayed(self, record: idempotency.Record) -> Reply:
        self.entry.replayed = True
        if self._world.switches["key_replay_costs"] == "no":
            self._refund()
        return idempotency.replay(record)

    def _await_running(self, record: idempotency.Record) -> None:
        how = self._world.switches["key_running"]
        if how == "conflict":
            raise Refusal("idempotency_key_conflict", "A request with this Idempotency-Key is running")
        if how == "unavailable":
            raise Refusal("service_unavailable", "A request with this Idempotency-Key is running")
        record.done.wait()

    # Running

    def _run(self, slow_s: float) -> Reply:
        time.sleep(slow_s)
        world = self._world
        if self._route is None:
            self._request.segments()
            raise not_found("Route")
        with world.lock:
            call = self._call()
            scopes.check_single_note(self.token, self._route.endpoint.name, self._addressed(call),
                                     world.switches)
            reply = self._route.endpoint.run(call)
        self.entry.committed = True
        return reply

    def _call(self) -> Call:
        world, entry = self._world, self.entry
        by = {"by": "api", "seq": entry.seq, "token": self.token.name, "key": entry.key}
        return Call(self._request, world.accounts[self.token.account], world.switches,
                    world.clock.now_us(), by, world.lock, self._route.id, self._route.filename,
                    self.token.note_id)

    def _addressed(self, call: Call) -> int | None:
        if call.filename is None:
            return call.id
        note = call.lookup()
        return note and note.id

    # Replies

    def _refused(self, refusal: Refusal) -> Reply:
        self.entry.code = refusal.code
        headers = self._limited_headers() if refusal.code == "rate_limited" else {}
        return Reply.refusal(refusal, headers)

    def _limited_headers(self) -> dict[str, str]:
        world, grant = self._world, self._grant
        wait_s = max(1, int(grant.reset_in_s + 0.999))
        headers = {"X-RateLimit-Limit": str(grant.limit), "X-RateLimit-Remaining": str(grant.remaining)}
        if world.switches["rate_reset"] == "seconds":
            headers["X-RateLimit-Reset"] = str(wait_s)
        elif world.switches["rate_reset"] == "epoch":
            headers["X-RateLimit-Reset"] = str(world.clock.now_us() // 1_000_000 + wait_s)
        if world.switches["retry_after"] == "seconds":
            headers["Retry-After"] = str(wait_s)
        elif world.switches["retry_after"] == "http_date":
            headers["Retry-After"] = world.clock.http_date(wait_s)
        return headers

    def _add_rate_headers(self, reply: Reply) -> None:
        how = self._world.switches["rate_headers"]
        if self._grant is None or how == "none" or reply.status == 429:
            return
        if how == "all" or reply.is_success:
            reply.headers["X-RateLimit-Limit"] = str(self._grant.limit)
            reply.headers["X-RateLimit-Remaining"] = str(self._grant.remaining)

    def _conditional(self, reply: Reply) -> Reply:
        if self._world.switches["etag"] == "off":
            return reply
        tag = f'W/"{hashlib.md5(reply.body).hexdigest()}"'
        known = [name.strip() for name in self._request.headers.get("if-none-match", "").split(",")]
        if tag in known or "*" in known:
            if self._world.switches["not_modified_costs"] == "no":
                with self._world.lock:
                    self._refund()
            reply = Reply.empty(304)
        reply.headers |= {"ETag": tag, "Cache-Control": "max-age=0, private, must-revalidate"}
        return reply
