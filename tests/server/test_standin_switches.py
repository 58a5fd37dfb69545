"""Each switch does what the table in standin/switches.py says: one test function per switch."""

from __future__ import annotations

import gzip
import http.client
import re
import subprocess
import threading
import time
from urllib.parse import urlsplit

import pytest
from client import PROGRAM, ControlError
from standin.switches import TABLE

NAME = "/notes/by-filename/n"


def create(stand, title="n", body="text", **keys):
    return stand.request("POST", "/notes", {"note": {"title": title, "plain_body": body, **keys}})


def patch(stand, ref="n", **keys):
    path = f"/notes/{ref}" if isinstance(ref, int) else f"/notes/by-filename/{ref}"
    return stand.request("PATCH", path, {"note": keys})


def append(stand, text, name="n", **keys):
    return stand.request("POST", f"/notes/by-filename/{name}/append", {"text": text, **keys})


def appended(stand, base, text):
    """The body after an append of `text` to a note with the body `base`."""
    stand.remote.create("n", base)
    append(stand, text)
    return stand.body("n")


def items(stand, query=""):
    return stand.request("GET", f"/notes?{query}").json["notes"]


def test_every_switch_has_a_test():
    missing = [name for name in TABLE if f"test_{name}" not in globals()]
    assert missing == []


def test_undeclared_names_and_values_are_refused(stand):
    before = stand.switches()
    for bad in ({"lenient": "yes"}, {"etag": "maybe"}, {"list_page_cap": 0}, {"list_omits": "id"},
                {"etag": "off", "ids": "hex"}):
        with pytest.raises(ControlError):
            stand.switch(**bad)
    assert stand.switches() == before


def test_list_switches_prints_all():
    text = subprocess.run(["/usr/bin/python3", PROGRAM, "--list-switches"], capture_output=True, text=True,
                          check=True).stdout
    assert all(re.search(rf"^{name} .*default ", text, re.M) for name in TABLE)


@pytest.mark.parametrize("rule, base, body", [
    ("always", "a", "a\nb"), ("always", "a\n", "a\n\nb"), ("always", "", "b"),
    ("missing", "a", "a\nb"), ("missing", "a\n", "a\nb"), ("missing", "", "b"),
])
def test_append_separator(stand, rule, base, body):
    stand.switch(append_separator=rule)
    assert appended(stand, base, "b") == body


@pytest.mark.parametrize("how, body", [
    ("none", "a\nb \n\n"), ("newline", "a\nb \n"), ("newlines", "a\nb "), ("blanks", "a\nb"),
])
def test_append_chomp(stand, how, body):
    stand.switch(append_chomp=how)
    assert appended(stand, "a", "b \n\n") == body


@pytest.mark.parametrize("how, status, body", [("refused", 422, "a"), ("ignored", 200, "a"),
                                               ("accepted", 200, "a\n")])
def test_append_empty(stand, how, status, body):
    stand.switch(append_empty=how)
    stand.remote.create("n", "a")
    assert append(stand, "").status == status
    assert stand.body("n") == body


def test_append_interleaves(stand):
    stand.switch(append_interleaves="yes")

    def race():
        stand.remote.create("n", "")
        threads = [threading.Thread(target=append, args=(stand, letter * 8)) for letter in "ab"]
        for thread in threads:
            thread.start()
            time.sleep(0.005)
        for thread in threads:
            thread.join()
        body = stand.body("n")
        stand.remote.delete("n")
        return body == "aaaa\nbbbbaaaabbbb"

    assert any(race() for _ in range(20))


@pytest.mark.parametrize("codes, created, later", [("split", 201, 200), ("200", 200, 200), ("201", 201, 201),
                                                   ("202", 202, 202), ("204", 204, 204)])
def test_append_codes(stand, codes, created, later):
    stand.switch(append_codes=codes)
    assert append(stand, "a").status == created
    reply = append(stand, "b")
    assert reply.status == later and bool(reply.body) == (later != 204)


