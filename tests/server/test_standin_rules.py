"""Rate limits, tokens and scopes, plans, idempotency keys: what stands before every endpoint."""

from __future__ import annotations

import threading
import time

import pytest
from client import ControlError

KEY = "0190aa34-uuid-like-key"
APPEND = "/notes/by-filename/n/append"


# Tokens and scopes

def test_a_valid_token_is_needed(stand):
    for header in ("Bearer mn_wrong", "Bearer", f"Basic {stand.token}", stand.token, ""):
        reply = stand.request("GET", "/notes", headers={"Authorization": header})
        assert (reply.status, reply.code) == (401, "unauthenticated")
    stand.revoke()
    assert stand.request("GET", "/notes").status == 401
    stand.unrevoke()
    assert stand.request("GET", "/notes").status == 200


def test_scopes(stand):
    stand.remote.create("n", "x")
    reader, writer = stand.mint("reader", scope="read_only"), stand.mint("writer", scope="write_only")
    assert stand.request("GET", "/notes", token=reader).status == 200
    refused = stand.request("PATCH", "/notes/0", {"note": {"plain_body": "y"}}, token=reader)
    assert (refused.status, refused.code) == (403, "forbidden")
    assert "read_only" in refused.json["error"]["message"]
    assert stand.request("PATCH", "/notes/0", {"note": {"plain_body": "y"}}).status == 404
    assert stand.request("POST", APPEND, {"text": "y"}, token=writer).status == 200
    assert "write_only" in stand.request("GET", "/notes", token=writer).json["error"]["message"]
    stand.set_scope("read_only")
    assert stand.request("POST", APPEND, {"text": "y"}).code == "forbidden"


def test_single_note_tokens(stand):
    note = stand.remote.create("n", "x")["id"]
    other = stand.remote.create("m", "x")["id"]
    secret = stand.mint("one", note="n")
    allowed = [("GET", f"/notes/{note}", None), ("GET", "/notes/by-filename/n", None),
               ("POST", APPEND, {"text": "y"}), ("POST", f"/notes/{note}/append", {"text": "y"})]
    refused = [("GET", f"/notes/{other}", None), ("GET", "/notes/by-filename/none", None),
               ("POST", "/notes/by-filename/new/append", {"text": "y"}), ("GET", "/notes", None),
               ("GET", "/folders", None), ("POST", "/notes", {"note": {"title": "new"}}),
               ("DELETE", f"/notes/{note}", None), ("POST", f"/notes/{note}/move", {"folder_id": None})]
    for method, path, value in allowed:
        assert stand.request(method, path, value, token=secret).status == 200, path
    for method, path, value in refused:
        assert stand.request(method, path, value, token=secret).code == "forbidden", path


def test_team_tokens_see_the_team_only(stand):
    stand.remote.create("mine")
    team = stand.open_account("team", "team")
    team.create("ours")
    secret = stand.mint("t", "team")
    stand.reset_limits()
    reply = stand.request("GET", "/notes", token=secret)
    assert [item["filename"] for item in reply.json["notes"]] == ["ours"]
    assert reply.headers["x-ratelimit-limit"] == "2000"
    receipt = stand.request("POST", APPEND, {"text": "x"}, token=secret)
    assert receipt.json["storage_cap"] == 50_000_000_000
    assert stand.filenames() == ["mine"] and stand.filenames("team") == ["n", "ours"]


@pytest.mark.parametrize("plan, read, write", [("active", 200, 201), ("lapsed", 200, 403),
                                               ("no_api", 403, 403), ("unconfirmed", 403, 403)])
def test_plans(stand, plan, read, write):
    stand.account(plan=plan)
    assert stand.request("GET", "/notes").status == read
    reply = stand.request("POST", APPEND, {"text": "x"})
    assert reply.status == write and reply.code in (None, "forbidden")


# Rate limits

@pytest.mark.parametrize("tier, limits", [("dev", (600, 60, 300)), ("team", (2000, 200, 1000))])
def test_tier_limits_by_class(stand, tier, limits):
    stand.open_account("a", tier)
    secret = stand.mint("t", "a")
    stand.reset_limits()
    sent = [("GET", "/notes", None), ("POST", "/folders", {"folder": {"name": "F"}}),
            ("POST", APPEND, {"text": "x"})]
    got = [stand.request(m, p, v, token=secret).headers["x-ratelimit-limit"] for m, p, v in sent]
    assert got == [str(limit) for limit in limits]


