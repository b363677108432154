# SPDX-License-Identifier: Apache-2.0
"""Finds the notes of new jobs and fetches them, outside the worker's loop: a stranger's store keeps nobody waiting."""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from web3 import Web3

from gpubond.chain.index import JobRecord, MarketIndex
from gpubond.chain.market import Status
from gpubond.chain.trailer import HireNotShown, trailer_of_hire
from gpubond.errors import BadInput, GpuBondError, Refused, Unreachable
from gpubond.jobs.guarded_http import GuardedHttp
from gpubond.jobs.note import MAX_NOTE_BYTES, Note
from gpubond.provider.note_key import NoteKey
from gpubond.provider.notes import NoteRow, Notes
from gpubond.provider.sparing import Sparing
from gpubond.provider.stores import BuyerStores

logger = logging.getLogger(__name__)

THREADS = 4
# At once for one buyer.
MOST_OF_ONE = 2
# Seconds between tries: this, doubled each time up to the other.
PAUSE_SECONDS, LONGEST_PAUSE = 2.0, 60.0
# Hires that are looked at in one step of the loop: each is a request to the node.
MOST_AT_ONCE = 32


class NoteReader:
    """Brings notes from their buyers' stores into this machine's.

    Args:
        escrow: the contract to which a hire must have been sent.
        key: opens the notes.
        on_change: called when a note has come.
    """

    def __init__(
        self,
        *,
        notes: Notes,
        index: MarketIndex,
        node: Web3,
        escrow: str,
        key: NoteKey,
        stores: BuyerStores,
        http: GuardedHttp,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        self._notes = notes
        self._index = index
        self._node = node
        self._escrow = escrow
        self._key = key
        self._stores = stores
        self._http = http
        self._on_change = on_change
        self._sparing = Sparing(logger)
        # Job -> its buyer while it is fetched; job -> tries so far and when the next one may begin.
        self._running: dict[str, str] = {}
        self._tries: dict[str, tuple[int, float]] = {}
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(THREADS, "note")

    def tick(self) -> None:
        """Looks at new hires, and has notes fetched that are not here yet. Returns at once."""
        for job in self._notes.unseen()[:MOST_AT_ONCE]:
            record = self._index.job(job)
            if record is None:
                continue
            try:
                # What was committed already needs no inputs any more.
                active = record.status == Status.ACTIVE
                found = trailer_of_hire(self._node, self._escrow, record) if active else None
            except Exception as error:
                # A node that lags, or answers nonsense, about one hire must not hold up the others; one that does not
                # answer would keep the loop waiting for each.
                words = error.message if isinstance(error, GpuBondError) else type(error).__name__
                self._sparing.warn(job, "job %s: its hire cannot be read yet: %s", job, words)
                if isinstance(error, Unreachable) and not isinstance(error, HireNotShown):
                    break
                continue
            self._notes.found(job, found)
            if found is not None:
                logger.info("job %s: its hire names a note in its buyer's store", job)
        awaited = self._notes.awaited()
        with self._lock:
            self._tries = {job: tries for job, tries in self._tries.items() if job in awaited}
        for job in awaited:
            self._want(job)

    def stop(self) -> None:
        """Waits for what is under way, which is bounded in time; the rest is begun at the next start."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _want(self, job: str) -> None:
        row, record = self._notes.get(job), self._index.job(job)
        if row is None or record is None:
            return
        buyer = record.terms.buyer
        with self._lock:
            tries, not_before = self._tries.get(job, (0, 0.0))
            busy = job in self._running or list(self._running.values()).count(buyer) >= MOST_OF_ONE
            if busy or time.monotonic() < not_before:
                return
            self._running[job] = buyer
            self._tries[job] = (tries + 1, 0.0)
        self._pool.submit(self._run, row, record)

    def _run(self, row: NoteRow, record: JobRecord) -> None:
        job = row.job
        try:
            self._fetch(row, record)
            logger.info("job %s: its note is here", job)
            self._on_change()
        except BadInput as error:
            logger.info("job %s: %s", job, error.message)
            self._notes.failed(job, error.message, for_good=True)
            self._on_change()
        except GpuBondError as error:
            self._notes.failed(job, f"the note cannot be fetched: {error.message}", for_good=False)
            logger.info("job %s: its note cannot be fetched yet: %s", job, error.message)
        except Exception:
            logger.exception("job %s: reading its note failed, and is tried again", job)
        finally:
            with self._lock:
                tries = self._tries.get(job, (1, 0.0))[0]
                pause = min(LONGEST_PAUSE, PAUSE_SECONDS * 2 ** min(tries, 10))
                self._tries[job] = (tries, time.monotonic() + pause)
                self._running.pop(job, None)

    def _fetch(self, row: NoteRow, record: JobRecord) -> None:
        assert row.url is not None  # noqa: S101  # it was found
        if self._stores.disk.low:
            raise Refused("this machine's disk has no room for it now")
        sealed = self._http.read(row.url, MAX_NOTE_BYTES)
        if hashlib.sha256(sealed).hexdigest() != row.sha256:
            raise Refused("other bytes lie there than the hire names")
        note = self._key.unseal(sealed)
        _require_of(note, record)
        spec = note.spec.encode()
        # Its hash is in the terms; another one is for good, a full store is not.
        self._stores.of(record.terms.buyer).put([spec], record.terms.spec_hash.hex(), len(spec))
        self._notes.read(row.job, note)


def _require_of(note: Note, record: JobRecord) -> None:
    """Raises BadInput if a note is not that of the order that a job became of: who copies another's hire may not."""
    if (note.buyer.lower(), note.order) != (record.terms.buyer.lower(), record.terms.salt.hex()):
        raise BadInput("the note is that of another order", field="note", remedy="submit the job again")