def test_append_created_key(stand):
    note = stand.remote.create("n", "a")["id"]
    stand.switch(append_created_key="both")
    assert stand.request("POST", f"/notes/{note}/append", {"text": "b"}).json["created"] is False


@pytest.mark.parametrize("shape, keys", [
    ("sample", {"filename", "created", "byte_size", "bytes_remaining", "storage_used", "storage_cap",
                "updated_at"}),
    ("client", {"created", "id", "filename", "bytes_remaining"}),
])
def test_receipt_fields(stand, shape, keys):
    stand.switch(receipt_fields=shape)
    assert set(append(stand, "a").json) == keys


def test_first_touch(stand):
    stand.switch(first_touch="editable")
    append(stand, "a")
    append(stand, "a", "m", append_only=True)
    assert [stand.note(name)["append_only"] for name in "nm"] == [False, True]


def test_create_code(stand):
    stand.switch(create_code="200")
    assert create(stand).status == 200
    stand.switch(create_code="204")
    assert (create(stand, "m").body, stand.filenames()) == (b"", ["m", "n"])


def test_update_code(stand):
    note = stand.remote.create("n", "x")["id"]
    stand.switch(update_code="204")
    assert (patch(stand, plain_body="y").body, stand.body("n")) == (b"", "y")
    assert stand.request("POST", f"/notes/{note}/move", {"folder_id": None}).status == 204


@pytest.mark.parametrize("title, filename", [("Research 2026 Q2", "research-2026-q2"),
                                             ("Recovery codes", "recovery-codes"), ("Café!", "cafe"),
                                             ("日本", "日本")])
def test_filename_rule(stand, title, filename):
    stand.switch(filename_rule="slug")
    assert create(stand, title).json["filename"] == filename
    append(stand, "x", "ai-sessions.txt")
    assert "ai-sessions.txt" in stand.filenames()


def test_filename_backslash(stand):
    stand.switch(filename_backslash="removed")
    assert create(stand, "a\\b").json["filename"] == "ab"


@pytest.mark.parametrize("case, status, found", [("sensitive", 201, 404), ("insensitive", 422, 404),
                                                 ("folded", 422, 200)])
def test_filename_case(stand, case, status, found):
    stand.switch(filename_case=case)
    create(stand, "Note")
    assert stand.request("GET", "/notes/by-filename/NOTE").status == found
    assert create(stand, "note").status == status


def test_title_blank(stand):
    stand.switch(title_blank="auto")
    assert re.fullmatch(r"\d{8}-\d{6}-[0-9a-f]+\.txt", create(stand, "").json["filename"])


def test_title_patch(stand):
    stand.switch(title_patch="keeps")
    stand.remote.create("n", "x")
    reply = patch(stand, title="m", plain_body="x").json
    assert (reply["title"], reply["filename"]) == ("m", "n")


def test_title_only_patch(stand):
    stand.switch(title_only_patch="accepted")
    stand.remote.create("n", "x")
    assert patch(stand, title="m").json["filename"] == "m"


def test_empty_create(stand):
    assert create(stand, "allowed", "").status == 201
    stand.switch(empty_create="refused")
    assert create(stand, "n", "").code == "validation_failed"
    assert stand.request("POST", "/notes", {"note": {"title": "n"}}).code == "validation_failed"


def test_empty_patch(stand):
    stand.switch(empty_patch="accepted")
    stand.remote.create("n", "x")
    assert patch(stand, plain_body="").json["byte_size"] == 0


@pytest.mark.parametrize("how, status, hours", [("refused", 422, None), ("ignored", 201, None),
                                                ("accepted", 201, 5)])
def test_settings_at_create(stand, how, status, hours):
    stand.switch(settings_at_create=how)
    reply = create(stand, append_only=True, append_deadline_hours=5)
    assert reply.status == status
    assert reply.json.get("append_deadline_hours") == hours


