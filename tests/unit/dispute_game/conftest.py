# SPDX-License-Identifier: Apache-2.0
"""One table a session; each test takes its steps back, and its books must balance."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import boa
import pytest

from .table import Game, Job, Table


@pytest.fixture(scope="session")
def laid() -> Table:
    return Table.deploy()


def fresh(laid: Table, **changes: Any) -> Table:
    return replace(laid, balances=defaultdict(int), games=[], jobs=[], burns=[], **changes)


@pytest.fixture
def table(laid: Table) -> Iterator[Table]:
    with boa.env.anchor():
        table = fresh(laid)
        yield table
        table.check()


@pytest.fixture
def job(table: Table) -> Job:
    """A job with a wrong result."""
    return table.job()


@pytest.fixture
def right(table: Table) -> Job:
    """A job with a right result."""
    return table.job(is_right=True)


@pytest.fixture
def game(table: Table, job: Job) -> Game:
    """About the wrong result; the asserter is to move."""
    return table.open(job)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Titanoboa would take a test's steps back before its books are looked at."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.ignore_isolation)
