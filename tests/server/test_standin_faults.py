"""Each fault action, the choice among requests, outages, and the HTTP front itself."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from urllib.parse import urlsplit

import pytest
from standin import faults

APPEND = "/notes/by-filename/n/append"
KEY = "a-key-of-a-test"


def append(stand, text="x", **kwargs):
    return stand.request("POST", APPEND, {"text": text}, **kwargs)


def test_every_action_has_a_test():
    tested = " ".join(name for name in globals() if name.startswith("test_"))
    assert [action for action in faults.PARAMETERS if f"_{action}" not in tested] == []
    assert all(f"\n{action:13} |" in faults.__doc__ for action in faults.PARAMETERS)


# Choosing requests

@pytest.mark.parametrize("choice, failing", [
    ({}, [0, 1, 2, 3, 4, 5]), ({"count": 2}, [0, 1]), ({"skip": 4}, [4, 5]), ({"nth": 3}, [2, 5]),
    ({"skip": 1, "nth": 2, "count": 1}, [2]),
])
def test_choices(stand, choice, failing):
    stand.fault("status", **choice)
    assert [n for n in range(6) if stand.request("GET", "/notes").status == 500] == failing


def test_probability_is_seeded(stand):
    def run():
        rule = stand.fault("status", probability=0.5, seed=42)
        statuses = [stand.request("GET", "/notes").status for _ in range(20)]
        stand.clear_faults(rule)
        return statuses

    first = run()
    assert first == run() and 4 < first.count(500) < 16


@pytest.mark.parametrize("match", [
    {"method": "POST"}, {"path": "by-filename/n/"}, {"klass": "append"}, {"token": "main"}, {"key": "^a-key"},
    {"body": '"text": "x"'},
])
def test_matches(stand, match):
    stand.fault("status", **match, status=503)
    other = stand.mint("other")
    assert append(stand, key=KEY).status == 503
    assert stand.request("GET", "/notes", token=other).status == 200
    assert [rule["fired"] for rule in stand.faults()] == [1]


# Actions

def test_latency(stand):
    stand.fault("latency", ms=40)
    stand.fault("latency", ms=40)
    start = time.monotonic()
    assert append(stand).status == 201
    assert time.monotonic() - start > 0.08
    assert stand.log()[0]["fault"] == "latency"


def test_slow_goes_on_without_the_client(stand):
    stand.fault("slow", ms=400)
    with pytest.raises(OSError):
        append(stand, timeout_s=0.05)
    assert stand.notes() == []
    stand.wait_for(lambda: stand.note("n"), 2)


def test_status(stand):
    stand.fault("status", status=503, headers={"Retry-After": "7"}, count=1)
    reply = append(stand)
    assert (reply.status, reply.code, reply.headers["retry-after"]) == (503, "service_unavailable", "7")
    stand.fault("status", status=403, code="note_locked", message="m", details=["d"], count=1)
    assert append(stand).json == {"error": {"code": "note_locked", "message": "m", "details": ["d"]}}
    stand.fault("status", status=502, json=False, count=1)
    assert (lambda r: (r.status, r.body))(append(stand)) == (502, b"")
    assert stand.notes() == []
    stand.fault("status", status=504, commit=True, count=1)
    assert append(stand, key=KEY).status == 504
    assert stand.body("n") == "x"
    assert append(stand, key=KEY).headers["idempotent-replay"] == "true"


def test_html(stand):
    stand.fault("html")
    reply = append(stand)
    assert reply.status == 500 and reply.headers["content-type"] == "text/html" and b"<h1>" in reply.body


def test_throttle(stand):
    stand.fault("throttle", retry_after=3)
    reply = append(stand)
    assert (reply.status, reply.code, reply.headers["retry-after"]) == (429, "rate_limited", "3")
    assert "x-ratelimit-reset" in reply.headers and stand.notes() == []


def test_reply(stand):
    stand.fault("reply", json={"notes": 5}, count=1)
    assert stand.request("GET", "/notes").json == {"notes": 5}
    stand.fault("reply", status=207, text="hm", content_type="text/plain", headers={"X-A": "b"}, commit=False)
    reply = append(stand)
    assert (reply.status, reply.body, reply.headers["x-a"]) == (207, b"hm", "b") and stand.notes() == []


def test_garbage(stand):
    stand.fault("garbage")
    reply = append(stand)
    assert reply.status == 200 and stand.body("n") == "x"
    with pytest.raises(ValueError):
        json.loads(reply.body)


def test_wrong_types(stand):
    stand.fault("wrong_types")
    right = stand.remote.create("m", "x")
    wrong = stand.request("GET", "/notes/by-filename/m").json
    assert set(wrong) >= {"id", "plain_body"} and wrong["id"] == [str(right["id"])]
    assert wrong["plain_body"] == {"value": "x"} and isinstance(stand.request("GET", "/notes").json["notes"], dict)


def test_redirect(stand):
    stand.fault("redirect", location="http://127.0.0.1:9/elsewhere", status=307)
    reply = append(stand)
    assert (reply.status, reply.headers["location"]) == (307, "http://127.0.0.1:9/elsewhere")
    assert stand.notes() == []


def in_thread(function):
    result = []
    thread = threading.Thread(target=lambda: result.append(function()))
    thread.start()
    return thread, result


def test_hang_then_release(stand):
    stand.fault("hang", count=1)
    thread, result = in_thread(lambda: append(stand))
    entry = stand.wait_for(lambda: stand.log())[0]
    assert entry["end"] is None
    stand.wait_for(lambda: stand.log()[0]["fault"] == "hang")
    assert stand.notes() == []
    stand.release()
    thread.join()
    assert result[0].status == 201


def test_hang_until_the_client_goes(stand):
    stand.fault("hang", count=1)
    with pytest.raises(OSError):
        append(stand, timeout_s=0.05)
    stand.wait_for(lambda: stand.log()[0]["end"])
    stand.release()
    assert stand.notes() == [] and append(stand).status == 201


def test_hang_after(stand):
    stand.fault("hang_after", count=1)
    with pytest.raises(OSError):
        append(stand, timeout_s=0.1, key=KEY)
    stand.wait_for(lambda: stand.note("n"))
    assert append(stand, key=KEY).headers["idempotent-replay"] == "true"


@pytest.mark.parametrize("action, error, committed", [
    ("reset_before", ConnectionResetError, False), ("reset_after", ConnectionResetError, True),
    ("close_before", http.client.RemoteDisconnected, False), ("close_after", http.client.RemoteDisconnected, True),
])
def test_reset_before_reset_after_close_before_close_after(stand, action, error, committed):
    stand.fault(action)
    with pytest.raises(error) as caught:
        append(stand)
    assert caught.type is error
    assert stand.wait_for(lambda: stand.log()[0]["end"])
    entry = stand.log()[0]
    assert (entry["status"], entry["fault"], entry["committed"]) == (None, action, committed)
    assert (stand.note("n") is not None) == committed


def test_truncate(stand):
    stand.remote.create("n", "x" * 1000)
    stand.fault("truncate", count=1)
    with pytest.raises(http.client.IncompleteRead):
        stand.request("GET", "/notes/by-filename/n")
    stand.fault("truncate", where="head", count=1)
    with pytest.raises((http.client.HTTPException, OSError, ValueError)):
        assert stand.request("GET", "/notes/by-filename/n").json


def test_drip(stand):
    stand.fault("drip", bytes=100, interval_ms=10)
    start = time.monotonic()
    assert append(stand).status == 201
    assert time.monotonic() - start > 0.03


@pytest.mark.parametrize("where", ["body", "head"])
def test_huge(stand, where):
    stand.fault("huge", bytes=300_000, where=where)
    connection = raw_connection(stand)
    connection.sendall(raw_request(stand))
    received = 0
    while data := connection.recv(65536):
        received += len(data)
    assert received > 300_000


# Outages

def raw_connection(stand):
    address = urlsplit(stand.api)
    connection = socket.create_connection((address.hostname, address.port), timeout=5)
    return connection


def raw_request(stand, head="GET /api/v1/notes HTTP/1.1", *lines):
    return "\r\n".join([head, "Host: x", f"Authorization: Bearer {stand.token}", *lines, "", ""]).encode()


def test_down_and_up_on_the_same_port(stand):
    idle = raw_connection(stand)
    stand.wait_for(lambda: stand.connections() == 1)
    for _ in range(3):
        stand.down()
        with pytest.raises(ConnectionResetError):
            idle.recv(1)
        with pytest.raises(ConnectionRefusedError):
            stand.request("GET", "/notes")
        stand.up()
        assert stand.request("GET", "/notes").status == 200
        idle = raw_connection(stand)
        stand.wait_for(lambda: stand.connections() >= 1)


def test_down_resets_what_hangs(stand):
    stand.fault("hang")
    thread, result = in_thread(lambda: pytest.raises(OSError, append, stand))
    stand.wait_for(lambda: stand.log() and stand.log()[0]["fault"])
    stand.down()
    thread.join(2)
    assert not thread.is_alive() and stand.notes() == []


def test_black_hole(stand):
    stand.black_hole()
    with pytest.raises(TimeoutError):
        append(stand, timeout_s=0.1)
    stand.wait_for(lambda: len(stand.log()) == 1)
    thread, _ = in_thread(lambda: pytest.raises(OSError, append, stand))
    stand.wait_for(lambda: len(stand.log()) == 2)
    stand.up()
    thread.join(2)
    assert not thread.is_alive() and stand.notes() == []
    assert append(stand).status == 201


def test_a_black_hole_swallows_replies_too(stand):
    stand.fault("slow", ms=400)
    thread, _ = in_thread(lambda: pytest.raises(OSError, append, stand))
    stand.wait_for(lambda: stand.log() and stand.log()[0]["fault"] == "slow")
    stand.black_hole()
    stand.wait_for(lambda: stand.log()[0]["fault"] == "black_hole")
    stand.up()
    thread.join(2)
    assert not thread.is_alive() and stand.body("n") == "x"


def test_reset_connections(stand):
    idle = raw_connection(stand)
    stand.wait_for(lambda: stand.connections() >= 1)
    assert stand.reset_connections() >= 1
    with pytest.raises(ConnectionResetError):
        idle.recv(1)


# The front

def reply_to(connection):
    reply = http.client.HTTPResponse(connection)
    reply.begin()
    reply.data = reply.read()
    return reply


@pytest.mark.parametrize("data, status", [
    (b"nonsense\r\n\r\n", 400), (b"GET / HTTP/2.0\r\n\r\n", 400), (b"GET / HTTP/1.1\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nHost: x\r\nbad\r\n\r\n", 400), (b"GET x HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    (b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
    (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 70000, 431),
    (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400),
    (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
], ids=["no_http", "version", "no_host", "header", "target", "long_target", "long_head", "length", "chunk"])
def test_bad_messages(stand, data, status):
    connection = raw_connection(stand)
    connection.sendall(data)
    reply = reply_to(connection)
    assert reply.status == status and reply.getheader("content-type") == "text/html"
    assert connection.recv(1) == b""


def test_pipelined_requests_in_pieces(stand):
    connection = raw_connection(stand)
    data = raw_request(stand) + raw_request(stand, "GET /api/v1/folders HTTP/1.1", "Connection: close")
    for start in range(0, len(data), 40):
        connection.sendall(data[start:start + 40])
    received = b"".join(iter(lambda: connection.recv(65536), b""))
    assert received.count(b"HTTP/1.1 200 OK") == 2
    assert received.index(b'{"notes":') < received.index(b'{"folders":')


def test_chunked_request_and_continue(stand):
    connection = raw_connection(stand)
    connection.sendall(raw_request(stand, f"POST /api/v1{APPEND} HTTP/1.1", "Content-Type: application/json",
                                   "Transfer-Encoding: chunked", "Expect: 100-continue"))
    assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
    connection.sendall(b'8\r\n{"text":\r\n4;x=y\r\n"x"}\r\n0\r\n\r\n')
    assert reply_to(connection).status == 201


def test_http_1_0_closes(stand):
    connection = raw_connection(stand)
    connection.sendall(raw_request(stand, "GET /api/v1/notes HTTP/1.0"))
    assert reply_to(connection).getheader("connection") == "close"


def test_64_parallel_connections(stand):
    stand.remote.create("n", "")
    barrier = threading.Barrier(64)

    def run(number):
        barrier.wait()
        return append(stand, str(number)).status

    pairs = [in_thread(lambda number=number: run(number)) for number in range(64)]
    for thread, _ in pairs:
        thread.join()
    assert [result for _, result in pairs] == [[200]] * 64
    assert sorted(map(int, stand.body("n").split("\n"))) == list(range(64))


def test_log(stand):
    append(stand, "é", key=KEY)
    stand.request("GET", "/notes?limit=5")
    stand.request("POST", "/notes", {"note": {"title": "big", "plain_body": "x" * 100_000}})
    first, second, third = stand.log()
    assert (first["path"], first["klass"], first["endpoint"], first["key"], first["token"]) == (
        f"/api/v1{APPEND}", "append", "append", KEY, "main")
    assert first["body"] == {"text": "é"} and first["status"] == 201 and first["end"] >= first["start"]
    assert first["request_bytes"] > 0 and first["reply_bytes"] > 0
    assert (second["query"], second["body"]) == ("limit=5", None)
    assert third["body"]["note"]["plain_body"]["bytes"] == 100_000
    assert (stand.count("append"), stand.count("GET"), stand.count("list_notes"), stand.count("PATCH")) == (1, 1, 1, 0)
    assert stand.log(since=first["seq"], method="GET") == [second]
    assert stand.count(since=first["seq"]) == 2
    stand.clear_log()
    assert stand.log() == [] and stand.count() == 0 and stand.count("append") == 0
