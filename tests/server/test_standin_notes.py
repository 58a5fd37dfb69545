"""The note and folder endpoints by API.md (a), under default switches."""

from __future__ import annotations

import re

import pytest

FULL_NOTE = {"id", "filename", "title", "format", "folder_id", "pinned", "append_only", "client_encrypted",
             "append_deadline_hours", "alert_email", "last_appended_at", "alerted_at", "webhook_url",
             "webhook_format", "webhook_failure_count", "webhook_disabled_at", "plain_body", "byte_size",
             "created_at", "updated_at"}
LIST_ITEM = {"id", "filename", "title", "format", "last_appended_at", "updated_at", "created_at",
             "append_only", "folder_id", "plain_body_excerpt", "byte_size"}


def create(stand, title, body="text", **keys):
    return stand.request("POST", "/notes", {"note": {"title": title, "plain_body": body, **keys}})


def test_create_answers_the_full_note_at_top_level(stand):
    reply = create(stand, "Hello", "Grüße", format="plain")
    assert reply.status == 201
    assert set(reply.json) == FULL_NOTE
    assert reply.json["byte_size"] == 7
    assert reply.json["append_only"] is False
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", reply.json["updated_at"])


def test_every_reply_has_a_date_and_successes_have_rate_headers(stand):
    reply = stand.request("GET", "/notes")
    assert reply.headers["date"].endswith("GMT")
    assert int(reply.headers["x-ratelimit-limit"]) - 1 == int(reply.headers["x-ratelimit-remaining"])
    refused = stand.request("GET", "/notes/1")
    assert "date" in refused.headers and "x-ratelimit-limit" not in refused.headers


def test_json_output_is_escaped_as_rails_does(stand):
    reply = create(stand, "a<b>&c", "\u2028\u2029 é")
    assert b"a\\u003cb\\u003e\\u0026c" in reply.body
    assert b"\\u2028\\u2029 \xc3\xa9" in reply.body
    assert reply.json["plain_body"] == "\u2028\u2029 é"


@pytest.mark.parametrize("value", [
    {"title": "t", "plain_body": "b"}, {"note": {}}, {"note": []}, {"note": None}, {}, [], "x",
    {"notes": {"title": "t"}}, {"note": {"title": "t", "filename": "f"}}, {"note": {"title": 1}},
    {"note": {"title": "t"}, "extra": 1}, {"note": {"title": ""}}, {"note": {"title": "  "}},
    {"note": {"title": "/"}}, {"note": {"plain_body": "b"}}, {"note": {"title": "t", "plain_body": None}},
    {"note": {"title": "t", "plain_body": 5}}, {"note": {"title": "x" * 201}},
    {"note": {"title": "t", "append_only": "true"}}, {"note": {"title": "t", "format": "html"}},
    {"note": {"title": "t", "folder_id": "none"}}, {"note": {"title": "t", "plain_body": "a\0b"}},
    {"note": {"title": "t", "append_deadline_hours": 3, "append_only": True}},
])
def test_create_refuses(stand, value):
    reply = stand.request("POST", "/notes", value)
    assert (reply.status, reply.code) == (422, "validation_failed")
    assert isinstance(reply.json["error"]["details"], list)
    assert stand.notes() == []


def test_requests_must_be_json(stand):
    for raw in (b"", b"{", b"\xff", b'{"note":{"title":"\\ud800"}}', b"[" * 100_000, b'{"a":NaN}'):
        reply = stand.request("POST", "/notes", raw=raw)
        assert (reply.status, reply.code) == (400, "bad_request"), raw[:10]
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    assert stand.request("POST", "/notes", {"note": {"title": "t"}}, headers=form).status == 422


def test_rich_create_is_a_type_mismatch(stand):
    reply = create(stand, "r", format="rich")
    assert (reply.status, reply.code) == (422, "content_type_mismatch")


@pytest.mark.parametrize("title, filename", [
    ("Recovery codes", "Recovery codes"), ("a/b\x07c\u200bd", "abcd"), ("Cafe\u0301", "Caf\u00e9"),
    ("é" * 150, "é" * 100), ("日" * 70, "日" * 66), (" x ", " x "), ("..", ".."),
])
def test_filename_rule(stand, title, filename):
    assert create(stand, title).json["filename"] == filename


