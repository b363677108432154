# SPDX-License-Identifier: Apache-2.0
"""One EVM with the harnesses for all of these tests; what takes minutes runs only with `-m extended`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.exact_contracts.evm import HARNESSES, Evm, running


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if "extended" in config.getoption("markexpr"):
        return
    extended = [item for item in items if item.get_closest_marker("extended")]
    config.hook.pytest_deselected(items=extended)
    items[:] = [item for item in items if item not in extended]


@pytest.fixture(scope="session")
def evm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Evm]:
    with running(tmp_path_factory.mktemp("anvil") / "log") as node:
        for name in HARNESSES:
            node.add(name)
        yield node
