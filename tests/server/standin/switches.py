"""Every point that API.md leaves open, as a switch.

The table below is the documentation and the data: it is parsed at start, printed by `--list-switches`,
and nothing else defines a switch. Where public material calls one possibility likely, it is the default;
where it is silent, the default is the one that a careless client trips over.

Columns: name | API.md point | values | default | meaning.
Values are words, `int LOW..HIGH`, or `some-of WORD WORD ...` (a comma-separated subset, or `none`).

append_separator   | C1  | always missing                       | always    | newline between a non-empty body and new text: always (H1), or only when the body lacks one (H2)
append_chomp       | C1  | none newline newlines blanks         | none      | what is cut from the end of appended text: nothing, one newline, all newlines, all white space
append_empty       | ref | refused ignored accepted             | refused   | empty text: 422, 200 without a change, or appended (a separator appears)
append_interleaves | C2  | no yes                               | no        | text is appended in two halves, 20 ms apart, between which others may append
append_codes       | C29 | split 200 201 202 204                | split     | status of append: 201 if it created else 200, or always that one (204 has no body)
append_created_key | ref | by_filename both                     | by_filename | which form's receipt has `created`
receipt_fields     | ref | union sample client                  | union     | receipt keys: all, the documented sample (no id), or only what the vendor's client reads
first_touch        | C15 | locked editable                      | locked    | `append_only` of a note that an append without that key creates
create_code        | C29 | 201 200 202 204                      | 201       | status of POST /notes (204 has no body)
update_code        | C18 | 200 204                              | 200       | status of PATCH and move of a note (204 has no body)
filename_rule      | C11 | sanitised slug                       | sanitised | filename from a title: the documented rule, or parameterised ("Q2 Plan" is q2-plan)
filename_backslash | C11 | kept removed                         | kept      | whether `slashes` in the filename rule means the backslash too
filename_case      | C13 | sensitive insensitive folded         | sensitive | clashes by case: only equal names; case twins clash; they clash and look-ups ignore case too
title_blank        | ref | refused auto                         | refused   | blank title at create: 422, or an automatic name
title_patch        | C12 | renames keeps                        | renames   | whether a changed title changes the filename
title_only_patch   | C12 | refused accepted                     | refused   | PATCH of a title without plain_body
empty_create       | C14 | accepted refused                     | accepted  | empty or missing plain_body at create
empty_patch        | C14 | refused accepted                     | refused   | PATCH to an empty plain_body
settings_at_create | ref | refused ignored accepted             | refused   | deadline and webhook keys in POST /notes
locked_delete      | C16 | allowed refused                      | allowed   | DELETE of an append-only note
locked_mixed_patch | ref | refused settings                     | refused   | content and settings in one PATCH of a locked note: all refused, or settings kept and content dropped
unknown_keys       | ref | refused ignored                      | refused   | keys and query parameters that API.md does not name
malformed_json     | ref | 400 422                              | 400       | status for a body that is not JSON
bad_query          | ref | refused default                      | refused   | nonsense in sort, format, limit, offset: 422, or as if absent
list_fields        | C5  | full minimal wide                    | full      | list items: all likely fields; id filename title format last_appended_at; also settings and flags
list_omits         | C5  | some-of updated_at created_at append_only folder_id plain_body_excerpt byte_size | none | fields left out of list items
list_page_cap      | C7  | int 1..200                           | 200       | page size above which limit is silently lowered
list_limit         | C7  | honoured ignored                     | honoured  | ignored: every page has 50
list_ties          | C7  | precise id_asc id_desc random        | precise   | order of equal times: hidden microseconds decide, id, or anew at each request
list_nulls         | ref | last first                           | last      | never-appended notes under sort=appended
excerpt_length     | ref | int 0..1000                          | 140       | characters of plain_body_excerpt
etag               | C9  | on off                               | on        | weak ETag and 304 on GET
not_modified_costs | C9  | yes no                               | yes       | whether a 304 uses up a read
body_newlines      | C21 | kept normalised                      | kept      | CRLF and CR in bodies
body_trailing      | C21 | kept newline blanks                  | kept      | cut from the end of a stored body: nothing, one newline, all white space
body_controls      | C21 | kept stripped                        | kept      | control characters other than tab, CR, LF in bodies
body_nul           | C21 | refused stripped kept                | refused   | NUL in bodies
body_unicode       | C21 | kept nfc                             | kept      | normalisation of bodies
encrypted_check    | ref | no yes                               | no        | bodies of client_encrypted notes must start with fj1:
rich_body          | C22 | projection empty null                | projection | plain_body of rich notes
rich_size          | C6  | projection html                      | projection | byte_size of rich notes
ids                | C28 | number string                        | number    | JSON type of ids (strings are then accepted in requests too)
timestamps         | C27 | seconds fraction offset              | seconds   | 12:00:00Z, 12:00:00.123Z, or 14:00:00+02:00
nulls              | C27 | shown omitted                        | shown     | null fields
extra_keys         | C28 | no yes                               | no        | keys that no document names, in every object
move_bumps         | C8  | yes no                               | yes       | updated_at on a change of folder
settings_bump      | C8  | yes no                               | yes       | updated_at on a change of settings
same_patch_bumps   | C8  | no yes                               | no        | updated_at on a PATCH that changes nothing
folder_delete_bumps | C8 | no yes                               | no        | updated_at of the notes of a deleted folder
folder_cap_code    | C19 | 413 422                              | 413       | status of cap_exceeded for folders
single_note_list   | C24 | forbidden one                        | forbidden | GET /notes with a single-note token
single_note_patch  | C24 | forbidden allowed                    | forbidden | PATCH, move and DELETE of its note with a single-note token
bulk               | ref | enabled forbidden                    | enabled   | whether the plan has bulk
bulk_failed        | C30 | indexes objects rows details         | indexes   | shape of `failed`: [1], [{index,errors}], {"1":[errors]}, or only details
rate_window        | C20 | fixed sliding                        | fixed     | how requests are counted
rate_headers       | C20 | success all none                     | success   | which replies other than 429 carry X-RateLimit-Limit and -Remaining
rate_reset         | C20 | epoch seconds absent                 | epoch     | X-RateLimit-Reset on 429
retry_after        | C20 | seconds http_date absent             | seconds   | Retry-After on 429
append_class       | C20 | append write                         | append    | class of /append
move_class         | C20 | write append read                    | write     | class of /move
folder_class       | C20 | write append read                    | write     | class of folder writes
bulk_cost          | C20 | one rows                             | one       | what a bulk call uses up
key_scope          | C4  | token account global                 | token     | who shares Idempotency-Keys
key_fingerprint    | C4  | method_path_body body                | method_path_body | what must be equal for a replay
key_errors         | C4  | final none all                       | final     | stored errors: 4xx but 401 and 429; none; all, so that a 429 or 503 is replayed for 24 h
key_running        | C4  | wait conflict unavailable            | wait      | a second request while the first is running: waits for its reply, 409, or 503
key_illegal        | C4  | 422 400 ignored                      | 422       | keys outside 8..255 characters
key_replay_costs   | C4  | yes no                               | yes       | whether a replay uses up the rate limit
dot_paths          | C25 | normalised kept                      | normalised | `.` and `..` (also %2e) in paths
gzip               | ref | off on                               | off       | Content-Encoding: gzip for those who accept it
framing            | ref | length chunked                       | length    | how reply bodies are delimited
keepalive_requests | ref | int 1..1000000                       | 100000    | requests on one connection before the server closes it
keepalive_idle_s   | ref | int 1..3600                          | 75        | idle seconds before the server closes a connection
max_request_bytes  | ref | int 1000..1000000000                 | 67108864  | request bodies above get a bare HTML 413 from the proxy in front
latency_ms         | -   | int 0..600000                        | 0         | delay before each request is looked at
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Switch:
    name: str
    point: str
    values: tuple[str, ...]
    default: str
    meaning: str

    def parse(self, value: object) -> str | int | frozenset[str]:
        """The value as the code reads it; ValueError when it is not one of the documented ones."""
        text = str(value)
        if self.values[0] == "int":
            low, high = map(int, self.values[1].split(".."))
            if low <= int(text) <= high:
                return int(text)
        elif self.values[0] == "some-of":
            chosen = frozenset() if text in ("none", "") else frozenset(text.split(","))
            if chosen <= set(self.values[1:]):
                return chosen
        elif text in self.values:
            return text
        raise ValueError(f"switch {self.name}: {text!r} is not one of: {' '.join(self.values)}")


def _parse_table(text: str) -> dict[str, Switch]:
    rows = [[cell.strip() for cell in line.split("|", 4)] for line in text.splitlines()
            if line.count("|") >= 4]
    return {name: Switch(name, point, tuple(values.split()), default, meaning)
            for name, point, values, default, meaning in rows if " " not in name}


TABLE = _parse_table(__doc__.split("Columns:")[1].split("\n", 1)[1])


class Switches(dict):
    """Current values by name. Reading an undeclared name is a KeyError, setting one a ValueError."""

    def __init__(self) -> None:
        super().__init__()
        self.reset()

    def reset(self) -> None:
        for switch in TABLE.values():
            self[switch.name] = switch.parse(switch.default)

    def change(self, values: dict[str, object]) -> None:
        """Set all of `values` or, when one is not documented, none."""
        parsed = {}
        for name, value in values.items():
            if name not in TABLE:
                raise ValueError(f"no switch named {name}")
            parsed[name] = TABLE[name].parse(value)
        self.update(parsed)

    def as_json(self) -> dict[str, str | int]:
        return {name: (",".join(sorted(value)) or "none") if isinstance(value, frozenset) else value
                for name, value in self.items()}


def listing() -> str:
    """The table for `--list-switches`."""
    return "\n".join(f"{s.name:20} {s.point:4} default {s.default:17} {' | '.join(s.values)}\n"
                     f"{'':25} {s.meaning}" for s in TABLE.values())