def test_locked_delete(stand):
    stand.remote.create("n", append_only=True)
    note = stand.note("n")["id"]
    stand.switch(locked_delete="refused")
    assert stand.request("DELETE", f"/notes/{note}").code == "note_locked"
    stand.switch(locked_delete="allowed")
    assert stand.request("DELETE", f"/notes/{note}").status == 204


def test_locked_mixed_patch(stand):
    stand.remote.create("n", "x", append_only=True)
    assert patch(stand, plain_body="y", append_deadline_hours=5).code == "note_locked"
    stand.switch(locked_mixed_patch="settings")
    reply = patch(stand, plain_body="y", append_deadline_hours=5).json
    assert (reply["plain_body"], reply["append_deadline_hours"]) == ("x", 5)


def test_unknown_keys(stand):
    stand.switch(unknown_keys="ignored")
    assert create(stand, filename="exact").json["filename"] == "n"
    assert stand.request("GET", "/notes?page=2").status == 200


def test_malformed_json(stand):
    stand.switch(malformed_json="422")
    assert stand.request("POST", "/notes", raw=b"{").code == "validation_failed"


def test_bad_query(stand):
    stand.switch(bad_query="default")
    assert stand.request("GET", "/notes?limit=x&sort=size&format=html").status == 200


def test_list_fields(stand):
    stand.switch(list_fields="minimal")
    stand.remote.create("n")
    assert set(items(stand)[0]) == {"id", "filename", "title", "format", "last_appended_at"}
    stand.switch(list_fields="wide")
    assert {"pinned", "webhook_url", "byte_size"} < set(items(stand)[0]) and "plain_body" not in items(stand)[0]


def test_list_omits(stand):
    stand.switch(list_omits=["byte_size", "folder_id"])
    stand.remote.create("n")
    assert not {"byte_size", "folder_id"} & set(items(stand)[0]) and "updated_at" in items(stand)[0]


def test_list_page_cap(stand):
    stand.switch(list_page_cap=30)
    stand.seed(40)
    assert [len(items(stand, q)) for q in ("limit=200", "limit=10", "")] == [30, 10, 30]


def test_list_limit(stand):
    stand.switch(list_limit="ignored")
    stand.seed(60)
    assert [len(items(stand, q)) for q in ("limit=200", "limit=1")] == [50, 50]


def test_list_ties(stand):
    stand.freeze()
    ids = [stand.remote.create(str(n))["id"] for n in range(40)]

    def order():
        return [item["id"] for o in (0, 25) for item in items(stand, f"limit=25&offset={o}")]

    assert order() == ids[::-1]
    stand.switch(list_ties="id_asc")
    assert order() == ids
    stand.switch(list_ties="id_desc")
    assert order() == ids[::-1]
    stand.switch(list_ties="random")
    first = [item["id"] for item in items(stand, "limit=40")]
    second = [item["id"] for item in items(stand, "limit=40")]
    assert first != second and sorted(first) == sorted(second) == ids
    stand.advance(5)
    newest = stand.remote.create("later")["id"]
    assert items(stand, "limit=1")[0]["id"] == newest


def test_list_nulls(stand):
    stand.remote.create("never")
    stand.remote.append("n", "x")
    assert [i["filename"] for i in items(stand, "sort=appended")] == ["n", "never"]
    stand.switch(list_nulls="first")
    assert [i["filename"] for i in items(stand, "sort=appended")] == ["never", "n"]


def test_excerpt_length(stand):
    stand.switch(excerpt_length=3)
    stand.remote.create("n", "abcdef")
    assert items(stand)[0]["plain_body_excerpt"] == "abc"


def test_etag(stand):
    stand.remote.create("n", "x")
    reply = stand.request("GET", NAME)
    tag = reply.headers["etag"]
    assert tag.startswith('W/"')
    again = stand.request("GET", NAME, headers={"If-None-Match": tag})
    assert (again.status, again.body) == (304, b"") and "x-ratelimit-limit" in again.headers
    stand.remote.patch("n", "y")
    assert stand.request("GET", NAME, headers={"If-None-Match": tag}).status == 200
    stand.switch(etag="off")
    assert "etag" not in stand.request("GET", NAME, headers={"If-None-Match": tag}).headers


