# SPDX-License-Identifier: Apache-2.0
"""Deletes what nobody needs any more: blobs, logs and work folders of jobs that ended some time ago.

Kept is whatever a job needs that is not over on chain, and whatever a job needs that ended here less than the
retention ago. A job that was given up here and whose deadline is long past is over too, whether or not anybody ever
expires it on chain: nothing can be delivered any more. All else goes, found by looking at the disk, so nothing is
remembered and nothing can leak. It runs in the loop that adopts jobs, so that no job begins while its inputs are being
judged.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from gpubond.chain.index import JobRecord, MarketIndex
from gpubond.chain.market import Status
from gpubond.errors import BadInput
from gpubond.provider.inputs import JobInputs
from gpubond.provider.stores import BuyerStores
from gpubond.provider.work import Work, WorkLog, WorkState

logger = logging.getLogger(__name__)

# Seconds between two looks, and how long a blob or upload without a job may lie there: a job that needs it
# may be in a block that this worker has not seen yet.
EVERY_SECONDS = 600.0
STRAY_SECONDS = 86_400.0
# At most so much in one look: the loop has other things to do.
MOST_AT_ONCE = 2_000

_JOB = re.compile(r"0x[0-9a-f]{64}")


@dataclass(frozen=True)
class Swept:
    """What a look deleted."""

    blobs: int
    bytes: int
    folders: int


class Retention:
    """Looks through the stores and work folders of one worker.

    Args:
        provider_address: whose jobs.
        work_root: the folder of the work folders.
        wipe: removes a job's work folder with its log.
        keep_seconds: how long a job's data is kept after its end.
        chain_now: the chain's time, Unix seconds; asked for when a job seems to be long overdue.
    """

    def __init__(
        self,
        *,
        provider_address: str,
        index: MarketIndex,
        work: WorkLog,
        stores: BuyerStores,
        inputs: JobInputs,
        work_root: Path,
        wipe: Callable[[str], None],
        keep_seconds: float,
        chain_now: Callable[[], int],
    ) -> None:
        self._provider_address = provider_address
        self._index = index
        self._work = work
        self._stores = stores
        self._inputs = inputs
        self._work_root = work_root
        self._wipe = wipe
        self._keep_seconds = keep_seconds
        self._chain_now = chain_now
        self._next = 0.0

    def sweep_if_due(self) -> Swept | None:
        """A look if the last one was some time ago."""
        if time.monotonic() < self._next:
            return None
        self._next = time.monotonic() + EVERY_SECONDS
        return self.sweep(time.time())

    def sweep(self, now: float) -> Swept:
        """Deletes what nobody needs at `now` (Unix seconds).

        Raises:
            Unreachable: the node does not say what time it is on chain, which decides about an overdue job.
        """
        kept = self._kept_jobs(now)
        blobs, size = self._sweep_blobs(kept, now)
        folders = self._sweep_folders(kept)
        if blobs or folders:
            logger.info("deleted %d blobs (%d bytes) and %d work folders of finished jobs", blobs, size, folders)
        return Swept(blobs, size, folders)

    def _kept_jobs(self, now: float) -> dict[str, tuple[JobRecord | None, Work | None]]:
        kept: dict[str, tuple[JobRecord | None, Work | None]] = {}
        for record in self._index.jobs(provider=self._provider_address, live_only=True):
            work = self._work.get(record.job)
            if not self._is_hopeless(record, work, now):
                kept[record.job] = (record, work)
        since = now - self._keep_seconds
        for work in self._work.unfinished_or_newer_than(since):
            known = self._index.job(work.job)
            # A job that a reorganisation removed may come back, for a while.
            if known is not None or work.updated >= since:
                kept.setdefault(work.job, (known, work))
        return kept

    def _is_hopeless(self, record: JobRecord, work: Work | None, now: float) -> bool:
        """Whether a job that is open on chain was given up here, and not delivered long after its deadline."""
        if record.status != Status.ACTIVE or work is None or work.state != WorkState.ABANDONED:
            return False
        over = record.terms.deliver_by + self._keep_seconds + STRAY_SECONDS
        # This machine's clock may be wrong, and the chain's is the one that counts.
        return now > over and self._chain_now() > over

    def _sweep_blobs(self, kept: dict[str, tuple[JobRecord | None, Work | None]], now: float) -> tuple[int, int]:
        needed: dict[str, set[str]] = {}
        for record, work in kept.values():
            if record is None:
                # Whose blobs it needs is not known now, so none are deleted until it is back or long gone.
                return 0, 0
            needed.setdefault(record.terms.buyer, set()).update(self._blobs_of(record, work))
        count = size = 0
        for buyer in self._stores.buyers():
            store = self._stores.of(buyer)
            self._stores.uploads(buyer).drop_stale(max(self._keep_seconds, STRAY_SECONDS))
            for name in store.names():
                if name in needed.get(buyer, ()):
                    continue
                stat = store.path(name).stat()
                if now - stat.st_mtime < min(self._keep_seconds, STRAY_SECONDS):
                    continue
                if count >= MOST_AT_ONCE:
                    return count, size
                if store.delete(name):
                    count, size = count + 1, size + stat.st_size
        return count, size

    def _blobs_of(self, record: JobRecord, work: Work | None) -> Iterable[str]:
        yield record.terms.spec_hash.hex()
        try:
            spec = self._inputs.spec(record.terms)
        except BadInput:
            spec = None
        if spec is not None:
            yield from (item.sha256 for item in spec.inputs)
        if work is not None and work.result is not None:
            yield work.result["manifest"]
            yield from work.result["blobs"]
            yield from work.result.get("states", {}).values()

    def _sweep_folders(self, kept: dict[str, tuple[JobRecord | None, Work | None]]) -> int:
        if not self._work_root.is_dir():
            return 0
        count = 0
        for entry in self._work_root.iterdir():
            if not _JOB.fullmatch(entry.name):
                continue
            if entry.name not in kept:
                self._wipe(entry.name)
                count += 1
            if count >= MOST_AT_ONCE:
                break
        return count
