"""What a note may be: checks that creating, editing and appending share.

Each raises a Refusal, or returns what it has found in order.
"""

from __future__ import annotations

from typing import Any

from . import params
from .call import Call
from .refusal import Refusal, invalid
from .switches import Switches
from .titles import MAX_TITLE_CHARACTERS

CONTENT_KEYS = {"title", "plain_body"}
SETTING_KEYS = {"append_deadline_hours", "alert_email", "webhook_url", "webhook_secret", "webhook_format"}


def check_format(keys: dict[str, Any]) -> None:
    format = keys.get("format", "plain")
    if format == "rich":
        raise Refusal("content_type_mismatch", "Rich notes can't be written through the API")
    if format != "plain":
        raise invalid("Format is not included in the list")


def check_title(title: str) -> str:
    if len(title) > MAX_TITLE_CHARACTERS:
        raise invalid(f"Title is too long (maximum is {MAX_TITLE_CHARACTERS} characters)")
    return title


def check_settings(settings: dict[str, Any], locked: bool) -> None:
    hours = settings.get("append_deadline_hours")
    if hours is not None and (isinstance(hours, bool) or not isinstance(hours, int) or not 1 <= hours <= 720):
        raise invalid("Append deadline hours must be between 1 and 720")
    for key in ("alert_email", "webhook_url", "webhook_secret"):
        if settings.get(key) is not None:
            params.text(settings, key)
    if settings.get("alert_email") and "@" not in settings["alert_email"]:
        raise invalid("Alert email is invalid")
    if settings.get("webhook_url") and not settings["webhook_url"].startswith(("https://", "http://")):
        raise invalid("Webhook url is invalid")
    if settings.get("webhook_format", "generic") not in ("generic", "slack", "discord", None):
        raise invalid("Webhook format is not included in the list")
    if not locked and (hours is not None or settings.get("webhook_url")):
        raise invalid("Deadlines and webhooks need an append-only note")


def encryption(call: Call, keys: dict[str, Any], body: str) -> bool:
    encrypted = params.boolean(keys, "client_encrypted", False)
    if encrypted and call.account.is_team:
        raise invalid("Client encrypted notes are for personal accounts only")
    check_encrypted_text(encrypted, body, call.switches)
    return encrypted


def check_encrypted_text(encrypted: bool, text: str, switches: Switches) -> None:
    if encrypted and switches["encrypted_check"] == "yes" and text and not text.startswith("fj1:"):
        raise invalid("Plain body is not fj1 ciphertext")


def check_new(call: Call, filename: str, body: str) -> None:
    call.account.check_count()
    call.account.check_size(len(body.encode()))
    call.account.check_name(filename)