def test_the_limit_is_per_token_and_class(stand):
    stand.limit("read", 2, 3600)
    second = stand.mint("second")
    assert [stand.request("GET", "/notes").status for _ in range(3)] == [200, 200, 429]
    assert stand.request("GET", "/notes", token=second).status == 200
    assert stand.request("POST", APPEND, {"text": "x"}).status == 201
    stand.limit("read", 5, 3600, token="second")
    assert stand.request("GET", "/notes", token=second).headers["x-ratelimit-limit"] == "5"
    stand.refill()
    assert stand.request("GET", "/notes").status == 200


def test_a_throttled_request_does_nothing_and_costs_nothing(stand):
    stand.limit("append", 1, 3600)
    stand.request("POST", APPEND, {"text": "x"})
    for _ in range(3):
        reply = stand.request("POST", APPEND, {"text": "y"})
    assert reply.code == "rate_limited" and stand.body("n") == "x"
    for header in ("retry-after", "x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"):
        assert header in reply.headers
    stand.limit("append", 2, 3600)
    assert stand.request("POST", APPEND, {"text": "y"}).status == 200


def test_fixed_windows_begin_on_real_time(stand):
    stand.limit("read", 1, 1)
    time.sleep(1 - time.time() % 1 + 0.01)
    assert [stand.request("GET", "/notes").status for _ in range(2)] == [200, 429]
    stand.advance(3600)
    assert stand.request("GET", "/notes").status == 429
    time.sleep(1 - time.time() % 1 + 0.01)
    assert stand.request("GET", "/notes").status == 200


def test_waiting_as_told_is_enough(stand):
    stand.limit("read", 1, 2)
    stand.request("GET", "/notes")
    reply = stand.request("GET", "/notes")
    if reply.status == 429:
        time.sleep(int(reply.headers["retry-after"]))
        assert stand.request("GET", "/notes").status == 200


# Idempotency

def test_a_repeated_key_replays(stand):
    first = stand.request("POST", APPEND, {"text": "x"}, key=KEY)
    again = stand.request("POST", APPEND, {"text": "x"}, key=KEY)
    assert (first.status, first.body) == (again.status, again.body)
    assert again.headers["idempotent-replay"] == "true" and "idempotent-replay" not in first.headers
    assert stand.body("n") == "x"
    assert [entry["replayed"] for entry in stand.log()] == [False, True]
    assert [entry["committed"] for entry in stand.log()] == [True, False]


def test_all_writes_take_keys(stand):
    note = stand.remote.create("n", "x")["id"]
    writes = [("POST", "/notes", {"note": {"title": "a"}}), ("PATCH", f"/notes/{note}", {"note": {"plain_body": "y"}}),
              ("POST", f"/notes/{note}/move", {"folder_id": None}), ("DELETE", f"/notes/{note}", None),
              ("POST", "/notes/bulk", {"notes": [{"title": "b"}]}), ("POST", "/folders", {"folder": {"name": "F"}})]
    for number, (method, path, value) in enumerate(writes):
        replies = [stand.request(method, path, value, key=f"{KEY}{number}") for _ in range(2)]
        assert replies[0].status == replies[1].status < 300
        assert replies[1].headers["idempotent-replay"] == "true"
    assert "idempotent-replay" not in stand.request("GET", "/notes", key=KEY + "0").headers


def test_another_body_is_a_conflict(stand):
    stand.request("POST", APPEND, {"text": "x"}, key=KEY)
    reply = stand.request("POST", APPEND, {"text": "y"}, key=KEY)
    assert (reply.status, reply.code) == (409, "idempotency_key_conflict")
    assert stand.body("n") == "x"


def test_keys_live_24_hours(stand):
    stand.request("POST", APPEND, {"text": "x"}, key=KEY)
    stand.advance(24 * 3600 - 60)
    assert "idempotent-replay" in stand.request("POST", APPEND, {"text": "x"}, key=KEY).headers
    stand.advance(61)
    assert "idempotent-replay" not in stand.request("POST", APPEND, {"text": "x"}, key=KEY).headers
    assert stand.body("n") == "x\nx"


def test_key_lengths(stand):
    for length, status in ((7, 422), (8, 201), (255, 200), (256, 422)):
        assert stand.request("POST", APPEND, {"text": "x"}, key="k" * length).status == status


