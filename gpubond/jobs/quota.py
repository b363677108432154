# SPDX-License-Identifier: Apache-2.0
"""Bytes that may be stored: a limit of one's own below a limit for all, and a floor of free disk below both."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

from gpubond.errors import Refused


class StorageFull(Refused):
    """There is no room for more bytes."""

    code = "storage_full"


class DiskFloor:
    """Keeps `floor_bytes` of the file system below `directory` free."""

    def __init__(self, directory: Path, floor_bytes: int) -> None:
        self._directory = directory
        self._floor_bytes = floor_bytes

    @property
    def free_bytes(self) -> int:
        """Bytes free on that file system."""
        return shutil.disk_usage(self._directory).free

    @property
    def low(self) -> bool:
        """Whether the floor is reached."""
        return self.free_bytes <= self._floor_bytes

    def require(self, count: int) -> None:
        """Passes bytes that leave the floor free. Raises StorageFull."""
        if self._floor_bytes and self.free_bytes - count < self._floor_bytes:
            raise StorageFull(
                "the machine's disk is nearly full",
                field="size",
                value=count,
                remedy="try again later or hire another provider; its owner frees space or lowers min_free_mib",
            )


class Quota:
    """A number of bytes that may be in use, counted here and in `shared`. Thread-safe.

    Args:
        limit: bytes at most (None: no limit).
        what: whose storage it is, for messages.
        shared: a quota that counts the same bytes for all.
        floor: what must stay free on the disk.
    """

    def __init__(
        self, limit: int | None, what: str = "the store", shared: Quota | None = None, floor: DiskFloor | None = None
    ) -> None:
        self._limit = limit
        self._what = what
        self._shared = shared
        self._floor = floor
        self._used = 0
        self._lock = threading.Lock()

    @property
    def used(self) -> int:
        """Bytes in use."""
        return self._used

    def reserve(self, count: int, *, beyond: bool = False) -> None:
        """Takes bytes; `beyond` the limits if need be, for what is owed to others.

        Raises:
            StorageFull: there is no room; nothing was taken.
        """
        if self._floor is not None and not beyond:
            self._floor.require(count)
        with self._lock:
            if not beyond and self._limit is not None and self._used + count > self._limit:
                raise StorageFull(
                    f"{self._what} is full: {self._used} of {self._limit} bytes are used",
                    field="quota_bytes",
                    value=self._limit,
                    remedy="wait until blobs of finished jobs are deleted, or raise the quota",
                )
            self._used += count
        try:
            if self._shared is not None:
                self._shared.reserve(count, beyond=beyond)
        except StorageFull:
            with self._lock:
                self._used -= count
            raise

    def give_back(self, count: int) -> None:
        """Returns bytes."""
        with self._lock:
            self._used -= count
        if self._shared is not None:
            self._shared.give_back(count)