@pytest.mark.parametrize("costs, used", [("yes", 2), ("no", 1)])
def test_not_modified_costs(stand, costs, used):
    stand.switch(not_modified_costs=costs)
    stand.limit("read", 100, 3600)
    tag = stand.request("GET", "/folders").headers["etag"]
    reply = stand.request("GET", "/folders", headers={"If-None-Match": tag})
    assert reply.headers["x-ratelimit-remaining"] == str(100 - used)


def test_body_newlines(stand):
    stand.switch(body_newlines="normalised")
    assert create(stand, body="a\r\nb\rc").json["plain_body"] == "a\nb\nc"


@pytest.mark.parametrize("how, body", [("kept", "a \n\n"), ("newline", "a \n"), ("blanks", "a")])
def test_body_trailing(stand, how, body):
    stand.switch(body_trailing=how)
    assert create(stand, body="a \n\n").json["plain_body"] == body


def test_body_controls(stand):
    stand.switch(body_controls="stripped")
    assert create(stand, body="a\x1b[0m\tb\n\x7f").json["plain_body"] == "a[0m\tb\n"


@pytest.mark.parametrize("how, status, body", [("refused", 422, None), ("stripped", 201, "ab"),
                                               ("kept", 201, "a\0b")])
def test_body_nul(stand, how, status, body):
    stand.switch(body_nul=how)
    reply = create(stand, body="a\0b")
    assert reply.status == status and reply.json.get("plain_body") == body


def test_body_unicode(stand):
    stand.switch(body_unicode="nfc")
    assert create(stand, body="e\u0301").json["plain_body"] == "\u00e9"


def test_encrypted_check(stand):
    stand.switch(encrypted_check="yes")
    assert create(stand, body="clear", client_encrypted=True).code == "validation_failed"
    assert create(stand, body="fj1:abc", client_encrypted=True).status == 201
    assert append(stand, "clear").code == "validation_failed"


@pytest.mark.parametrize("how, body", [("projection", "x"), ("empty", ""), ("null", None)])
def test_rich_body(stand, how, body):
    stand.switch(rich_body=how)
    stand.remote.create("n", "x")
    stand.remote.make_rich("n")
    assert stand.request("GET", NAME).json["plain_body"] == body


def test_rich_size(stand):
    stand.remote.create("n", "x")
    stand.remote.make_rich("n", html_bytes=77)
    assert items(stand)[0]["byte_size"] == 1
    stand.switch(rich_size="html")
    assert items(stand)[0]["byte_size"] == 77
    assert stand.account()["used_bytes"] == 77


def test_ids(stand):
    folder = stand.remote.create_folder("F")["id"]
    stand.switch(ids="string")
    reply = create(stand, folder_id=str(folder)).json
    assert (reply["id"], reply["folder_id"]) == (str(stand.note("n")["id"]), str(folder))
    assert patch(stand, folder_id=str(folder)).status == 200


@pytest.mark.parametrize("style, text", [("seconds", "2026-01-02T03:04:05Z"),
                                         ("fraction", "2026-01-02T03:04:05.678Z"),
                                         ("offset", "2026-01-02T05:04:05+02:00")])
def test_timestamps(stand, style, text):
    stand.switch(timestamps=style)
    stand.remote.create("n", at="2026-01-02T03:04:05.678Z")
    assert items(stand)[0]["updated_at"] == text


def test_nulls(stand):
    stand.switch(nulls="omitted")
    assert "folder_id" not in create(stand).json and "last_appended_at" not in items(stand)[0]


def test_extra_keys(stand):
    stand.switch(extra_keys="yes")
    assert "x_new_field" in create(stand).json and "x_new_field" in items(stand)[0]


OLD = "2026-01-01T00:00:00Z"


def bumped(stand, note="n"):
    return stand.request("GET", f"/notes/by-filename/{note}").json["updated_at"] != OLD