def test_large_replies_replay_byte_for_byte(stand):
    value = {"note": {"title": "n", "plain_body": "<é>" * 100_000}}
    first = stand.request("POST", "/notes", value, key=KEY)
    assert stand.request("POST", "/notes", value, key=KEY).body == first.body


def test_a_key_survives_a_lost_reply(stand):
    stand.fault("reset_after", count=1)
    with pytest.raises(OSError):
        stand.request("POST", APPEND, {"text": "x"}, key=KEY)
    assert stand.request("POST", APPEND, {"text": "x"}, key=KEY).headers["idempotent-replay"] == "true"
    assert [event["key"] for event in stand.history("n")] == [KEY]


def test_a_key_is_unknown_after_a_request_that_never_arrived(stand):
    stand.fault("reset_before", count=1)
    with pytest.raises(OSError):
        stand.request("POST", APPEND, {"text": "x"}, key=KEY)
    assert "idempotent-replay" not in stand.request("POST", APPEND, {"text": "x"}, key=KEY).headers
    assert stand.body("n") == "x"


def test_parallel_requests_with_one_key_run_once(stand):
    stand.fault("slow", ms=50)
    replies = []
    threads = [threading.Thread(target=lambda: replies.append(
        stand.request("POST", APPEND, {"text": "x"}, key=KEY))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum("idempotent-replay" in reply.headers for reply in replies) == 7
    assert stand.body("n") == "x"


def test_parallel_appends_are_atomic(stand):
    stand.remote.create("n", "")
    def run(letter):
        for _ in range(20):
            stand.request("POST", APPEND, {"text": letter * 50})
    threads = [threading.Thread(target=run, args=(letter,)) for letter in "abcdefgh"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = stand.body("n").split("\n")
    assert len(lines) == 160 and all(line == line[0] * 50 for line in lines)


# Control

def test_control_refuses_nonsense(stand):
    for name, arguments in (("nothing", {}), ("account", {"plan": "gold"}), ("fault", {"action": "boom"}),
                            ("fault", {"action": "hang", "ms": 5}), ("mint", {"name": "x", "scope": "all"}),
                            ("mint", {"name": "x", "secret": "plain"}), ("limit", {"klass": "x", "count": 1}),
                            ("remote", {"verb": "find", "note": 1}), ("mode", {"mode": "off"}),
                            ("remote", {"verb": "set", "note": 1}), ("open_account", {"name": "main"}),
                            ("fault", {"action": "redirect"}), ("next_id", {"note": 1})):
        with pytest.raises(ControlError):
            stand.call(name, **arguments)


def test_remote_client(stand):
    stand.remote.create_folder("F")
    note = stand.remote.create("n", "x", folder="F", at="2026-01-01T00:00:00Z", pinned=True)
    assert note["updated_at"] == 1767225600000000 and note["pinned"]
    stand.remote.patch("n", title="other title")
    assert (stand.note("n")["title"], stand.note("n")["filename"]) == ("other title", "n")
    stand.remote.patch("n", filename="m")
    assert stand.note("n") is None and stand.note("m")["title"] == "other title"
    stand.remote.rename("m", "k")
    stand.remote.append("k", "y")
    assert stand.body("k") == "x\ny"
    stand.remote.set("k", body="raw\r\n\n", updated_at=0)
    assert stand.note("k")["updated_at"] == 0 and stand.body("k") == "raw\r\n\n"
    stand.remote.lock("k")
    stand.remote.rename_folder("F", "G")
    stand.remote.delete_folder("G")
    assert stand.note("k")["folder_id"] is None
    stand.remote.make_rich("k")
    stand.remote.make_plain("k")
    stand.remote.delete("k")
    assert stand.last() == len(stand.log()) or stand.log() == []
    assert [event["op"] for event in stand.history(note["id"])][-1] == "delete"


def test_dump_and_load(stand):
    stand.remote.create_folder("F")
    stand.remote.create("n", "x", folder="F")
    stand.remote.create("gone")
    stand.remote.delete("gone")
    stand.mint("second", scope="read_only")
    stand.switch(etag="off")
    dump = stand.dump()
    stand.reset()
    assert stand.notes() == []
    stand.load(dump)
    assert stand.dump() == dump
    assert stand.request("GET", "/notes/by-filename/n").json["plain_body"] == "x"


def test_ids_can_be_large(stand):
    stand.next_id(note=2**53 + 1)
    assert stand.remote.create("n")["id"] == 2**53 + 1
    assert stand.request("GET", f"/notes/{2**53 + 1}").status == 200