def test_names_clash_account_wide(stand):
    folder = stand.remote.create_folder("F")["id"]
    create(stand, "same")
    assert create(stand, "same", folder_id=folder).code == "validation_failed"
    assert create(stand, "sa/me").code == "validation_failed"
    assert create(stand, "Same").status == 201


def test_folder_at_create(stand):
    folder = stand.remote.create_folder("F")["id"]
    assert create(stand, "in", folder_id=folder).json["folder_id"] == folder
    assert create(stand, "root", folder_id=None).json["folder_id"] is None
    assert create(stand, "lost", folder_id=9999).code == "not_found"


def test_show_by_id_and_by_filename(stand):
    note = create(stand, "a b?c%d.txt").json
    assert stand.request("GET", f"/notes/{note['id']}").json == note
    assert stand.request("GET", "/notes/by-filename/a%20b%3Fc%25d.txt").json == note
    assert stand.request("GET", "/notes/by-filename/a%2F%20b%3Fc%25d.txt").json == note
    for path in ("/notes/1", "/notes/by-filename/no", "/notes/abc", "/nothing", "/notes/by-filename/"):
        reply = stand.request("GET", path)
        assert (reply.status, reply.code) == (404, "not_found")
    assert stand.request("GET", "/notes/by-filename/%ff").status == 400
    assert stand.request("PUT", f"/notes/{note['id']}", {"note": {"plain_body": "x"}}).status == 404
    assert stand.request("DELETE", "/notes/by-filename/x").status == 404


def test_head(stand):
    create(stand, "n")
    reply = stand.request("HEAD", "/notes")
    assert (reply.status, reply.body) == (200, b"") and int(reply.headers["content-length"]) > 10


def test_foreign_records_are_not_found(stand):
    other = stand.open_account("other")
    note = other.create("theirs")["id"]
    folder = other.create_folder("theirs")["id"]
    mine = create(stand, "mine").json["id"]
    assert stand.request("GET", f"/notes/{note}").code == "not_found"
    assert stand.request("GET", f"/folders/{folder}").code == "not_found"
    assert stand.request("POST", f"/notes/{mine}/move", {"folder_id": folder}).code == "not_found"
    assert stand.request("GET", f"/notes?folder_id={folder}").json == {"notes": []}


# Updating

def patch(stand, ref, **keys):
    path = f"/notes/{ref}" if isinstance(ref, int) else f"/notes/by-filename/{ref}"
    return stand.request("PATCH", path, {"note": keys})


def test_patch_body_title_and_folder(stand):
    folder = stand.remote.create_folder("F")["id"]
    note = stand.remote.create("n", "old")["id"]
    assert patch(stand, note, plain_body="new").json["plain_body"] == "new"
    reply = patch(stand, "n", title="m", plain_body="newer", folder_id=folder)
    assert reply.status == 200 and set(reply.json) == FULL_NOTE
    assert (reply.json["filename"], reply.json["folder_id"]) == ("m", folder)
    assert stand.request("GET", "/notes/by-filename/n").status == 404
    assert stand.history(note, op="patch")[0]["text"] == "new"


@pytest.mark.parametrize("keys, code", [
    ({"title": "only"}, "validation_failed"), ({"plain_body": ""}, "validation_failed"),
    ({"plain_body": None}, "validation_failed"), ({"title": "", "plain_body": "x"}, "validation_failed"),
    ({"title": "taken", "plain_body": "x"}, "validation_failed"), ({"folder_id": 9999}, "not_found"),
    ({"folder_id": ""}, "validation_failed"), ({"append_only": True}, "validation_failed"),
    ({"format": "rich"}, "validation_failed"), ({"filename": "x"}, "validation_failed"),
    ({"client_encrypted": True}, "validation_failed"), ({"append_deadline_hours": 5}, "validation_failed"),
    ({"webhook_url": "https://x.example"}, "validation_failed"), ({}, "validation_failed"),
])
def test_patch_refuses_and_leaves_the_note(stand, keys, code):
    stand.remote.create("taken")
    before = stand.remote.create("n", "old")
    assert patch(stand, before["id"], **keys).code == code
    assert stand.note(before["id"]) == before


