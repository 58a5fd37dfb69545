"""What happens to a request on its way in and out: the log, the faults, and in between the service itself.

A fault that comes before processing stands for the network or a proxy: it costs no rate limit and knows
no key. `work` is the service itself.
"""

from __future__ import annotations

import time

from . import routes, wire
from .delivery import deliver
from .faults import Plan, false_reply, retyped
from .front import Connection
from .message import Reply, Request
from .refusal import Refusal
from .reqlog import Entry
from .work import Work
from .world import World

_PROCESS = Reply(0)
_ANSWERS = ("status", "html", "throttle", "reply", "garbage", "redirect")


class Service:
    def __init__(self, world: World) -> None:
        self._world = world

    def serve(self, connection: Connection, request: Request) -> bool:
        """Answer one request on its connection; False ends the connection."""
        world = self._world
        token = world.tokens.of_header(request.headers.get("authorization"))
        try:
            route = routes.match(request, world.switches)
        except Refusal:
            route = None
        klass = routes.rate_class(request, route, world.switches)
        entry = world.log.open(request, klass, route and route.endpoint.name, token and token.name,
                               connection.number)
        try:
            return self._answer(connection, request, Work(world, request, route, token, klass, entry))
        finally:
            entry.end = time.monotonic()

    def _answer(self, connection: Connection, request: Request, work: Work) -> bool:
        world, entry = self._world, work.entry
        if world.black_hole:
            return self._swallow(connection, entry)
        plan = world.faults.plan(request, work.klass, work.token and work.token.name)
        entry.fault = plan.name
        time.sleep(world.switches["latency_ms"] / 1000 + plan.latency_s)
        reply = self._unprocessed(connection, work, plan)
        if reply is None:
            return False
        if reply is _PROCESS:
            reply = work.process(plan.slow_s)
            reply = self._after(connection, work, plan, reply)
            if reply is None:
                return False
        if world.black_hole:
            return self._swallow(connection, entry)
        entry.status, entry.reply_bytes = reply.status, len(reply.body)
        return deliver(connection, request, reply, plan.rule, world.switches, world.clock.http_date())

    def _swallow(self, connection: Connection, entry: Entry) -> bool:
        """The peer hears nothing while the black hole lasts, and a RST when it ends."""
        entry.fault = "black_hole"
        connection.wait(lambda: not self._world.black_hole)
        connection.reset()
        return False

    def _unprocessed(self, connection: Connection, work: Work, plan: Plan) -> Reply | None:
        """What a fault does instead of processing: a reply, None (the connection ends), or `_PROCESS`."""
        rule = plan.rule
        if rule is None or rule.commits:
            return _PROCESS
        if rule.action == "hang":
            gate = self._world.faults.gate()
            return _PROCESS if connection.wait(gate.is_set) else None
        if rule.action == "reset_before":
            connection.reset()
            return None
        if rule.action == "close_before":
            return None
        reply = false_reply(rule, work.throttle_headers())
        work.remember_error(reply)
        return reply

    def _after(self, connection: Connection, work: Work, plan: Plan, reply: Reply) -> Reply | None:
        """What a fault makes of the reply of a processed request; None ends the connection."""
        action = plan.rule.action if plan.rule else None
        if action == "reset_after":
            connection.reset()
            return None
        if action == "close_after":
            return None
        if action == "hang_after":
            gate = self._world.faults.gate()
            return reply if connection.wait(gate.is_set) else None
        if action == "wrong_types" and reply.body:
            reply = reply.copy()
            reply.body = wire.encode(retyped(wire.decode(reply.body)))
        elif action in _ANSWERS:
            reply = false_reply(plan.rule, work.throttle_headers())
        return reply