@pytest.mark.parametrize("bumps", ["yes", "no"])
def test_move_bumps(stand, bumps):
    stand.switch(move_bumps=bumps)
    folder = stand.remote.create_folder("F")["id"]
    for name in ("n", "m"):
        stand.remote.create(name, at=OLD)
    stand.request("POST", f"/notes/{stand.note('n')['id']}/move", {"folder_id": folder})
    patch(stand, "m", folder_id=folder)
    assert bumped(stand) == bumped(stand, "m") == (bumps == "yes")


@pytest.mark.parametrize("bumps", ["yes", "no"])
def test_settings_bump(stand, bumps):
    stand.switch(settings_bump=bumps)
    stand.remote.create("n", append_only=True, at=OLD)
    patch(stand, append_deadline_hours=5)
    assert bumped(stand) == (bumps == "yes")


@pytest.mark.parametrize("bumps", ["yes", "no"])
def test_same_patch_bumps(stand, bumps):
    stand.switch(same_patch_bumps=bumps)
    stand.remote.create("n", "x", at=OLD)
    patch(stand, plain_body="x", title="n")
    assert bumped(stand) == (bumps == "yes")


@pytest.mark.parametrize("bumps", ["yes", "no"])
def test_folder_delete_bumps(stand, bumps):
    stand.switch(folder_delete_bumps=bumps)
    folder = stand.remote.create_folder("F")["id"]
    stand.remote.create("n", folder="F", at=OLD)
    stand.request("DELETE", f"/folders/{folder}")
    assert bumped(stand) == (bumps == "yes")


def test_folder_cap_code(stand):
    stand.switch(folder_cap_code=422)
    stand.account(folders=0)
    reply = stand.request("POST", "/folders", {"folder": {"name": "F"}})
    assert (reply.status, reply.code) == (422, "cap_exceeded")


def test_single_note_list(stand):
    for name in "nm":
        stand.remote.create(name)
    secret = stand.mint("one", note="n")
    assert stand.request("GET", "/notes", token=secret).code == "forbidden"
    stand.switch(single_note_list="one")
    assert [i["filename"] for i in stand.request("GET", "/notes", token=secret).json["notes"]] == ["n"]


def test_single_note_patch(stand):
    stand.remote.create("n", "x")
    secret = stand.mint("one", note="n")
    value = {"note": {"plain_body": "y"}}
    assert stand.request("PATCH", NAME, value, token=secret).code == "forbidden"
    stand.switch(single_note_patch="allowed")
    assert stand.request("PATCH", NAME, value, token=secret).status == 200


def test_bulk(stand):
    stand.switch(bulk="forbidden")
    assert stand.request("POST", "/notes/bulk", {"notes": [{"title": "n"}]}).code == "forbidden"


@pytest.mark.parametrize("shape, failed", [
    ("indexes", [1]), ("objects", [{"index": 1, "errors": ["Folder not found"]}]),
    ("rows", {"1": ["Folder not found"]}), ("details", None),
])
def test_bulk_failed(stand, shape, failed):
    stand.switch(bulk_failed=shape)
    reply = stand.request("POST", "/notes/bulk", {"notes": [{"title": "n"}, {"title": "m", "folder_id": 1}]})
    assert reply.json["error"].get("failed") == failed


def test_rate_window(stand):
    stand.switch(rate_window="sliding")
    stand.limit("read", 2, 1)
    statuses = [stand.request("GET", "/notes").status for _ in range(3)]
    assert statuses == [200, 200, 429]
    time.sleep(1.05)
    assert stand.request("GET", "/notes").headers["x-ratelimit-remaining"] == "1"


@pytest.mark.parametrize("how, on_success, on_error", [("success", True, False), ("all", True, True),
                                                       ("none", False, False)])
def test_rate_headers(stand, how, on_success, on_error):
    stand.switch(rate_headers=how)
    assert ("x-ratelimit-limit" in stand.request("GET", "/notes").headers) == on_success
    assert ("x-ratelimit-limit" in stand.request("GET", "/notes/1").headers) == on_error