def test_settings_of_a_locked_note(stand):
    note = stand.remote.create("log", "x", append_only=True)["id"]
    reply = patch(stand, note, append_deadline_hours=720, alert_email="a@example.com",
                  webhook_url="https://h.example/x", webhook_secret="s", webhook_format="slack")
    assert reply.status == 200
    assert reply.json["append_deadline_hours"] == 720 and reply.json["webhook_format"] == "slack"
    assert "webhook_secret" not in reply.json and stand.note(note)["webhook_secret"] == "s"
    assert patch(stand, note, append_deadline_hours=None, webhook_format=None).json["webhook_format"] == "generic"
    for bad in (0, 721, "5", True, 1.5):
        assert patch(stand, note, append_deadline_hours=bad).code == "validation_failed"
    for key, bad in (("alert_email", "x"), ("webhook_url", "ftp://x"), ("webhook_format", "irc"),
                     ("webhook_secret", 5)):
        assert patch(stand, note, **{key: bad}).code == "validation_failed"


def test_saving_the_webhook_url_rearms_it(stand):
    note = stand.remote.create("log", append_only=True, webhook_url="https://h.example")["id"]
    stand.remote.set(note, webhook_failure_count=10, webhook_disabled_at="2026-01-01T00:00:00Z")
    assert patch(stand, note, alert_email="a@b.c").json["webhook_failure_count"] == 10
    reply = patch(stand, note, webhook_url="https://h.example").json
    assert (reply["webhook_failure_count"], reply["webhook_disabled_at"]) == (0, None)


def test_locked_and_rich_notes_keep_their_content(stand):
    locked = stand.remote.create("locked", "x", append_only=True)["id"]
    rich = stand.remote.create("rich", "x")["id"]
    stand.remote.make_rich(rich)
    assert patch(stand, locked, plain_body="y").code == "note_locked"
    assert patch(stand, locked, folder_id=None).status == 200
    assert patch(stand, rich, plain_body="y").code == "content_type_mismatch"
    assert stand.request("POST", f"/notes/{rich}/append", {"text": "y"}).code == "content_type_mismatch"
    stand.remote.unlock(locked)
    assert patch(stand, locked, plain_body="y").status == 200


def test_move(stand):
    folder = stand.remote.create_folder("F")["id"]
    note = stand.remote.create("n", append_only=True)["id"]
    for sent, result in ((folder, folder), (None, None), (str(folder), folder), ("", None)):
        reply = stand.request("POST", f"/notes/{note}/move", {"folder_id": sent})
        assert (reply.status, reply.json["folder_id"]) == (200, result) and set(reply.json) == FULL_NOTE
    assert stand.request("POST", f"/notes/{note}/move", {}).code == "validation_failed"
    assert stand.request("POST", f"/notes/{note}/move", {"folder_id": 9}).code == "not_found"
    assert stand.request("POST", f"/notes/{note}/move", {"note": {"folder_id": None}}).status == 422


def test_delete(stand):
    note = stand.remote.create("n")["id"]
    reply = stand.request("DELETE", f"/notes/{note}")
    assert (reply.status, reply.body) == (204, b"") and "content-length" not in reply.headers
    assert stand.request("DELETE", f"/notes/{note}").code == "not_found"
    assert [stone["filename"] for stone in stand.tombstones()] == ["n"]
    assert stand.history(note)[-1]["op"] == "delete"


# Appending

def append(stand, ref, text, **keys):
    path = f"/notes/{ref}/append" if isinstance(ref, int) else f"/notes/by-filename/{ref}/append"
    return stand.request("POST", path, {"text": text, **keys})


def test_append_creates_and_joins(stand):
    first = append(stand, "log.txt", "x" * 26)
    assert (first.status, first.json["created"], first.json["byte_size"]) == (201, True, 26)
    assert first.json["bytes_remaining"] == 3145702 and first.json["storage_cap"] == 16106127360
    assert set(first.json) == {"id", "filename", "created", "byte_size", "bytes_remaining", "storage_used",
                               "storage_cap", "updated_at"}
    second = append(stand, "log.txt", "y")
    assert (second.status, second.json["created"], second.json["byte_size"]) == (200, False, 28)
    assert stand.note("log.txt")["append_only"] is True
    assert stand.body("log.txt") == "x" * 26 + "\ny"
    assert "created" not in append(stand, first.json["id"], "z").json


