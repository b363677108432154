# SPDX-License-Identifier: Apache-2.0
"""For all tests."""

from __future__ import annotations

import gc


def pytest_collection_finish() -> None:
    """A chain in memory is millions of objects that live on: to look through them again and again takes an eighth of
    the time of the contracts' tests."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 50)
