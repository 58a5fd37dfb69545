"""A refusal: the error envelope of the service, raised by whoever finds the fault.

`{"error": {"code", "message", "details"?}}` with the status that belongs to the code (API.md, "Error
codes"); the few codes that come with two statuses name theirs.
"""

from __future__ import annotations

from typing import Any

STATUS = {
    "bad_request": 400,
    "unauthenticated": 401,
    "forbidden": 403,
    "note_locked": 403,
    "not_found": 404,
    "idempotency_key_conflict": 409,
    "content_too_large": 413,
    "validation_failed": 422,
    "cap_exceeded": 422,
    "storage_cap_exceeded": 422,
    "content_type_mismatch": 422,
    "rate_limited": 429,
    "internal_error": 500,
    "service_unavailable": 503,
}


class Refusal(Exception):
    def __init__(self, code: str, message: str, *, details: list[str] | None = None,
                 status: int | None = None, extra: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.status = status or STATUS[code]
        self.message = message
        self.details = details
        self.extra = extra or {}

    def envelope(self) -> dict[str, Any]:
        error: dict[str, Any] = {"code": self.code, "message": self.message}
        if self.details is not None:
            error["details"] = self.details
        error.update(self.extra)
        return {"error": error}


def invalid(message: str) -> Refusal:
    """A validation failure with the message as its only detail, as in the vendor's sample."""
    return Refusal("validation_failed", message, details=[message])


def not_found(what: str = "Note") -> Refusal:
    return Refusal("not_found", f"{what} not found")
