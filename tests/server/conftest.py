"""One stand-in for all self tests, as new for each."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

from client import StandIn  # noqa: E402


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandIn]:
    path = tmp_path_factory.mktemp("standin") / "stderr"
    with path.open("wb") as stderr, StandIn(stderr=stderr) as running:
        yield running
    # Tracebacks of the stand-in land there; a test may well pass in spite of one.
    assert path.read_text() == ""


@pytest.fixture
def stand(server: StandIn) -> StandIn:
    server.reset()
    server.unlimited()
    return server
