# SPDX-License-Identifier: Apache-2.0
"""A blob store for each buyer: to know the hash of somebody else's input is not enough to use it."""

from __future__ import annotations

import threading
from pathlib import Path

from gpubond.jobs.blobs import BlobStore


class BuyerStores:
    """The blob stores below `root`, one a buyer's address, each with the same quota in bytes. Thread-safe."""

    def __init__(self, root: Path, quota_bytes: int) -> None:
        self._root = root
        self._quota_bytes = quota_bytes
        self._stores: dict[str, BlobStore] = {}
        self._lock = threading.Lock()

    def of(self, buyer: str) -> BlobStore:
        """The store of a buyer (checksum address)."""
        with self._lock:
            store = self._stores.get(buyer)
            if store is None:
                store = BlobStore(self._root / buyer.lower(), quota_bytes=self._quota_bytes)
                self._stores[buyer] = store
            return store
