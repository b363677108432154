# SPDX-License-Identifier: Apache-2.0
"""Puts what jobs bring into their buyers' own stores, and looks there whether a buyer wishes a job to end.

Two lanes a job, each in threads of their own: the live one (cancellation, log, status) every few seconds while
something changes, the result's (outputs, then the manifest that names them) once the run has ended, beside the
commitment and until all is there. What was put is noted by its digest, so a killed worker puts the rest.
"""

from __future__ import annotations

import hashlib
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpubond.chain.index import JobRecord, MarketIndex
from gpubond.errors import GpuBondError
from gpubond.jobs.guarded_http import Absent, GuardedHttp
from gpubond.jobs.manifest import Manifest
from gpubond.jobs.note import MAX_LOG_BYTES, Note
from gpubond.provider.cancellations import CANCELLABLE, Cancellations, hear
from gpubond.provider.inputs import JobInputs
from gpubond.provider.job_status import describe
from gpubond.provider.notes import Notes
from gpubond.provider.stores import BuyerStores
from gpubond.provider.work import BEFORE_THE_END, FINAL_STATES, Work, WorkLog

logger = logging.getLogger(__name__)

LIVE_THREADS, RESULT_THREADS = 8, 4
# Of each lane at once for one buyer.
MOST_OF_ONE = 2
# Seconds between two looks at a job's store while it may change by itself.
LIVE_SECONDS = 10.0
# Seconds between tries: this, doubled each time up to the other.
PAUSE_SECONDS, LONGEST_PAUSE = 4.0, 600.0
# Seconds for which the status of a job that ended without a result is tried to be delivered.
NO_RESULT_SECONDS = 3600.0
# Seconds between two looks for notes that are of no use any more.
DROP_SECONDS = 600.0
MAX_PROOF_BYTES = 1024
_CHUNK = 1 << 20


@dataclass
class _Lane:
    """What is remembered of one lane of one job, in memory only: when it is due, and what it saw last."""

    running: bool = False
    failures: int = 0
    not_before: float = 0.0
    seen: float = 0.0
    woken: bool = False
    problem: str | None = None