def test_append_options_count_only_at_creation(stand):
    append(stand, "n", "a", append_only=False, client_encrypted=True)
    append(stand, "n", "b", append_only=True, client_encrypted=False)
    note = stand.note("n")
    assert (note["append_only"], note["client_encrypted"], note["body"]) == (False, True, "a\nb")
    assert append(stand, note["id"], "c", append_only=True).code == "validation_failed"


def test_append_refuses(stand):
    assert append(stand, 12345, "x").code == "not_found"
    for text in ("", None, 5, "a\0"):
        assert append(stand, "n", text).code == "validation_failed"
    assert stand.request("POST", "/notes/by-filename/n/append", {"note": {"text": "x"}}).status == 422
    assert append(stand, "%2F", "x").code == "validation_failed"
    assert stand.notes() == []


def test_append_to_an_empty_body_adds_no_newline(stand):
    stand.remote.create("n", "")
    append(stand, "n", "x")
    assert stand.body("n") == "x"


def test_append_clears_the_alert(stand):
    note = stand.remote.create("n", "x", append_only=True, alerted_at="2026-01-01T00:00:00Z")["id"]
    append(stand, note, "y")
    assert stand.note(note)["alerted_at"] is None and stand.note(note)["last_appended_at"]


# Listing

def filenames(reply):
    return [item["filename"] for item in reply.json["notes"]]


def test_list_items_and_order(stand):
    stand.remote.create("a", "x" * 500, at="2026-01-01T00:00:00Z")
    stand.remote.create("b", at="2026-01-02T00:00:00Z")
    stand.remote.patch("a", "y" * 500, at="2026-01-03T00:00:00Z")
    stand.remote.append("b", "z", at="2026-01-02T12:00:00Z")
    reply = stand.request("GET", "/notes")
    assert filenames(reply) == ["a", "b"] and set(reply.json["notes"][0]) == LIST_ITEM
    assert len(reply.json["notes"][0]["plain_body_excerpt"]) == 140
    assert filenames(stand.request("GET", "/notes?sort=created")) == ["b", "a"]
    assert filenames(stand.request("GET", "/notes?sort=appended")) == ["b", "a"]


def test_list_filters_compose(stand):
    folder = stand.remote.create_folder("F")["id"]
    for name, home in (("a", folder), ("b", None), ("c", folder)):
        stand.remote.create(name, folder=home)
    stand.remote.make_rich("c")
    assert filenames(stand.request("GET", f"/notes?folder_id={folder}")) == ["c", "a"]
    assert filenames(stand.request("GET", f"/notes?folder_id={folder}&format=plain")) == ["a"]
    for root in ("none", "root", "null"):
        assert filenames(stand.request("GET", f"/notes?folder_id={root}")) == ["b"]
    assert filenames(stand.request("GET", "/notes?folder_id=999")) == []
    stand.remote.delete_folder("F")
    assert set(filenames(stand.request("GET", "/notes?folder_id=none"))) == {"a", "b", "c"}


def test_pages(stand):
    stand.seed(450)
    assert len(filenames(stand.request("GET", "/notes"))) == 50
    assert len(filenames(stand.request("GET", "/notes?limit=1000"))) == 200
    pages = [filenames(stand.request("GET", f"/notes?limit=200&offset={o}&sort=created"))
             for o in (0, 200, 400, 600)]
    assert [len(page) for page in pages] == [200, 200, 50, 0]
    assert len({name for page in pages for name in page}) == 450
    for query in ("limit=0", "limit=x", "offset=-1", "sort=size", "format=html", "page=2"):
        assert stand.request("GET", f"/notes?{query}").code == "validation_failed"


