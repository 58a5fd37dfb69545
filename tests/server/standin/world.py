"""The world: everything that the stand-in consists of, and the one lock over it.

`lock` guards accounts, tokens, limits and idempotency records. It is never held while a request waits for
anything (faults, running keys, the network); the log and the faults have small locks of their own, which
are taken after it or without it.
"""

from __future__ import annotations

import threading
from typing import Any

from .account import Account, Sequence
from .clock import Clock
from .faults import Faults
from .idempotency import IdempotencyKeys
from .limits import Limits
from .reqlog import RequestLog
from .scopes import Token, Tokens, new_secret
from .switches import Switches

MAIN = "main"
FIRST_NOTE_ID = 101
FIRST_FOLDER_ID = 11


class World:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.clock = Clock()
        self.switches = Switches()
        self.accounts: dict[str, Account] = {}
        self.tokens = Tokens()
        self.limits = Limits(self.switches)
        self.keys = IdempotencyKeys(self.switches)
        self.faults = Faults()
        self.log = RequestLog()
        self.note_ids = Sequence(FIRST_NOTE_ID)
        self.folder_ids = Sequence(FIRST_FOLDER_ID)
        self.black_hole = False
        self._tier = "dev"
        self._secret = new_secret()

    def begin(self, tier: str, secret: str | None) -> None:
        """Open the main account with its token."""
        self._tier = tier
        self._secret = secret or self._secret
        self.open_account(MAIN, tier)
        self.mint(MAIN, secret=self._secret)

    def begin_anew(self) -> None:
        """As freshly started, with the same main token; log numbers go on growing, and requests that hang
        are let go."""
        self.accounts.clear()
        self.note_ids.next, self.folder_ids.next = FIRST_NOTE_ID, FIRST_FOLDER_ID
        self.tokens = Tokens()
        self.clock.reset()
        self.switches.reset()
        self.limits.reset()
        self.keys.forget()
        self.faults.remove()
        self.faults.release()
        self.log.clear()
        self.begin(self._tier, self._secret)

    def open_account(self, name: str, tier: str = "dev") -> Account:
        if name in self.accounts:
            raise ValueError(f"account {name} exists")
        if tier not in ("dev", "team"):
            raise ValueError(f"no tier named {tier}")
        account = Account(name, tier, self.switches, self.note_ids, self.folder_ids)
        self.accounts[name] = account
        return account

    def mint(self, name: str, account: str = MAIN, secret: str | None = None, **grants: Any) -> Token:
        if account not in self.accounts:
            raise ValueError(f"no account named {account}")
        return self.tokens.mint(Token(name, secret or new_secret(), account, **grants))

    def change_switches(self, values: dict[str, object]) -> None:
        self.switches.change(values)
        if "rich_size" in values:
            for account in self.accounts.values():
                for note in account.notes.values():
                    account.change(note, format=note.format)

    # State

    def as_json(self, bodies: bool = True) -> dict[str, Any]:
        return {
            "accounts": [account.as_json(bodies) for account in self.accounts.values()],
            "tokens": self.tokens.as_json(),
            "switches": self.switches.as_json(),
            "next_note_id": self.note_ids.next,
            "next_folder_id": self.folder_ids.next,
        }

    def load(self, dump: dict[str, Any]) -> None:
        """Replace accounts, tokens, switches, ids and Idempotency-Keys with those of a dump."""
        self.switches.reset()
        self.switches.change(dump["switches"])
        self.note_ids.next = dump["next_note_id"]
        self.folder_ids.next = dump["next_folder_id"]
        self.accounts.clear()
        for row in dump["accounts"]:
            self.open_account(row["name"], row["tier"]).load(row)
        self.tokens = Tokens()
        for row in dump["tokens"]:
            self.tokens.mint(Token(**row))
        self.keys.load(dump.get("keys", []))
