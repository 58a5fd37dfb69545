"""Tokens and what each may do.

A token is minted as read_write, read_only (GET, HEAD) or write_only (POST, PATCH, PUT, DELETE), and may
be locked to one note, which it can then read or append to and nothing else. A request outside the scope
is `forbidden` with a message that names the restriction; it says so before it looks whether the record
exists, so a read_only `PATCH /notes/0` is 403 where a writable token gets 404.
"""

from __future__ import annotations

import secrets
from dataclasses import asdict, dataclass
from typing import Any

from .account import Account
from .refusal import Refusal
from .switches import Switches

SCOPES = ("read_write", "read_only", "write_only")
READ_METHODS = ("GET", "HEAD")


def new_secret() -> str:
    return "mn_" + secrets.token_hex(20)


@dataclass
class Token:
    name: str
    secret: str
    account: str
    scope: str = "read_write"
    note_id: int | None = None
    revoked: bool = False

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


class Tokens:
    def __init__(self) -> None:
        self._by_secret: dict[str, Token] = {}

    def mint(self, token: Token) -> Token:
        if token.scope not in SCOPES:
            raise ValueError(f"no scope named {token.scope}")
        if not token.secret.startswith("mn_"):
            raise ValueError("tokens start with mn_")
        self._by_secret[token.secret] = token
        return token

    def named(self, name: str) -> Token:
        for token in self._by_secret.values():
            if token.name == name:
                return token
        raise KeyError(f"no token named {name}")

    def of_header(self, authorization: str | None) -> Token | None:
        """The live token of an `Authorization` header, or None."""
        kind, _, secret = (authorization or "").partition(" ")
        token = self._by_secret.get(secret) if kind.lower() == "bearer" else None
        return None if token is None or token.revoked else token

    def as_json(self) -> list[dict[str, Any]]:
        return [token.as_json() for token in self._by_secret.values()]


def authenticate(token: Token | None) -> Token:
    if token is None:
        raise Refusal("unauthenticated", "Missing or invalid API token")
    return token


def check_plan(account: Account, method: str) -> None:
    if account.plan == "no_api":
        raise Refusal("forbidden", "Your plan does not include API access")
    if account.plan == "unconfirmed":
        raise Refusal("forbidden", "Confirm your email address before using the API")
    if account.plan == "lapsed" and method not in READ_METHODS:
        raise Refusal("forbidden", "Your subscription has lapsed: this account is read-only")


def check_method(token: Token, method: str) -> None:
    reading = method in READ_METHODS
    if token.scope == "read_only" and not reading:
        raise Refusal("forbidden", "This token is read_only")
    if token.scope == "write_only" and reading:
        raise Refusal("forbidden", "This token is write_only")


def check_single_note(token: Token, action: str, note_id: int | None, switches: Switches) -> None:
    """For a token locked to one note: `action` is an endpoint name, `note_id` the note it addresses."""
    if token.note_id is None:
        return
    if action == "list_notes" and switches["single_note_list"] == "one":
        return
    allowed = {"show_note", "append"}
    if switches["single_note_patch"] == "allowed":
        allowed |= {"update_note", "move_note", "delete_note"}
    if action not in allowed or note_id != token.note_id:
        raise Refusal("forbidden", "This token is locked to a single note")
