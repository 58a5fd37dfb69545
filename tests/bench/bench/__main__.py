"""`make bench`, or `python3 tests/bench/bench [JOB...]`: all jobs or those whose name contains a word.

Prints a table and writes it to tests/bench/results/latest.txt. BENCH_LARGE=1 adds an account of 50,000
notes; JOTSFS= names the program (default build/jotsfs), FLOOR= the floor's.
"""

from __future__ import annotations

import os
import platform
import sys
import time
from pathlib import Path

BENCH = Path(__file__).resolve().parent.parent
if not __package__:
    # Started as a directory: import ourselves as a package, and let nothing in here shadow the library.
    sys.path[0] = str(BENCH)
    __package__ = "bench"
sys.path[1:1] = [str(BENCH.parent / "mount"), str(BENCH.parent / "server")]

from bench import jobs_account, jobs_end, jobs_read, jobs_save, jobs_stream, report  # noqa: E402

JOBS = {
    "account": jobs_account.run,
    "read": jobs_read.run,
    "stream": jobs_stream.run,
    "save": jobs_save.run,
    "end": jobs_end.run,
}
RESULTS = BENCH / "results" / "latest.txt"


def heading(started: float) -> str:
    load = os.getloadavg()
    return (f"jotsfs bench, {time.strftime('%Y-%m-%d %H:%M')}, Linux {platform.release()}, {os.cpu_count()} processors, "
            f"load {load[0]:.1f}, {time.monotonic() - started:.0f} s")


def main() -> int:
    started = time.monotonic()
    rows: list[report.Row] = []
    for name, run in JOBS.items():
        if len(sys.argv) == 1 or any(word in name for word in sys.argv[1:]):
            for row in run():
                rows.append(row)
                print(row.line(), flush=True)
    text = f"{heading(started)}\n\n{report.table(rows)}\n{report.summary(rows)}\n"
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(text)
    print("\n" + text, end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