def throttled(stand, **switches):
    stand.switch(**switches)
    stand.limit("read", 0, 3600)
    reply = stand.request("GET", "/notes")
    assert reply.code == "rate_limited" and reply.headers["x-ratelimit-remaining"] == "0"
    return reply.headers


def test_rate_reset(stand):
    assert abs(int(throttled(stand)["x-ratelimit-reset"]) - time.time()) <= 3601
    assert int(throttled(stand, rate_reset="seconds")["x-ratelimit-reset"]) <= 3600
    assert "x-ratelimit-reset" not in throttled(stand, rate_reset="absent")


def test_retry_after(stand):
    assert 1 <= int(throttled(stand)["retry-after"]) <= 3600
    assert throttled(stand, retry_after="http_date")["retry-after"].endswith("GMT")
    assert "retry-after" not in throttled(stand, retry_after="absent")


def class_of_last(stand):
    return stand.log()[-1]["klass"]


def test_append_class(stand):
    append(stand, "x")
    assert class_of_last(stand) == "append"
    stand.switch(append_class="write")
    append(stand, "x")
    assert class_of_last(stand) == "write"


@pytest.mark.parametrize("klass", ["write", "append", "read"])
def test_move_class(stand, klass):
    stand.switch(move_class=klass)
    stand.request("POST", "/notes/1/move", {"folder_id": None})
    assert class_of_last(stand) == klass


@pytest.mark.parametrize("klass", ["write", "append", "read"])
def test_folder_class(stand, klass):
    stand.switch(folder_class=klass)
    stand.request("POST", "/folders", {"folder": {"name": "F"}})
    assert class_of_last(stand) == klass
    stand.request("GET", "/folders")
    assert class_of_last(stand) == "read"


@pytest.mark.parametrize("cost, left", [("one", "99"), ("rows", "97")])
def test_bulk_cost(stand, cost, left):
    stand.switch(bulk_cost=cost)
    stand.limit("write", 100, 3600)
    reply = stand.request("POST", "/notes/bulk", {"notes": [{"title": t} for t in "abc"]})
    assert reply.headers["x-ratelimit-remaining"] == left


KEY = "key-0001"


def keyed(stand, text="x", **kwargs):
    return stand.request("POST", NAME + "/append", {"text": text}, key=KEY, **kwargs)


def is_replay(reply):
    return reply.headers.get("idempotent-replay") == "true"


@pytest.mark.parametrize("scope, team_mate, stranger", [("token", False, False), ("account", True, False),
                                                        ("global", True, True)])
def test_key_scope(stand, scope, team_mate, stranger):
    stand.switch(key_scope=scope)
    stand.open_account("other")
    same_account, other = stand.mint("second"), stand.mint("foreign", "other")
    assert not is_replay(keyed(stand))
    assert is_replay(keyed(stand))
    assert is_replay(keyed(stand, token=same_account)) == team_mate
    assert is_replay(keyed(stand, token=other)) == stranger


def test_key_fingerprint(stand):
    keyed(stand)
    other = stand.request("POST", "/notes/by-filename/m/append", {"text": "x"}, key=KEY)
    assert (other.status, other.code) == (409, "idempotency_key_conflict")
    stand.switch(key_fingerprint="body")
    stand.forget_keys()
    keyed(stand)
    assert is_replay(stand.request("POST", "/notes/by-filename/m/append", {"text": "x"}, key=KEY))


@pytest.mark.parametrize("stored, client_error, throttle, outage", [
    ("final", True, False, False), ("none", False, False, False), ("all", True, True, True)])
def test_key_errors(stand, stored, client_error, throttle, outage):
    stand.switch(key_errors=stored)
    keyed(stand, "")
    assert is_replay(keyed(stand, "")) == client_error
    stand.forget_keys()
    stand.limit("append", 0, 3600)
    assert keyed(stand).status == 429
    stand.unlimited()
    assert is_replay(keyed(stand)) == throttle
    stand.forget_keys()
    stand.fault("status", status=503, count=1)
    assert keyed(stand).code == "service_unavailable"
    again = keyed(stand)
    assert (is_replay(again), again.status == 503) == (outage, outage)


