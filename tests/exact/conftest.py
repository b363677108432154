# SPDX-License-Identifier: Apache-2.0
"""What takes minutes runs only when it is asked for: `pytest -m extended`, as `make test-exact` does."""

from __future__ import annotations

import pytest


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if "extended" in config.getoption("markexpr"):
        return
    extended = [item for item in items if item.get_closest_marker("extended")]
    config.hook.pytest_deselected(items=extended)
    items[:] = [item for item in items if item not in extended]
