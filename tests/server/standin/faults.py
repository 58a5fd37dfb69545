"""Faults on demand: rules that match requests and make something go wrong with them.

A rule has a match (all given parts must hold: `method`, `path` regex over path and query, `klass` read,
write or append, `token` name, `key` regex, `body` regex), a choice among the matching requests (`skip`
the first N, only every `nth`, `probability` with a `seed`, at most `count` times) and an action with
parameters. Rules are tried in order; latency and slow add up, the first other action ends the search.

action        | parameters (default)              | what happens
latency       | ms (100)                          | waits before the request is looked at
slow          | ms (100)                          | waits while it is being processed: its key is "running"
status        | status (500), code, message, details, headers, json (true), commit (false) | error envelope, or a status without a body
html          | status (500), text, commit (false) | HTML error page
throttle      | retry_after (1), commit (false)   | 429 rate_limited with all its headers
reply         | status (200), json or text, content_type, headers, commit (true) | exactly this reply
garbage       | commit (true)                     | 200 with a body that is not JSON
wrong_types   |                                   | processed; every value of the reply has another JSON type
redirect      | location, status (302), commit (false) | sends the client elsewhere
hang          |                                   | no answer and no processing until released; dropped if the peer closes
hang_after    |                                   | processed; no answer until released
reset_before  |                                   | TCP RST instead of processing
reset_after   |                                   | processed, then TCP RST instead of an answer
close_before  |                                   | FIN instead of processing
close_after   |                                   | processed, then FIN instead of an answer
truncate      | keep (0.5), where (body)          | processed; Content-Length is true but the body, or the head, stops early, then FIN
drip          | bytes (16), interval_ms (20)      | processed; the reply comes in small pieces
huge          | bytes (64 MiB), where (body)      | processed; an endless body, or endless headers, up to so many bytes

`commit` says whether the request is processed before the false answer is given; an uncommitted error is
stored under the request's Idempotency-Key only if the switch `key_errors` is `all`.
"""

from __future__ import annotations

import random
import re
import threading
from dataclasses import dataclass, field
from typing import Any

from .message import Reply, Request
from .refusal import STATUS, Refusal

_COMMITS = {"wrong_types", "hang_after", "reset_after", "close_after", "truncate", "drip", "huge"}
_CHOOSES_COMMIT = {"status": False, "html": False, "throttle": False, "redirect": False,
                   "reply": True, "garbage": True}
PARAMETERS = {
    "latency": {"ms"},
    "slow": {"ms"},
    "status": {"status", "code", "message", "details", "headers", "json", "commit"},
    "html": {"status", "text", "commit"},
    "throttle": {"retry_after", "commit"},
    "reply": {"status", "json", "text", "content_type", "headers", "commit"},
    "garbage": {"commit"},
    "wrong_types": set(),
    "redirect": {"location", "status", "commit"},
    "hang": set(),
    "hang_after": set(),
    "reset_before": set(),
    "reset_after": set(),
    "close_before": set(),
    "close_after": set(),
    "truncate": {"keep", "where"},
    "drip": {"bytes", "interval_ms"},
    "huge": {"bytes", "where"},
}
_MATCHES = {"method", "path", "klass", "token", "key", "body"}
_CHOICES = {"skip", "nth", "probability", "seed", "count"}


@dataclass
class Rule:
    id: int
    action: str
    match: dict[str, str]
    params: dict[str, Any]
    skip: int = 0
    nth: int = 1
    probability: float = 1.0
    seed: int = 0
    count: int | None = None
    matched: int = 0
    fired: int = 0
    _rng: random.Random = field(default_factory=random.Random, repr=False)

    def __post_init__(self) -> None:
        self._rng = random.Random(self.seed)
        for key in ("path", "key", "body"):
            re.compile(self.match.get(key, ""))

    @property
    def commits(self) -> bool:
        if self.action in _CHOOSES_COMMIT:
            return bool(self.params.get("commit", _CHOOSES_COMMIT[self.action]))
        return self.action in _COMMITS

    def fits(self, request: Request, klass: str, token: str | None) -> bool:
        match = self.match
        return (match.get("method") in (None, request.method)
                and match.get("klass") in (None, klass)
                and match.get("token") in (None, token)
                and ("path" not in match or re.search(match["path"], request.target) is not None)
                and ("key" not in match
                     or re.search(match["key"], request.headers.get("idempotency-key", "")) is not None)
                and ("body" not in match
                     or re.search(match["body"], request.body.decode(errors="replace")) is not None))

    def fires(self) -> bool:
        """Count a matching request and say whether it is one of the chosen."""
        self.matched += 1
        if self.count is not None and self.fired >= self.count:
            return False
        if self.matched <= self.skip or (self.matched - self.skip) % self.nth != 0:
            return False
        if self._rng.random() >= self.probability:
            return False
        self.fired += 1
        return True

    def as_json(self) -> dict[str, Any]:
        return {"id": self.id, "action": self.action, "match": self.match, "params": self.params,
                "skip": self.skip, "nth": self.nth, "probability": self.probability, "seed": self.seed,
                "count": self.count, "matched": self.matched, "fired": self.fired}