@pytest.mark.parametrize("how, status, replayed", [("wait", 201, True), ("conflict", 409, False),
                                                   ("unavailable", 503, False)])
def test_key_running(stand, how, status, replayed):
    stand.switch(key_running=how)
    stand.fault("slow", ms=400, count=1)
    first = threading.Thread(target=keyed, args=(stand,))
    first.start()
    stand.wait_for(lambda: stand.last() and stand.log())
    time.sleep(0.05)
    reply = keyed(stand)
    first.join()
    assert (reply.status, is_replay(reply)) == (status, replayed)
    assert stand.body("n") == "x"


@pytest.mark.parametrize("how, status", [("422", 422), ("400", 400), ("ignored", 201)])
def test_key_illegal(stand, how, status):
    stand.switch(key_illegal=how)
    for key in ("short", "k" * 256):
        assert stand.request("POST", "/notes", {"note": {"title": key}}, key=key).status == (
            422 if how == "ignored" and len(key) > 200 else status)


@pytest.mark.parametrize("costs, left", [("yes", "98"), ("no", "99")])
def test_key_replay_costs(stand, costs, left):
    stand.switch(key_replay_costs=costs)
    stand.limit("append", 100, 3600)
    keyed(stand)
    assert keyed(stand).headers["x-ratelimit-remaining"] == left


def test_dot_paths(stand):
    for name in (".", ".."):
        stand.remote.create(name)
    assert "notes" in stand.request("GET", "/notes/by-filename/..").json
    assert stand.request("GET", "/notes/by-filename/%2e").status == 404
    stand.switch(dot_paths="kept")
    assert stand.request("GET", "/notes/by-filename/..").json["filename"] == ".."
    assert stand.request("GET", "/notes/by-filename/%2e").json["filename"] == "."


def test_gzip(stand):
    stand.switch(gzip="on")
    stand.remote.create("n", "x" * 5000)
    reply = stand.request("GET", NAME, headers={"Accept-Encoding": "gzip"})
    assert reply.headers["content-encoding"] == "gzip" and b"xxxxx" in gzip.decompress(reply.body)
    assert "content-encoding" not in stand.request("GET", NAME).headers


def test_framing(stand):
    stand.switch(framing="chunked")
    stand.remote.create("n", "x" * 50_000)
    reply = stand.request("GET", NAME)
    assert reply.headers["transfer-encoding"] == "chunked" and reply.json["plain_body"] == "x" * 50_000


def connect(stand):
    connection = http.client.HTTPConnection(urlsplit(stand.api).netloc, timeout=5)
    connection.auto_open = False
    connection.connect()
    return connection


def get(stand, connection):
    connection.request("GET", "/api/v1/folders", headers={"Authorization": f"Bearer {stand.token}"})
    reply = connection.getresponse()
    reply.read()
    return reply


def test_keepalive_requests(stand):
    stand.switch(keepalive_requests=2)
    connection = connect(stand)
    headers = [get(stand, connection).getheader("connection") for _ in range(2)]
    assert headers == ["keep-alive", "close"]


def test_keepalive_idle_s(stand):
    stand.switch(keepalive_idle_s=1)
    connection = connect(stand)
    get(stand, connection)
    connection.sock.settimeout(3)
    assert connection.sock.recv(1) == b""


def test_max_request_bytes(stand):
    stand.switch(max_request_bytes=1000)
    reply = create(stand, body="x" * 1000)
    assert reply.status == 413 and reply.headers["content-type"] == "text/html" and b"<html>" in reply.body


def test_latency_ms(stand):
    stand.switch(latency_ms=60)
    start = time.monotonic()
    stand.request("GET", "/notes")
    assert time.monotonic() - start > 0.06
