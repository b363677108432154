# SPDX-License-Identifier: Apache-2.0
"""What takes minutes runs only when it is asked for: `pytest -m extended`, as `make test-exact` does."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

Counted = Callable[[int, int], None]
_LINES = pytest.StashKey[list[str]]()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if "extended" in config.getoption("markexpr"):
        return
    extended = [item for item in items if item.get_closest_marker("extended")]
    config.hook.pytest_deselected(items=extended)
    items[:] = [item for item in items if item not in extended]


@pytest.fixture
def counted(request: pytest.FixtureRequest) -> Iterator[Counted]:
    """To be called with the number of cases and the seed: the run's summary tells them, and how long they took."""
    begin = time.monotonic()
    told: list[str] = []
    yield lambda cases, seed: told.append(f"{request.node.name}: {cases} cases, seed {seed}")
    lines = request.config.stash.setdefault(_LINES, [])
    lines += [f"{line}, {time.monotonic() - begin:.0f} s" for line in told]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    lines = config.stash.get(_LINES, [])
    if lines:
        terminalreporter.section("cases and seeds")
    for line in lines:
        terminalreporter.write_line(line)
    # Those of several folders share this function, and it is called for each.
    lines.clear()
