"""What happens to body text on its way into the store: joining appends, and alterations (C1, C21).

By default a body is stored byte for byte. The switches `body_*` play a service that normalises, and
`append_separator`/`append_chomp` the open rule of how appended text is joined.
"""

from __future__ import annotations

import re
import unicodedata

from .refusal import invalid
from .switches import Switches

_CONTROLS = re.compile(r"[\x01-\x08\x0b\x0c\x0e-\x1f\x7f]")


def received(text: str, switches: Switches) -> str:
    """Text of a request as it enters the store; refuses NUL unless switched otherwise."""
    if "\0" in text:
        if switches["body_nul"] == "refused":
            raise invalid("Body contains a NUL character")
        if switches["body_nul"] == "stripped":
            text = text.replace("\0", "")
    if switches["body_newlines"] == "normalised":
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    if switches["body_controls"] == "stripped":
        text = _CONTROLS.sub("", text)
    if switches["body_unicode"] == "nfc":
        text = unicodedata.normalize("NFC", text)
    return text


def stored(text: str, switches: Switches) -> str:
    """A whole body as it is kept."""
    text = received(text, switches)
    if switches["body_trailing"] == "newline":
        return text.removesuffix("\n")
    if switches["body_trailing"] == "blanks":
        return text.rstrip()
    return text


def chomped(text: str, how: str) -> str:
    if how == "newline":
        return text[:-2] if text.endswith("\r\n") else text.removesuffix("\n")
    if how == "newlines":
        return text.rstrip("\r\n")
    if how == "blanks":
        return text.rstrip()
    return text


def joined(body: str, text: str, switches: Switches) -> str:
    """The body after an append of `text`; nothing is added around the first text of an empty body."""
    if not body:
        return text
    if switches["append_separator"] == "missing" and body.endswith("\n"):
        return body + text
    return f"{body}\n{text}"
