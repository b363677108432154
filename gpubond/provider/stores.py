# SPDX-License-Identifier: Apache-2.0
"""A blob store for each buyer: to know the hash of somebody else's input is not enough to use it."""

from __future__ import annotations

import threading
from pathlib import Path

from web3 import Web3

from gpubond.jobs.blobs import BlobStore
from gpubond.jobs.quota import DiskFloor, Quota
from gpubond.jobs.uploads import Uploads


class BuyerStores:
    """The blob stores below `root`, one a buyer's address. Thread-safe.

    Args:
        root: their folder.
        quota_bytes: what one buyer may store.
        total_bytes: what all of them may store together (None: no limit but the disk).
        floor_bytes: what stays free on the disk: below it no uploads are taken.
    """

    def __init__(self, root: Path, quota_bytes: int, *, total_bytes: int | None = None, floor_bytes: int = 0) -> None:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.disk = DiskFloor(root, floor_bytes)
        self._root = root
        self._quota_bytes = quota_bytes
        self._total = Quota(total_bytes, "the provider's storage")
        self._stores: dict[str, tuple[BlobStore, Uploads]] = {}
        self._lock = threading.Lock()
        # What lies there counts before anybody asks for it.
        for entry in root.iterdir():
            if entry.is_dir() and Web3.is_address(entry.name):
                self.of(str(Web3.to_checksum_address(entry.name)))

    @property
    def used_bytes(self) -> int:
        """Bytes of all buyers, uploads in progress included."""
        return self._total.used

    def of(self, buyer: str) -> BlobStore:
        """The store of a buyer (checksum address)."""
        return self._pair(buyer)[0]

    def uploads(self, buyer: str) -> Uploads:
        """The partial uploads of a buyer (checksum address)."""
        return self._pair(buyer)[1]

    def buyers(self) -> list[str]:
        """Addresses that have a store."""
        with self._lock:
            return list(self._stores)

    def _pair(self, buyer: str) -> tuple[BlobStore, Uploads]:
        with self._lock:
            pair = self._stores.get(buyer)
            if pair is None:
                quota = Quota(self._quota_bytes, "your storage at this provider", self._total, self.disk)
                store = BlobStore(self._root / buyer.lower(), quota=quota)
                pair = self._stores[buyer] = (store, Uploads(store))
            return pair