class StoreDelivery:
    """Serves the jobs of one worker that have notes. Thread-safe.

    Args:
        log_path: the log file of a job, existing or not.
        now: the chain's time, Unix seconds.
        on_change: called when a buyer wishes a job to end.
        keep_seconds: how long a job's data is kept here after its end.
    """

    def __init__(
        self,
        *,
        notes: Notes,
        index: MarketIndex,
        work: WorkLog,
        stores: BuyerStores,
        inputs: JobInputs,
        log_path: Callable[[str], Path],
        http: GuardedHttp,
        cancellations: Cancellations,
        now: Callable[[], int],
        keep_seconds: float,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        self._notes = notes
        self._index = index
        self._work = work
        self._stores = stores
        self._inputs = inputs
        self._log_path = log_path
        self._http = http
        self._cancellations = cancellations
        self._now = now
        self._keep_seconds = keep_seconds
        self._on_change = on_change
        self._next_drop = 0.0
        self._lanes: dict[tuple[str, str], _Lane] = {}
        self._busy: dict[tuple[str, str], str] = {}
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._pools = {
            "live": ThreadPoolExecutor(LIVE_THREADS, "live"),
            "result": ThreadPoolExecutor(RESULT_THREADS, "deliver"),
        }

    def tick(self) -> None:
        """Has done what is due. Returns at once."""
        jobs = self._notes.open()
        with self._lock:
            kept = set(jobs)
            self._lanes = {key: lane for key, lane in self._lanes.items() if key[0] in kept or lane.running}
        for job in jobs:
            work, record = self._work.get(job), self._index.job(job)
            if work is None or record is None:
                continue
            # Where there is no result, only the last status is owed, and many such notes would be cheap to send here.
            keep = self._keep_seconds if work.result is not None else min(self._keep_seconds, NO_RESULT_SECONDS)
            if work.state in FINAL_STATES and time.time() > work.updated + keep:
                logger.warning("job %s: not everything could be put into its buyer's store, and it is given up", job)
                self._notes.close(job, forget=True)
                continue
            self._want("live", work, record)
            if work.result is not None:
                self._want("result", work, record)
        if time.monotonic() >= self._next_drop:
            self._next_drop = time.monotonic() + DROP_SECONDS
            self._notes.drop(time.time() - self._keep_seconds)

    def stop(self) -> None:
        """Breaks off what is under way; it is done at the next start."""
        self._ended.set()
        for pool in self._pools.values():
            pool.shutdown(wait=True, cancel_futures=True)

    def _want(self, name: str, work: Work, record: JobRecord) -> None:
        key, buyer, now = (work.job, name), record.terms.buyer, time.monotonic()
        with self._lock:
            lane = self._lanes.setdefault(key, _Lane())
            # A new state is worth a look at once.
            due = now >= lane.not_before or work.updated != lane.seen
            of_one = sum(owner == buyer and other[1] == name for other, owner in self._busy.items())
            if lane.running or not due or of_one >= MOST_OF_ONE:
                return
            lane.running, lane.seen = True, work.updated
            self._busy[key] = buyer
        self._pools[name].submit(self._run, name, work.job, lane)

    def _run(self, name: str, job: str, lane: _Lane) -> None:
        again: float | None = None
        try:
            again = self._serve(name, job)
            if lane.failures:
                logger.info("job %s: its buyer's store takes what it was sent again", job)
            lane.failures, lane.problem = 0, None
        except GpuBondError as error:
            lane.failures += 1
            if error.message != lane.problem and not self._ended.is_set():
                logger.warning("job %s: its buyer's store: %s; it is tried again", job, error.message)
            lane.problem = error.message
        except Exception:
            lane.failures += 1
            lane.problem = "the worker's log says more"
            logger.exception("job %s: its buyer's store could not be served, and is tried again", job)
        finally:
            pause = min(LONGEST_PAUSE, PAUSE_SECONDS * 2 ** min(lane.failures, 10)) if lane.failures else again
            with self._lock:
                lane.not_before = float("inf") if pause is None else time.monotonic() + pause
                if lane.woken and not lane.failures:
                    lane.not_before = 0.0
                lane.running = lane.woken = False
                self._busy.pop((job, name), None)
            if name == "result":
                self._wake_live(job)  # whose status says what has come, or why it has not

    def _serve(self, name: str, job: str) -> float | None:
        """One pass of a lane; returns the seconds to the next one, None if only a new state makes one needed."""
        # The state before all else: what came before its end is then in the log.
        work, record, note = self._work.get(job), self._index.job(job), self._notes.note(job)
        if work is None or record is None or note is None:
            return LIVE_SECONDS
        if name == "result":
            self._put_result(work, record, note)
            return None
        if work.state in CANCELLABLE and self._cancellations.heard(job) is None:
            self._look_for_cancellation(record, note)
        ended = work.state not in BEFORE_THE_END
        size = self._put_log(job, note, ended)
        self._put_status(record, note, {"bytes": size, "ended": ended})
        self._close_if_done(work)
        return LIVE_SECONDS if work.state in CANCELLABLE or not ended else None

    def _wake_live(self, job: str) -> None:
        with self._lock:
            lane = self._lanes.get((job, "live"))
            if lane is not None:
                lane.woken = True
                if not lane.failures:
                    lane.not_before = 0.0

    def _look_for_cancellation(self, record: JobRecord, note: Note) -> None:
        try:
            proof = self._http.read(note.cancel.url, MAX_PROOF_BYTES)
        except Absent:
            return
        # Only the buyer knows what to write there: whoever runs the store cannot end its jobs.
        if hashlib.sha256(proof).hexdigest() != note.cancel.proof:
            return
        hear(self._cancellations, record, self._work, self._now)
        logger.info("job %s: its buyer wishes it to end", record.job)
        self._on_change()

    def _put_log(self, job: str, note: Note, ended: bool) -> int:
        """The whole log, if there is more of it than before; returns its bytes."""
        try:
            stat = self._log_path(job).stat()
        except FileNotFoundError:
            return 0
        size = min(stat.st_size, MAX_LOG_BYTES)
        # A run that was begun again has another file.
        digest = f"{stat.st_ino}:{size}:{ended}"
        if self._notes.delivered(job).get("log") != digest and size:
            self._http.put(note.put.log, self._pieces(self._log_path(job), size), size)
            self._notes.set_delivered(job, "log", digest)
        return size

    def _put_status(self, record: JobRecord, note: Note, log: dict[str, Any]) -> None:
        status = describe(record, self._work, self._inputs)
        if status is None:
            return
        cancelled = self._cancellations.heard(record.job) is not None
        cancel = hear(self._cancellations, record, self._work, self._now) if cancelled else None
        document = status | {"log": log, "cancel": cancel, "delivery": self._progress(record)}
        data = json.dumps(document).encode()
        digest = hashlib.sha256(data).hexdigest()
        if self._notes.delivered(record.job).get("status") != digest:
            self._http.put(note.put.status, [data], len(data))
            self._notes.set_delivered(record.job, "status", digest)

    def _progress(self, record: JobRecord) -> dict[str, Any]:
        """How far the result's delivery has come, for the buyer."""
        work = self._work.get(record.job)
        lane = self._lanes.get((record.job, "result"))
        problem = None if lane is None else lane.problem
        if work is None or work.result is None:
            return {"wanted": None, "done": 0, "problem": problem}
        wanted = self._wanted(work, record)
        known = self._notes.delivered(record.job)
        return {
            "wanted": len(wanted),
            "done": sum(known.get(item) == name for item, name, _ in wanted),
            "problem": problem,
        }

    def _wanted(self, work: Work, record: JobRecord) -> list[tuple[str, str, str]]:
        """Item, blob and address of all that a result is; the manifest last, as it says that the rest is there."""
        note = self._notes.note(work.job)
        if note is None or work.result is None:
            return []
        blobs = self._stores.of(record.terms.buyer)
        name = work.result["manifest"]
        if not blobs.has(name):
            return []  # the retention was quicker
        manifest = Manifest.parse(blobs.path(name).read_bytes())
        found = [
            (f"output:{item.path}", item.sha256, note.put.outputs[item.path])
            for item in manifest.files
            if item.path in note.put.outputs
        ]
        return [*found, ("manifest", name, note.put.manifest)]

    def _put_result(self, work: Work, record: JobRecord, note: Note) -> None:
        blobs = self._stores.of(record.terms.buyer)
        known = self._notes.delivered(work.job)
        for item, name, url in self._wanted(work, record):
            if known.get(item) == name:
                continue
            path = blobs.path(name)
            size = path.stat().st_size
            self._http.put(url, self._pieces(path, size), size)
            self._notes.set_delivered(work.job, item, name)
            if item == "manifest":
                logger.info("job %s: its result lies in its buyer's store", work.job)

    def _close_if_done(self, work: Work) -> None:
        record = self._index.job(work.job)
        if work.state not in FINAL_STATES or record is None:
            return
        progress = self._progress(record)
        if progress["wanted"] is None or progress["done"] == progress["wanted"]:
            self._notes.close(work.job, forget=True)

    def _pieces(self, path: Path, size: int) -> Iterator[bytes]:
        """The first `size` bytes of a file that may grow meanwhile."""
        with path.open("rb") as file:
            while size and (piece := file.read(min(_CHUNK, size))):
                if self._ended.is_set():
                    raise GpuBondError("the worker ends; it goes on at its next start")
                size -= len(piece)
                yield piece
