"""Reading the keys of requests, strictly: wrapping, types, unknown keys.

Notes come in `{"note": {...}}`, folders in `{"folder": {...}}`, bulk in `{"notes": [...]}`; append and
move take bare keys. What API.md does not name is refused, unless the switch `unknown_keys` says ignored.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl

from . import wire
from .account import Account
from .message import Request
from .refusal import Refusal, invalid, not_found
from .switches import Switches

Keys = dict[str, Any]


def json_object(request: Request, switches: Switches) -> Keys:
    """The body as a JSON object. Without the JSON content type the service sees no parameters at all."""
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind != "application/json":
        raise invalid("param is missing or the value is empty (is Content-Type application/json?)")
    try:
        value = wire.decode(request.body)
    except ValueError as error:
        if switches["malformed_json"] == "422":
            raise invalid("Request body is not JSON") from error
        raise Refusal("bad_request", "Request body is not JSON") from error
    if not isinstance(value, dict):
        raise invalid("Request body must be a JSON object")
    return value


def only(keys: Keys, allowed: set[str], switches: Switches) -> Keys:
    """`keys` without those that nobody documents, or a refusal because of them."""
    unknown = keys.keys() - allowed
    if unknown and switches["unknown_keys"] == "refused":
        raise invalid("unpermitted parameters: " + ", ".join(sorted(unknown)))
    return {key: value for key, value in keys.items() if key not in unknown}


def unwrapped(keys: Keys, wrapper: str, switches: Switches) -> Keys:
    inner = keys.get(wrapper)
    if not isinstance(inner, dict) or not inner:
        raise invalid(f"param is missing or the value is empty: {wrapper}")
    only(keys, {wrapper}, switches)
    return inner


def text(keys: Keys, key: str) -> str:
    value = keys.get(key)
    if not isinstance(value, str):
        raise invalid(f"{_human(key)} must be a string")
    return value


def boolean(keys: Keys, key: str, default: bool) -> bool:
    value = keys.get(key, default)
    if not isinstance(value, bool):
        raise invalid(f"{_human(key)} must be true or false")
    return value


def folder_id(keys: Keys, account: Account, switches: Switches, moving: bool = False) -> int | None:
    """The folder that `folder_id` names in this account; a foreign one is not found. /move also takes
    "" for the root, and ids as strings: the vendor's own `freshjots mv` sends them so."""
    value = keys["folder_id"]
    if value is None or (moving and value == ""):
        return None
    if isinstance(value, str) and (moving or switches["ids"] == "string"):
        value = wire.whole_number(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise invalid("Folder must be an id or null")
    if value not in account.folders:
        raise not_found("Folder")
    return value


class Query:
    """The query string of `GET /notes`."""

    def __init__(self, query: str, allowed: set[str], switches: Switches) -> None:
        self._lenient = switches["bad_query"] == "default"
        self._keys = only(dict(parse_qsl(query, keep_blank_values=True)), allowed, switches)

    def word(self, key: str, words: tuple[str, ...], default: str | None) -> str | None:
        value = self._keys.get(key)
        if value is None or value in words:
            return default if value is None else value
        return self._bad(key, default)

    def number(self, key: str, least: int, default: int) -> int:
        value = self._keys.get(key)
        if value is None:
            return default
        number = wire.whole_number(value)
        return self._bad(key, default) if number is None or number < least else number

    def folder(self) -> int | str | None:
        """A folder id, None for the root, or "any"; an id that is no number names no folder."""
        value = self._keys.get("folder_id")
        if value is None:
            return "any"
        if value in ("none", "root", "null"):
            return None
        number = wire.whole_number(value)
        return -1 if number is None else number

    def _bad(self, key: str, default: Any) -> Any:
        if self._lenient:
            return default
        raise invalid(f"{_human(key)} is invalid")


def _human(key: str) -> str:
    return key.replace("_", " ").capitalize()