def test_views_stay_true_under_every_change(stand):
    """The incremental index against a fresh sort, after a few hundred random changes."""
    import random

    rng = random.Random(7)
    stand.seed(60, folders=2)
    homes = [None] + [folder["id"] for folder in stand.folders()]
    queries = [f"sort={s}{f}" for s in ("created", "updated", "appended")
               for f in ("", "&folder_id=none", f"&folder_id={homes[1]}", "&format=rich")]
    for query in queries:
        stand.request("GET", f"/notes?{query}")
    for step in range(200):
        note = rng.choice(stand.notes())["id"]
        change = rng.randrange(6)
        if change == 0:
            stand.remote.patch(note, f"body {step}")
        elif change == 1:
            stand.remote.append(note, "more")
        elif change == 2:
            stand.remote.move(note, rng.choice(homes))
        elif change == 3 and len(stand.notes()) > 20:
            stand.remote.delete(note)
        elif change == 4:
            stand.remote.make_rich(note)
        else:
            stand.remote.create(f"new {step}")
    notes = stand.notes()
    for query in queries:
        words = dict(pair.split("=") for pair in query.split("&"))
        time = {"created": "created_at", "updated": "updated_at", "appended": "last_appended_at"}[words["sort"]]
        chosen = [n for n in notes if words.get("format", n["format"]) == n["format"]
                  and words.get("folder_id", str(n["folder_id"] or "none")) == str(n["folder_id"] or "none")]
        chosen.sort(key=lambda n: (n[time] or 0, n["id"]), reverse=True)
        got = [i["id"] for i in stand.request("GET", f"/notes?limit=200&{query}").json["notes"]]
        assert got == [n["id"] for n in chosen], query


# Bulk

def bulk(stand, *rows):
    return stand.request("POST", "/notes/bulk", {"notes": list(rows)})


def test_bulk_creates_all(stand):
    folder = stand.remote.create_folder("F")["id"]
    reply = bulk(stand, {"title": "a", "plain_body": "x", "folder_id": folder}, {"title": "b"})
    assert reply.status == 201
    assert [(n["filename"], n["folder_id"]) for n in reply.json["created"]] == [("a", folder), ("b", None)]
    assert set(reply.json["created"][0]) == FULL_NOTE


@pytest.mark.parametrize("rows, failed, code", [
    ([{"title": "a"}, {"title": "b", "folder_id": 9999}, {"title": ""}], [1], "validation_failed"),
    ([{"title": "a"}, {"title": "a"}, {"title": ""}], [1, 2], "validation_failed"),
    ([{"title": "a"}, {"title": "r", "format": "rich"}], [1], "content_type_mismatch"),
    ([{"title": "a"}, {"title": "big", "plain_body": "x" * 3145729}], [1], "content_too_large"),
    ([{"title": "a"}, 5], [1], "validation_failed"),
])
def test_bulk_is_all_or_nothing(stand, rows, failed, code):
    reply = bulk(stand, *rows)
    assert reply.code == code and reply.json["error"]["failed"] == failed
    dump = stand.dump()["accounts"][0]
    assert dump["notes"] == [] and dump["used_bytes"] == 0 and dump["tombstones"] == []


def test_bulk_size(stand):
    assert bulk(stand).code == "validation_failed"
    assert bulk(stand, *({"title": str(n)} for n in range(51))).code == "validation_failed"
    assert bulk(stand, *({"title": str(n)} for n in range(50))).status == 201
    assert stand.request("POST", "/notes/bulk", {"note": {"title": "a"}}).code == "validation_failed"
    assert stand.request("POST", "/notes/bulk", [{"title": "a"}]).code == "validation_failed"


# Folders

def test_folders(stand):
    reply = stand.request("POST", "/folders", {"folder": {"name": "beta"}})
    assert reply.status == 201 and set(reply.json) == {"id", "name", "created_at", "updated_at"}
    folder = reply.json["id"]
    stand.request("POST", "/folders", {"folder": {"name": "Alpha"}})
    assert [f["name"] for f in stand.request("GET", "/folders").json["folders"]] == ["Alpha", "beta"]
    assert stand.request("GET", f"/folders/{folder}").json == reply.json
    renamed = stand.request("PATCH", f"/folders/{folder}", {"folder": {"name": "BETA"}})
    assert (renamed.status, renamed.json["name"]) == (200, "BETA")
    assert stand.request("DELETE", f"/folders/{folder}").status == 204
    for method, value in (("GET", None), ("PATCH", {"folder": {"name": "x"}}), ("DELETE", None)):
        assert stand.request(method, f"/folders/{folder}", value).code == "not_found"


