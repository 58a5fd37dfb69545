"""Sample content: a pleasant account for `make demo`, and big generated ones for benches.

`tests/demo` counts on some of these notes by name, and on `deploy-log` being free.
"""

from __future__ import annotations

import random

from .account import Account
from .clock import SECOND
from .world import World

_DAY = 24 * 3600 * SECOND

_FOLDERS = ("ai_sessions", "Garden", "Kitchen", "Work")

# (folder, title, append-only, days ago, body)
_NOTES = [
    (None, "Welcome.txt", False, 40, """\
Welcome to Fresh Jots.

Every note is a file here, every folder a directory. Edit with what you
like, append with >>, move with mv: it all ends up in your account."""),
    (None, "todo.txt", False, 0, """\
[x] renew library card
[x] send Mira the train times
[ ] descale the kettle
[ ] book a table for the 14th
[ ] back up the photos from the coast"""),
    (None, "reading list.md", False, 9, """\
# Reading list

- The Peregrine, J. A. Baker
- A Philosophy of Software Design, J. Ousterhout
- Piranesi, Susanna Clarke (lent to Jonas)
- The Periodic Table, Primo Levi

## Finished

- The Left Hand of Darkness, Ursula K. Le Guin"""),
    (None, "Übersetzungen – café, naïve, 日本語.txt", False, 21, """\
Wörter, die ich nachschlagen wollte:

Fernweh     longing for far places
日向ぼっこ    basking in the sun
dépaysement the feeling of not being at home"""),
    (None, "backup.log", True, 0, """\
2026-03-01T02:00:07Z backup started: 3 sources
2026-03-01T02:04:51Z photos: 412 new files, 3.1 GiB
2026-03-01T02:05:10Z documents: 9 new files, 4.2 MiB
2026-03-01T02:05:12Z backup ok in 5m05s
2026-03-02T02:00:06Z backup started: 3 sources
2026-03-02T02:00:44Z photos: nothing new
2026-03-02T02:00:45Z backup ok in 39s"""),
    ("Kitchen", "sourdough.md", False, 30, """\
# Sourdough, the Sunday loaf

- 450 g bread flour, 50 g rye
- 360 g water, 100 g starter, 10 g salt

Mix at 9, four folds every half hour, shape at 14:00,
overnight in the fridge. 250 °C, 20 min lid on, 25 min off."""),
    ("Kitchen", "lentil soup.md", False, 16, """\
# Lentil soup

Two onions, three carrots, a stick of celery: sweat for ten minutes.
300 g brown lentils, 1.5 l stock, bay leaf. Forty minutes.
A spoon of vinegar at the end, not before."""),
    ("Kitchen", "shopping.txt", False, 1, """\
oat milk
rye flour
lemons (6)
coffee, the washed Ethiopian one"""),
    ("Garden", "sowing calendar.md", False, 50, """\
| month | sow                     | where       |
|-------|-------------------------|-------------|
| Feb   | chillies, aubergines    | window sill |
| Mar   | tomatoes, leeks         | window sill |
| Apr   | peas, carrots, radishes | outside     |
| May   | beans, courgettes       | outside     |"""),
    ("Garden", "rain.log", True, 2, """\
2026-02-24 4.5 mm
2026-02-25 0.0 mm
2026-02-26 11.2 mm
2026-02-27 2.0 mm"""),
    ("Work", "standup 2026-03-02.md", False, 1, """\
## Yesterday
- importer: retry on 429 with jitter, merged
- review of the search branch

## Today
- load test of the importer
- one-to-one with Priya at 15:00

## Blocked
- nothing"""),
    ("Work", "releases.log", True, 1, """\
deploy ok sha=4be19c2 env=staging 41s
deploy ok sha=4be19c2 env=production 58s
deploy failed sha=90ff1aa env=staging migrations timed out
deploy ok sha=77d02e5 env=staging 44s"""),
    ("Work", "incident 2026-02-19.md", False, 12, """\
# Incident 2026-02-19: slow checkout

- 09:12 alert: p99 of checkout above 4 s
- 09:20 cause found: missing index after the migration of the 18th
- 09:31 index built, p99 back to 300 ms

Follow-up: migrations run against a copy of production first."""),
    ("ai_sessions", "2026-03-01 importer design.md", True, 2, """\
── 2026-03-01 10:02 UTC ──
Compared queue per tenant with one queue and fair picking.
── 2026-03-01 10:41 UTC ──
Decision: one queue, fair picking, at most four in flight per tenant."""),
]

_OPENINGS = ("Notes on", "Draft:", "Ideas for", "Minutes,", "Log of", "Plan for", "Questions about")
_SUBJECTS = ("the north wall", "release trains", "bread", "the budget", "night buses", "cold frames",
             "onboarding", "the reading group", "bicycle repair", "caching", "the harvest", "invoices")
_WORDS = ("again asked before careful closer daily deeper early enough evening first garden gentle harbour "
          "keep later letter light little longer makes morning never north often open paper plain quiet "
          "rather river second seven simple slowly small softly spring still table think under water "
          "while window winter without wonder written").split()


def pleasant(world: World, account: Account) -> None:
    """The account of the demo, dated back from now."""
    now = world.clock.now_us()
    folders = {name: account.new_folder(name, now - 60 * _DAY) for name in _FOLDERS}
    for number, (folder, title, locked, days, body) in enumerate(_NOTES):
        at = now - days * _DAY - number * 1700 * SECOND
        account.new_note(at, title, title, body, append_only=locked,
                         folder_id=folders[folder].id if folder else None,
                         last_appended_at=at if locked else None)


def many(world: World, account: Account, count: int, body_bytes: int = 400, folders: int = 0,
         seed: int = 1) -> None:
    """`count` generated notes, a minute apart, in the root or spread over `folders` folders. Caps are
    raised where the account's would be in the way."""
    rng = random.Random(seed)
    now = world.clock.now_us()
    start = len(account.notes)
    account.caps.plain_notes = max(account.caps.plain_notes, start + count)
    homes = [None] + [account.new_folder(f"Folder {n + 1}", now).id for n in range(folders)]
    filler = " ".join(rng.choice(_WORDS) for _ in range(body_bytes // 3 + 8))
    for number in range(start, start + count):
        title = f"{rng.choice(_OPENINGS)} {rng.choice(_SUBJECTS)} {number:05}.txt"
        at = now - (start + count - number) * 60 * SECOND
        offset = rng.randrange(64)
        account.new_note(at, title, title, filler[offset:offset + body_bytes],
                         folder_id=homes[number % len(homes)])
