"""Values as the service writes and reads them: JSON text, timestamps, ids.

The service is a Rails application, whose JSON writes `<`, `>`, `&` and U+2028/9 as escapes (API.md,
"JSON output"). Input is stricter than Python's json module: no NaN, no lone surrogates (they are not
UTF-8), and duplicate keys are allowed as everywhere.
"""

from __future__ import annotations

import json
import time
from datetime import datetime, timezone
from functools import lru_cache
from typing import Any

from .clock import SECOND

_ESCAPES = [(char, "\\u%04x" % ord(char)) for char in "<>&\u2028\u2029"]
_encoder = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), check_circular=False)


def encode(value: Any) -> bytes:
    text = _encoder.encode(value)
    for char, escape in _ESCAPES:
        # Outside strings JSON has none of these characters, so the whole text can be replaced at once.
        text = text.replace(char, escape)
    return text.encode()


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


_decoder = json.JSONDecoder(parse_constant=_refuse_constant)


def decode(data: bytes) -> Any:
    """Parse strictly; ValueError for anything that is not JSON in UTF-8."""
    text = data.decode("utf-8")
    try:
        value = _decoder.decode(text)
    except RecursionError:
        raise ValueError("nesting too deep") from None
    if "\\u" in text:
        _encoder.encode(value).encode()
    return value


def whole_number(text: str) -> int | None:
    """A 64-bit number from plain digits, else None."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 18 else None


@lru_cache(maxsize=100_000)
def _seconds(epoch: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(epoch))


def timestamp(at_us: int | None, style: str) -> str | None:
    """`at_us` under the switch `timestamps`."""
    if at_us is None:
        return None
    if style == "offset":
        return _seconds(at_us // SECOND + 7200) + "+02:00"
    text = _seconds(at_us // SECOND)
    if style == "fraction":
        text += ".%03d" % (at_us % SECOND // 1000)
    return text + "Z"


def parse_timestamp(value: str | float) -> int:
    """Microseconds from epoch seconds or an ISO time, as tests give them to the control port."""
    if isinstance(value, (int, float)):
        return int(value * SECOND)
    moment = datetime.fromisoformat(value.replace("Z", "+00:00"))
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=timezone.utc)
    return int(moment.timestamp() * SECOND)
