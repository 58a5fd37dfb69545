"""What a log or a sanitizer says that no test may leave unnoticed."""

from __future__ import annotations

import re
from pathlib import Path

SANITIZER = re.compile(r"ERROR: \w+Sanitizer|WARNING: ThreadSanitizer|runtime error:|^==\d+== (?!HEAP|LEAK|ERROR SUMMARY: 0)"
                       r"|Assertion .* failed|stack smashing|buffer overflow detected|malloc\(\):|double free")
# fs/log.c marks LOG_ERR and worse.
ERROR = re.compile(r"^jotsfs: error: ")


def sanitizer_lines(directory: Path, log: str) -> list[str]:
    """Reports in DIRECTORY (log_path of the sanitizers) and in LOG."""
    texts = [path.read_text(errors="replace") for path in sorted(directory.glob("sanitizer.*"))]
    found = [line for text in texts for line in text.splitlines() if line.strip()]
    return found + [line for line in log.splitlines() if SANITIZER.search(line)]


def error_lines(log: str, expected: list[str]) -> list[str]:
    """Lines of level error that match none of the regular expressions."""
    return [line for line in log.splitlines()
            if ERROR.search(line) and not any(re.search(pattern, line) for pattern in expected)]
