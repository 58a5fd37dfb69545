"""The vendor's own npm client, library and command line, against the stand-in.

It is installed into a temporary directory and told our base URL by a few lines of glue: the library takes
one, the command line only through the hooks that its `run` has for tests.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

GLUE = """
import { Client, ApiError, encrypt, decrypt } from "./node_modules/freshjots/index.js";
import { run } from "./node_modules/freshjots/cli.js";

const [baseUrl, token, mode, ...rest] = process.argv.slice(2);
const client = new Client({ token, baseUrl });
if (mode === "cli") {
  process.exitCode = await run(rest, { clientFactory: () => client });
} else {
  const results = [];
  for (const [method, ...args] of JSON.parse(rest[0])) {
    try {
      results.push(await client[method](...args));
    } catch (e) {
      if (!(e instanceof ApiError)) throw e;
      results.push({ failed: e.code, status: e.status, details: e.details });
    }
  }
  console.log(JSON.stringify(results));
}
"""


@pytest.fixture(scope="session")
def vendor(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the client and the glue."""
    if not shutil.which("npm") or not shutil.which("node"):
        pytest.skip("npm and node are not installed: the vendor's client was not tried")
    home = tmp_path_factory.mktemp("vendor")
    (home / "package.json").write_text("{}")
    (home / "glue.mjs").write_text(GLUE)
    try:
        install = subprocess.run(["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts",
                                  "--fetch-retries=0", "--fetch-timeout=10000", "freshjots@2"],
                                 cwd=home, capture_output=True, text=True, timeout=60)
    except subprocess.TimeoutExpired:
        pytest.skip("npm install freshjots took over a minute: the vendor's client was not tried")
    if install.returncode != 0:
        pytest.skip(f"npm can't install freshjots here: {install.stderr.strip().splitlines()[-1:]}")
    return home


@pytest.fixture
def library(stand, vendor: Path) -> Callable[..., list[Any]]:
    """Runs calls of the library, `[method, args...]` each; their results."""
    def call(*calls: list[Any]) -> list[Any]:
        done = subprocess.run(["node", "glue.mjs", stand.api, stand.token, "library", json.dumps(calls)],
                              cwd=vendor, capture_output=True, text=True, timeout=30)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)
    return call


@pytest.fixture
def cli(stand, vendor: Path) -> Callable[..., str]:
    """Runs one command line; its output."""
    def run(*arguments: str, stdin: str = "", status: int = 0) -> str:
        environment = {"PATH": "/usr/bin:/bin:" + str(Path(shutil.which("node")).parent),
                       "FRESHJOTS_TOKEN": stand.token, "FRESHJOTS_PASSPHRASE": "test-passphrase-123"}
        done = subprocess.run(["node", "glue.mjs", stand.api, stand.token, "cli", *arguments], cwd=vendor,
                              env=environment, input=stdin, capture_output=True, text=True, timeout=30)
        assert done.returncode == status, done.stderr
        return done.stdout if status == 0 else done.stderr
    return run


def test_library_notes(stand, library):
    created, empty, receipt, second, by_name, listed = library(
        ["create", {"title": "Deploy log.md", "body": "<ok> & ✔"}], ["create", {"title": "Empty"}],
        ["append", "cron-jobs-prod", "backup ok"], ["append", "cron-jobs-prod", "again"],
        ["note", "Deploy log.md"], ["notes", {"sort": "created", "limit": 2}])
    assert created == by_name and created["plain_body"] == "<ok> & ✔"
    assert empty["plain_body"] == ""
    assert receipt["created"] is True and second["created"] is False and second["id"] == receipt["id"]
    assert [item["filename"] for item in listed] == ["cron-jobs-prod", "Empty"]
    updated, put, gone, again, missing = library(
        ["update", created["id"], {"title": "Deploy.md", "plain_body": "new"}],
        ["set", "cron-jobs-prod", {"append_deadline_hours": 2, "webhook_url": "https://h.example/x"}],
        ["remove", created["id"]], ["remove", receipt["id"]], ["noteById", created["id"]])
    assert updated["filename"] == "Deploy.md" and put["append_deadline_hours"] == 2
    assert gone is True and again is True
    assert missing["failed"] == "not_found" and missing["status"] == 404


