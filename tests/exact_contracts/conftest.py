# SPDX-License-Identifier: Apache-2.0
"""One EVM with the harnesses for all of these tests; what takes minutes runs only with `-m extended`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.exact.conftest import counted, pytest_collection_modifyitems, pytest_terminal_summary
from tests.exact_contracts.evm import CALLABLE, Evm, running

__all__ = ["counted", "evm", "pytest_collection_modifyitems", "pytest_terminal_summary"]


@pytest.fixture(scope="session")
def evm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Evm]:
    with running(tmp_path_factory.mktemp("anvil") / "log") as node:
        for name in CALLABLE:
            node.add(name)
        yield node
