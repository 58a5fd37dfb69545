"""Start the stand-in service: `python3 -m standin` or `python3 tests/server/standin`.

Prints one line of JSON when it is ready, `{"api": URL, "control": URL, "token": "mn_..."}`, and runs until
SIGTERM or SIGINT.
"""

from __future__ import annotations

import sys

if not __package__:
    # Started as a directory: import ourselves as a package, and let nothing in here shadow the library.
    from pathlib import Path

    sys.path[0] = str(Path(__file__).resolve().parent.parent)
    __package__ = "standin"

import argparse
import ctypes
import json
import os
import signal
import stat
import threading
from pathlib import Path

from standin import samples, switches, wire
from standin.control import Control
from standin.front import Front
from standin.service import Service
from standin.world import MAIN, World

PR_SET_PDEATHSIG = 1


def main() -> int:
    options = _options()
    if options.list_switches:
        print(switches.listing())
        return 0
    threading.stack_size(512 * 1024)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    if options.die_with_parent:
        _die_with_parent(stop)
    world = _world(options)
    api, control = _fronts(world, options)
    ready = {"api": f"http://127.0.0.1:{api.port}/api/v1", "control": f"http://127.0.0.1:{control.port}",
             "token": world.tokens.named(MAIN).secret}
    print(json.dumps(ready), flush=True)
    stop.wait()
    if options.state:
        _save(world, options.state)
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="standin", description="Stand-in for the Fresh Jots API.")
    parser.add_argument("--port", type=int, default=0, help="port of the API (0: any)")
    parser.add_argument("--control-port", type=int, default=0, help="port of the control API (0: any)")
    parser.add_argument("--tier", choices=("dev", "team"), default="dev")
    parser.add_argument("--token", help="secret of the main token, mn_...")
    parser.add_argument("--sample", action="store_true", help="sample notes and folders")
    parser.add_argument("--seed-notes", type=int, default=0, metavar="N", help="N generated notes")
    parser.add_argument("--first-id", type=int, default=0, metavar="N", help="id of the first note")
    parser.add_argument("--switch", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--list-switches", action="store_true", help="print all switches and exit")
    parser.add_argument("--state", type=Path, metavar="FILE", help="load at start, save at SIGTERM")
    parser.add_argument("--die-with-parent", action="store_true")
    return parser.parse_args()


def _world(options: argparse.Namespace) -> World:
    world = World()
    if options.state and options.state.exists():
        world.load(json.loads(options.state.read_text()))
    else:
        world.begin(options.tier, options.token)
        account = world.accounts[MAIN]
        world.note_ids.next = options.first_id or world.note_ids.next
        if options.sample:
            samples.pleasant(world, account)
        samples.many(world, account, options.seed_notes)
    try:
        world.change_switches(dict(pair.partition("=")[::2] for pair in options.switch))
    except ValueError as error:
        raise SystemExit(f"standin: {error}") from None
    return world


def _fronts(world: World, options: argparse.Namespace) -> tuple[Front, Front]:
    def settings() -> tuple[int, int]:
        return world.switches["keepalive_idle_s"], world.switches["max_request_bytes"]

    api = Front(options.port, Service(world).serve, settings, world.clock.http_date)
    control = Front(options.control_port, Control(world, api).serve, lambda: (3600, 1 << 30),
                    world.clock.http_date)
    api.up()
    control.up()
    return api, control


def _die_with_parent(stop: threading.Event) -> None:
    """Stop when the parent dies: at the end of stdin if that is a pipe, else by signal. The signal comes
    already when the *thread* that started us ends, so the pipe is better where there is one."""
    if stat.S_ISFIFO(os.fstat(0).st_mode) or stat.S_ISSOCK(os.fstat(0).st_mode):
        def watch() -> None:
            while os.read(0, 4096):
                pass
            stop.set()
        threading.Thread(target=watch, daemon=True).start()
    else:
        parent = os.getppid()
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            stop.set()


def _save(world: World, path: Path) -> None:
    with world.lock:
        data = wire.encode({**world.as_json(), "keys": world.keys.as_json()})
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_bytes(data)
    temporary.replace(path)


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    # Connection threads may sit in faults for minutes; nothing is left for them to do.
    os._exit(status)
