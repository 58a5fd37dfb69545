"""Titles, and the filenames that the service derives from them.

The documented rule: filename = title, NFC-normalised, without slashes, control and format characters,
cut to 200 bytes; by-filename look-ups use the same rule. The vendor's client examples show slugs instead;
the switch `filename_rule` plays both (API.md, POST /notes and C11). Slugs are made from titles only: an
append by filename creates the note under exactly the name in its path.
"""

from __future__ import annotations

import re
import secrets
import time
import unicodedata

from .switches import Switches

MAX_TITLE_CHARACTERS = 200
MAX_FILENAME_BYTES = 200

_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def stored_title(title: str) -> str:
    """The title as the service saves it: control characters are stripped."""
    return _CONTROLS.sub("", title)


def filename_for_name(name: str, switches: Switches) -> str:
    """The documented rule; may be empty."""
    name = unicodedata.normalize("NFC", name)
    if not name.isascii() or not name.isprintable():
        name = "".join(c for c in name if unicodedata.category(c) not in ("Cc", "Cf"))
    name = name.replace("/", "")
    if switches["filename_backslash"] == "removed":
        name = name.replace("\\", "")
    return name.encode()[:MAX_FILENAME_BYTES].decode(errors="ignore")


def filename_for_title(title: str, switches: Switches) -> str:
    """The filename of a new title under the switch `filename_rule`; may be empty."""
    if switches["filename_rule"] == "slug" and slug(title):
        return slug(title)
    return filename_for_name(title, switches)


def slug(title: str) -> str:
    ascii_only = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9_]+", "-", ascii_only).strip("-")[:MAX_FILENAME_BYTES]


def automatic_filename(now_us: int) -> str:
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime(now_us // 1_000_000))
    return f"{stamp}-{secrets.token_hex(4)}.txt"
