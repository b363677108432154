# SPDX-License-Identifier: Apache-2.0
"""What takes minutes runs only when it is asked for: `pytest -m extended`, as `make test-disputes` does."""

from __future__ import annotations

from tests.exact.conftest import counted, pytest_collection_modifyitems, pytest_terminal_summary

__all__ = ["counted", "pytest_collection_modifyitems", "pytest_terminal_summary"]
