"""HTTP messages: a request as it came, a reply as it is to go out."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from urllib.parse import unquote

from . import wire
from .refusal import Refusal

JSON_TYPE = "application/json; charset=utf-8"

REASONS = {
    200: "OK", 201: "Created", 202: "Accepted", 204: "No Content", 301: "Moved Permanently", 302: "Found",
    303: "See Other", 304: "Not Modified", 307: "Temporary Redirect", 308: "Permanent Redirect",
    400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed",
    408: "Request Timeout", 409: "Conflict", 413: "Content Too Large", 414: "URI Too Long",
    422: "Unprocessable Content", 429: "Too Many Requests", 431: "Request Header Fields Too Large",
    500: "Internal Server Error", 502: "Bad Gateway", 503: "Service Unavailable", 504: "Gateway Timeout",
}


@dataclass
class Request:
    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    keep_alive: bool = True

    @cached_property
    def path(self) -> str:
        """Without the query, still percent-encoded."""
        return self.target.partition("?")[0]

    @cached_property
    def query(self) -> str:
        return self.target.partition("?")[2]

    def segments(self) -> list[str]:
        """The decoded path segments."""
        try:
            return [unquote(part, errors="strict") for part in self.path.split("/")[1:]]
        except UnicodeDecodeError:
            raise Refusal("bad_request", "Path is not UTF-8") from None


@dataclass
class Reply:
    status: int
    body: bytes = b""
    content_type: str = JSON_TYPE
    headers: dict[str, str] = field(default_factory=dict)

    @classmethod
    def json(cls, value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Reply:
        return cls(status, wire.encode(value), headers=headers or {})

    @classmethod
    def empty(cls, status: int = 204) -> Reply:
        return cls(status)

    @classmethod
    def html(cls, status: int, text: str = "") -> Reply:
        """What a proxy in front of the service answers by itself."""
        reason = REASONS.get(status, "Error")
        page = text or (f"<html>\r\n<head><title>{status} {reason}</title></head>\r\n<body>\r\n"
                        f"<center><h1>{status} {reason}</h1></center>\r\n<hr><center>nginx</center>\r\n"
                        "</body>\r\n</html>\r\n")
        return cls(status, page.encode(), "text/html")

    @classmethod
    def refusal(cls, refusal: Refusal, headers: dict[str, str] | None = None) -> Reply:
        return cls.json(refusal.envelope(), refusal.status, headers)

    @property
    def is_success(self) -> bool:
        return 200 <= self.status < 400

    def copy(self) -> Reply:
        return Reply(self.status, self.body, self.content_type, dict(self.headers))

    def head(self, date: str, close: bool, chunked: bool = False) -> bytes:
        lines = [f"HTTP/1.1 {self.status} {REASONS.get(self.status, 'Status')}", f"Date: {date}"]
        if self.status not in (204, 304):
            lines.append(f"Content-Type: {self.content_type}")
            lines.append("Transfer-Encoding: chunked" if chunked else f"Content-Length: {len(self.body)}")
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        lines.append("Connection: close" if close else "Connection: keep-alive")
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