@pytest.mark.parametrize("value", [
    {"name": "x"}, {"folder": {}}, {"folder": {"name": ""}}, {"folder": {"name": " "}}, {"folder": "x"},
    {"folder": {"name": "x" * 81}}, {"folder": {"name": 5}}, {"folder": {"name": "TAKEN"}},
    {"folder": {"name": "x", "parent": 1}},
])
def test_folder_names_refused(stand, value):
    stand.remote.create_folder("taken")
    other = stand.remote.create_folder("other")["id"]
    assert stand.request("POST", "/folders", value).code == "validation_failed"
    assert stand.request("PATCH", f"/folders/{other}", value).code == "validation_failed"


def test_deleting_a_folder_keeps_its_notes_and_their_times(stand):
    folder = stand.remote.create_folder("F")["id"]
    before = stand.remote.create("n", folder="F", at="2026-01-01T00:00:00Z")
    stand.request("DELETE", f"/folders/{folder}")
    after = stand.note("n")
    assert after["folder_id"] is None and after["updated_at"] == before["updated_at"]


# Caps

def test_caps(stand):
    stand.account(plain_notes=2, storage_bytes=100, note_bytes=60, folders=1)
    assert create(stand, "a", "x" * 61).code == "content_too_large"
    assert create(stand, "a", "x" * 60).status == 201
    assert create(stand, "b", "x" * 41).code == "storage_cap_exceeded"
    assert create(stand, "b", "x" * 40).status == 201
    reply = create(stand, "c", "")
    assert (reply.status, reply.code) == (422, "cap_exceeded")
    assert append(stand, "a", "y").status == 413
    assert append(stand, "b", "y").code == "storage_cap_exceeded"
    assert append(stand, "new", "y").code == "cap_exceeded"
    assert patch(stand, "b", plain_body="y").status == 200
    assert bulk(stand, {"title": "d"}).code == "cap_exceeded"
    stand.remote.create_folder("F")
    reply = stand.request("POST", "/folders", {"folder": {"name": "G"}})
    assert (reply.status, reply.code) == (413, "cap_exceeded")
    assert reply.json["error"]["message"] == "folder limit of 1 reached"


def test_the_cap_of_a_note_is_3_mib(stand):
    assert create(stand, "a", "x" * 3145728).status == 201
    assert create(stand, "b", "x" * 3145729).code == "content_too_large"


def test_teams_have_no_encrypted_notes(stand):
    stand.open_account("team", "team")
    secret = stand.mint("team", "team")
    reply = stand.request("POST", "/notes", {"note": {"title": "e", "client_encrypted": True}}, token=secret)
    assert reply.code == "validation_failed"
    assert create(stand, "e", "fj1:x", client_encrypted=True).json["client_encrypted"] is True


# Anything

def test_nothing_that_a_client_sends_is_an_internal_error(stand):
    import random

    rng = random.Random(11)
    folder = stand.remote.create_folder("F")["id"]
    notes = [stand.remote.create("a", "x")["id"], stand.remote.create("b", "y", append_only=True)["id"]]
    values = [None, True, 0, -1, folder, 10**30, 1.5, "", "a", "\0", "x" * 300, "é\u2028", [], [1], {}, {"a": 1}]
    keys = ["title", "plain_body", "format", "folder_id", "append_only", "client_encrypted", "text", "name",
            "append_deadline_hours", "alert_email", "webhook_url", "webhook_secret", "webhook_format", "id"]
    ids = [str(notes[0]), str(notes[1]), "0", "9" * 30, "by-filename/a", "by-filename/%00", "by-filename/.", "%2f"]
    paths = ["/notes", "/notes/bulk", "/folders", f"/folders/{folder}", "/notes?limit=" + "9" * 30,
             "/notes?folder_id=%00&sort=%ff", "/%ff", "//", *(f"/notes/{i}{t}" for i in ids for t in ("", "/append", "/move"))]
    stand.switch(unknown_keys="ignored", bad_query="default")
    for _ in range(1500):
        inner = {key: rng.choice(values) for key in rng.sample(keys, rng.randrange(5))}
        value = rng.choice([inner, {"note": inner}, {"folder": inner}, {"notes": [inner, rng.choice(values)]},
                            rng.choice(values)])
        reply = stand.request(rng.choice(["GET", "POST", "PATCH", "DELETE", "HEAD"]), rng.choice(paths), value)
        assert reply.status < 500, (reply.json, stand.log()[-1])
