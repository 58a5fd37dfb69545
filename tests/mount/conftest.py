"""Fixtures of the mount tests: `service`, the stand-in, and `mount`, which starts jotsfs on it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent / "server")]

from harness import table  # noqa: E402
from harness.mounts import Mounts  # noqa: E402
from harness.service import Service  # noqa: E402

LOG_LINES_SHOWN = 60


@pytest.fixture
def service() -> Iterator[Service]:
    with Service() as service:
        yield service


@pytest.fixture
def mount(service: Service, tmp_path: Path) -> Iterator[Mounts]:
    mounts = Mounts(service, tmp_path)
    yield mounts
    if problems := mounts.close():
        pytest.fail("\n".join(problems), pytrace=False)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """A failure shows what jotsfs said and what it asked of the service."""
    outcome = yield
    result = outcome.get_result()
    mounts = getattr(item, "funcargs", {}).get("mount")
    if not result.failed or mounts is None:
        return
    for mount in mounts.all:
        result.sections.append((f"log of {mount.path}", "\n".join(mount.log.splitlines()[-LOG_LINES_SHOWN:])))
    try:
        rows = mounts.service.log()
    except OSError:  # the test or its teardown has ended the service
        return
    text = "\n".join(f"{row['seq']:4} {row['method']} {row['path']}?{row['query'] or ''} -> {row['status']}"
                     f" {row['code'] or ''} {row['fault'] or ''}" for row in rows[-LOG_LINES_SHOWN:])
    result.sections.append(("requests", text))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Mounts of a worker that was ended by its time limit."""
    if not hasattr(session.config, "workerinput"):
        base = session.config._tmp_path_factory.getbasetemp()
        for path in table.below(base):
            table.detach(path)
