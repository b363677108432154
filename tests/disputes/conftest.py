# SPDX-License-Identifier: Apache-2.0
"""What takes minutes runs only when it is asked for: `pytest -m extended`, as `make test-disputes` does."""

from __future__ import annotations

import pytest

from tests.disputes.contracts import World
from tests.exact.conftest import counted, pytest_collection_modifyitems, pytest_terminal_summary

__all__ = ["counted", "pytest_collection_modifyitems", "pytest_terminal_summary"]


@pytest.fixture(scope="session")
def world() -> World:
    """The contracts, laid out once; each test takes its steps back."""
    return World.deploy()