def test_library_folders_and_bulk(stand, library):
    folder, twin = library(["createFolder", "Logs"], ["createFolder", "LOGS"])
    assert folder["name"] == "Logs" and twin["failed"] == "validation_failed"
    bulk, bad, names, one, renamed = library(
        ["bulk", [{"title": "a", "plain_body": "x", "folder_id": folder["id"]}, {"title": "b"}]],
        ["bulk", [{"title": "c"}, {"title": "d", "folder_id": 9999}]],
        ["folders"], ["folder", folder["id"]], ["renameFolder", folder["id"], "Journals"])
    assert [note["folder_id"] for note in bulk["created"]] == [folder["id"], None]
    assert bad["failed"] == "validation_failed" and names == [one] and renamed["name"] == "Journals"
    moved, root, listed, deleted = library(
        ["move", bulk["created"][1]["id"], folder["id"]], ["move", bulk["created"][0]["id"], None],
        ["notes", {"folderId": folder["id"]}], ["deleteFolder", folder["id"]])
    assert moved["folder_id"] == folder["id"] and root["folder_id"] is None
    assert [item["filename"] for item in listed] == ["b"] and deleted is True
    assert stand.note("b")["folder_id"] is None


def test_library_errors(stand, library):
    stand.remote.create("locked", append_only=True)
    locked, title_only, unlisted = library(
        ["set", "locked", {"plain_body": "x"}], ["set", "locked", {"title": "x"}], ["note", "none"])
    assert (locked["failed"], title_only["failed"], unlisted["failed"]) == ("note_locked", "note_locked", "not_found")
    stand.revoke()
    assert library(["notes"]) == [{"failed": "unauthenticated", "status": 401}]


def test_command_line_notes(stand, cli):
    assert cli("create", "Todo.txt", "--body", "milk").startswith("created #")
    assert cli("append", "log.txt", stdin="first\n").startswith("created #")
    assert "bytes remaining" in cli("append", "log.txt", "second")
    assert cli("cat", "log.txt") == "first\n\nsecond"
    note = stand.note("Todo.txt")["id"]
    assert json.loads(cli("get", str(note)))["plain_body"] == "milk"
    assert cli("cat", str(note)) == "milk"
    assert sorted(line.split("\t")[1] for line in cli("ls").splitlines()) == ["Todo.txt", "log.txt"]
    assert "\tL\t-\tlog.txt\t" in cli("ls", "-l", "--sort", "appended")
    cli("update", str(note), "--title", "Done.txt", "--body", "bread")
    assert cli("set", "Done.txt", "-", stdin="jam") == "updated Done.txt\n"
    assert stand.body("Done.txt") == "jam"
    cli("set", "log.txt", "--deadline", "24", "--alert-email", "a@example.com")
    assert "note_locked" in cli("set", "log.txt", "--body", "x", status=1)
    assert cli("rm", "Done.txt") == f"deleted #{note}\n"
    cli("rm", "log.txt")
    assert stand.notes() == []


def test_command_line_folders_and_bulk(stand, cli):
    cli("folder", "create", "Logs")
    folder = stand.folders()[0]["id"]
    assert cli("folders") == f"{folder}\tLogs\n"
    assert json.loads(cli("folder", str(folder)))["name"] == "Logs"
    rows = [{"title": f"n{n}", "plain_body": "x"} for n in range(50)]
    assert cli("bulk", stdin=json.dumps(rows)) == "created 50 notes\n"
    cli("mv", "n1", "Logs")
    cli("mv", "n2", str(folder))
    assert len(cli("ls", "--folder", "Logs").splitlines()) == 2
    cli("mv", "n1", "--root")
    assert len(cli("ls", "--root", "--all").splitlines()) == 49
    cli("folder", "rename", str(folder), "Journals")
    cli("folder", "rm", str(folder))
    assert stand.folders() == [] and len(stand.notes()) == 50


def test_command_line_encryption(stand, cli):
    cli("create", "secret", "--encrypt", "--body", "the word")
    assert stand.note("secret")["client_encrypted"] and stand.body("secret").startswith("fj1:")
    assert cli("cat", "secret", "--decrypt") == "the word"
    for line in ("one", "two"):
        cli("append", "stream", line, "--encrypt")
    assert cli("cat", "stream", "--decrypt") == "one\ntwo"


def test_paging_through_a_large_account(stand, cli):
    stand.seed(450)
    assert len(cli("ls", "--all").splitlines()) == 450
    assert len(cli("ls").splitlines()) == 50