@dataclass
class Plan:
    """What is to go wrong with one request."""

    latency_s: float = 0.0
    slow_s: float = 0.0
    rule: Rule | None = None

    @property
    def name(self) -> str | None:
        if self.rule is not None:
            return self.rule.action
        return "slow" if self.slow_s else "latency" if self.latency_s else None


class Faults:
    def __init__(self) -> None:
        self._rules: list[Rule] = []
        self._next_id = 1
        self._gate = threading.Event()
        self._lock = threading.Lock()

    def add(self, action: str, **options: Any) -> Rule:
        """A new rule; match, choice and parameters all come flat in `options`. ValueError on others."""
        if action not in PARAMETERS:
            raise ValueError(f"no fault action named {action}")
        options = {key: value for key, value in options.items() if value is not None}
        unknown = options.keys() - _MATCHES - _CHOICES - PARAMETERS[action]
        if unknown:
            raise ValueError(f"fault {action} does not take {', '.join(sorted(unknown))}")
        if action == "redirect" and "location" not in options:
            raise ValueError("fault redirect needs a location")
        with self._lock:
            rule = Rule(self._next_id, action,
                        {k: v for k, v in options.items() if k in _MATCHES},
                        {k: v for k, v in options.items() if k in PARAMETERS[action]},
                        **{k: v for k, v in options.items() if k in _CHOICES})
            self._next_id += 1
            self._rules.append(rule)
        return rule

    def remove(self, rule_id: int | None = None) -> None:
        """Remove one rule or all. What hangs goes on hanging: see `release`."""
        with self._lock:
            self._rules = [r for r in self._rules if rule_id is not None and r.id != rule_id]

    def release(self) -> None:
        """Let everything that hangs now go on."""
        gate, self._gate = self._gate, threading.Event()
        gate.set()

    def gate(self) -> threading.Event:
        return self._gate

    def plan(self, request: Request, klass: str, token: str | None) -> Plan:
        plan = Plan()
        if not self._rules:
            return plan
        with self._lock:
            for rule in self._rules:
                if not rule.fits(request, klass, token) or not rule.fires():
                    continue
                if rule.action == "latency":
                    plan.latency_s += rule.params.get("ms", 100) / 1000
                elif rule.action == "slow":
                    plan.slow_s += rule.params.get("ms", 100) / 1000
                else:
                    plan.rule = rule
                    break
        return plan

    def as_json(self) -> list[dict[str, Any]]:
        with self._lock:
            return [rule.as_json() for rule in self._rules]


GARBAGE = b'<!-- \x00\xff not JSON {"id": 1, "plain_body": '


def false_reply(rule: Rule, throttled: dict[str, str]) -> Reply:
    """The reply that a status, html, throttle, reply, garbage or redirect rule gives. `throttled` are
    the headers of a 429."""
    params = rule.params
    if rule.action == "garbage":
        return Reply(200, GARBAGE)
    if rule.action == "html":
        return Reply.html(params.get("status", 500), params.get("text", ""))
    if rule.action == "throttle":
        headers = {**throttled, "Retry-After": str(params.get("retry_after", 1))}
        return Reply.refusal(Refusal("rate_limited", "Rate limit exceeded"), headers)
    if rule.action == "redirect":
        return Reply(params.get("status", 302), b"", "text/html", {"Location": params["location"]})
    if rule.action == "reply":
        return _exact_reply(params)
    return _error_reply(params)


def _exact_reply(params: dict[str, Any]) -> Reply:
    status, headers = params.get("status", 200), dict(params.get("headers", {}))
    reply = Reply.json(params.get("json"), status, headers)
    if "text" in params:
        reply.body = params["text"].encode()
    reply.content_type = params.get("content_type", reply.content_type)
    return reply


def _error_reply(params: dict[str, Any]) -> Reply:
    status = params.get("status", 500)
    headers = dict(params.get("headers", {}))
    if not params.get("json", True):
        return Reply(status, b"", "text/plain", headers)
    code = params.get("code") or next((c for c, s in STATUS.items() if s == status), "internal_error")
    refusal = Refusal(code, params.get("message", "Injected fault"), status=status,
                      details=params.get("details"))
    return Reply.refusal(refusal, headers)


def retyped(value: Any) -> Any:
    """`value` with every part of another JSON type."""
    if isinstance(value, dict):
        return {key: retyped(part) for key, part in value.items()}
    if isinstance(value, list):
        return {"0": value[0]} if value else "[]"
    if isinstance(value, bool):
        return "true" if value else 0
    if isinstance(value, (int, float)):
        return [str(value)]
    if isinstance(value, str):
        return {"value": value}
    return -1.5e300
