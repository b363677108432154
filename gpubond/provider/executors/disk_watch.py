# SPDX-License-Identifier: Apache-2.0
"""Looks at the disk while a job runs, in a sandbox or a container: what it uses, and whether the machine has room."""

from __future__ import annotations

from pathlib import Path

from gpubond.jobs.reasons import Reason
from gpubond.provider.executors import usage


class Finding(Exception):
    """A run has to be ended, or has ended, for this reason; the words are the detail."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class DiskWatch:
    """The disk below a job's `directory`.

    Args:
        most: bytes that the job may use.
        floor: with less free than that, and less than the job may still use, the disk counts as full.
    """

    def __init__(self, directory: Path, most: int, floor: int) -> None:
        self._directory = directory
        self._most = most
        self._floor = floor
        #: Whether the disk was full at one look at least: it may be why the job failed.
        self.was_full = False

    def look(self, deleted: int = 0) -> None:
        """Raises Finding if the job uses more than it may. deleted: bytes of files that are open and have no name."""
        try:
            used = usage.directory_bytes(self._directory) + deleted
        except usage.TooManyFiles as error:
            raise Finding(Reason.DISK_LIMIT, f"wrote {error}") from error
        if used > self._most:
            raise Finding(Reason.DISK_LIMIT, f"used {used >> 20} MiB of disk")
        if usage.free_bytes(self._directory) < min(self._most - used, self._floor):
            self.was_full = True
