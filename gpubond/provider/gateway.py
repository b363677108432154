# SPDX-License-Identifier: Apache-2.0
"""The HTTP door of a worker: buyers deliver inputs and fetch status, logs and outputs of their own jobs.

`gateway_routes.ROUTES` is the table of what it serves, `gateway_server` the process's side of it. Here is what
every request needs: whose job it is, whether that buyer signed it, and how many of its requests are open.
Errors are JSON: `{"error": {"code", "message", "field", "value", "remedy"}}`.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
from starlette.requests import Request

from gpubond import __version__
from gpubond.chain.index import JobRecord, MarketIndex
from gpubond.chain.market import Tier
from gpubond.errors import BadInput, GpuBondError
from gpubond.jobs.nonces import NonceLog
from gpubond.jobs.requests import MAX_AGE, Domain, TooManyRequests, Unauthorized, Verifier, part_content
from gpubond.jobs.uploads import PART_BYTES
from gpubond.provider.cancellations import Cancellations
from gpubond.provider.gateway_door import Door
from gpubond.provider.gateway_metrics import GatewayMetrics
from gpubond.provider.inputs import JobInputs
from gpubond.provider.job_status import describe
from gpubond.provider.stores import BuyerStores
from gpubond.provider.work import Work, WorkLog
from gpubond.settings import GatewaySettings

# Requests of one buyer at once, and of these how many may wait for a log.
MAX_REQUESTS_OF_ONE = 16
MAX_WAITS_OF_ONE = 4
# Threads that check signatures, and threads that read and write blobs: neither can starve the other.
SIGNATURE_THREADS = 4
DISK_THREADS = 8
# Seconds without a step of the worker's loop after which the gateway calls it stalled. The loop pauses for
# half a minute while the node is silent, and some calls to a slow node take a minute.
STALLED_SECONDS = 300


class Answer(GpuBondError):
    """An error with an HTTP status of its own."""

    status = 500


def not_found(message: str, field: str, value: str) -> Answer:
    """404: there is no such thing, or not yet."""
    error = Answer(message, field=field, value=value, remedy="check the id, or try again in a moment")
    error.status, error.code = 404, "not_found"
    return error


def conflict(message: str) -> Answer:
    """409: the job's state does not allow it."""
    error = Answer(message, remedy="ask for the job's status")
    error.status, error.code = 409, "conflict"
    return error


class Gateway:
    """What the handlers work with.

    Args:
        domain: chain and escrow that signatures must name.
        index: jobs and their buyers.
        work: where jobs stand on this machine.
        stores: inputs and outputs.
        inputs: which blobs a job asks for.
        log_path: the log file of a job, existing or not.
        settings: limits.
        cancellations: where wishes to end a job are noted.
        now: the chain's time, Unix seconds.
        note_key: the age key to which buyers may seal notes, who rather use a store of their own.
        nonces: folder in which used nonces are remembered (None: until the process ends).
        power: what jobs drew here by this provider's own measurement, see `Consumption.by_class`.
        on_change: called when a buyer has brought something that the worker can act on; it must return at once.
    """

    def __init__(
        self,
        *,
        domain: Domain,
        index: MarketIndex,
        work: WorkLog,
        stores: BuyerStores,
        inputs: JobInputs,
        log_path: Callable[[str], Path],
        settings: GatewaySettings,
        cancellations: Cancellations,
        now: Callable[[], int],
        note_key: str | None = None,
        nonces: Path | None = None,
        on_change: Callable[[], None] = lambda: None,
        power: Callable[[], list[dict[str, Any]]] = list,
    ) -> None:
        self.work = work
        self.stores = stores
        self.inputs = inputs
        self.log_path = log_path
        self.settings = settings
        self.cancellations = cancellations
        self.now = now
        self.on_change = on_change
        self._note_key = note_key
        self._power = power
        self.metrics = GatewayMetrics()
        self.door = Door(
            settings.max_connections, settings.max_connections_per_address, settings.trusted_proxies, self.metrics
        )
        self.disk_threads = anyio.CapacityLimiter(DISK_THREADS)
        self._signature_threads = anyio.CapacityLimiter(SIGNATURE_THREADS)
        self._domain = domain
        self._nonces = NonceLog(nonces, max_age=MAX_AGE)
        self._verifier = Verifier(domain, self._nonces)
        self._index = index
        self._open: Counter[str] = Counter()
        self._waits: Counter[str] = Counter()
        self._beat = time.monotonic()
        self._watch()

    def beat(self) -> None:
        """The worker's loop has made a step."""
        self._beat = time.monotonic()

    def health(self) -> dict[str, Any]:
        """What anyone may know: whether to hire here and how to talk to it, nothing of jobs or buyers."""
        stalled = self._age() > STALLED_SECONDS
        power = self._power()
        return {
            "ok": not stalled,
            "version": __version__,
            "time": int(time.time()),
            "chain_id": self._domain.chain_id,
            "escrow": self._domain.escrow,
            "worker": "stalled" if stalled else "working",
            "takes_uploads": not self.stores.disk.low,
            "max_blob_bytes": self.settings.max_blob_mib << 20,
            "part_bytes": PART_BYTES,
            "note_key": self._note_key,
            **({"power_by_class": power} if power else {}),
        }

    async def authorize(self, request: Request) -> JobRecord:
        """The job in the request's path, once its buyer is proved to have signed just this request.

        Raises:
            BadInput, Answer: no job id, or a job that is not known here.
            Unauthorized: not signed by the job's buyer.
            TooManyRequests: too many wrong signatures from that address, or requests of that buyer.
        """
        text = request.path_params["job"]
        try:
            job = bytes.fromhex(text.removeprefix("0x"))
        except ValueError:
            job = b""
        if len(job) != 32 or text != "0x" + job.hex():
            raise BadInput("this is not a job id", field="job", value=text[:80], remedy="0x and 64 hex digits")
        header = request.headers.get("authorization")
        client = self.door.client(request.scope)
        self.door.require_patience(client)
        record = await anyio.to_thread.run_sync(self._index.job, text, limiter=self._signature_threads)
        if record is None:
            raise not_found("the worker has not seen this job on chain yet", "job", text)
        path = request.scope["raw_path"].decode("ascii", errors="replace")
        if request.url.query:
            path += f"?{request.url.query}"
        content = part_content(request.headers.get("content-range"), request.headers.get("content-digest"))
        buyer = record.terms.buyer
        try:
            await anyio.to_thread.run_sync(
                lambda: self._verifier.check(header, request.method, path, job, buyer, content),
                limiter=self._signature_threads,
            )
        except Unauthorized:
            self.door.failed(client)
            raise
        if self._open[buyer] >= MAX_REQUESTS_OF_ONE:
            raise TooManyRequests(f"you have {MAX_REQUESTS_OF_ONE} requests open here", 1)
        self._open[buyer] += 1
        request.scope["gpubond.buyer"] = buyer
        self.door.busy(request.scope)
        return record

    async def published(self, request: Request) -> tuple[JobRecord, str]:
        """A job of tier EXACT whose result may be challenged now, and a blob that is public with it: its specification
        or an input. Anybody may ask.

        Raises:
            Answer: there is none such.
        """
        job, name = request.path_params["job"], request.path_params["sha256"]
        record = await anyio.to_thread.run_sync(self._index.job, job, limiter=self._signature_threads)
        if record is None or record.terms.tier != Tier.EXACT or record.commitment is None or record.status.final:
            raise not_found("there is no job of tier EXACT whose result could be challenged", "job", job)
        if self.inputs.accepts(record.terms, name) is None:
            raise not_found("it is neither the job's specification nor an input", "sha256", name)
        self.door.busy(request.scope)
        return record, name

    def release(self, request: Request) -> None:
        """The request has been answered."""
        buyer = request.scope.get("gpubond.buyer")
        if buyer is not None:
            _count_down(self._open, buyer)

    def may_wait(self, buyer: str) -> bool:
        """Whether this buyer may hold one more request open for news; if so, `waited` must follow."""
        if self._waits[buyer] >= MAX_WAITS_OF_ONE:
            return False
        self._waits[buyer] += 1
        return True

    def waited(self, buyer: str) -> None:
        """The wait is over."""
        _count_down(self._waits, buyer)

    def describe(self, record: JobRecord) -> dict[str, Any]:
        """Where a job stands, for its buyer."""
        described = describe(record, self.work, self.inputs)
        if described is None:
            # In the index, but not taken up by the dispatcher yet: a moment later it is.
            raise not_found("the worker has not taken the job up yet", "job", record.job)
        return described

    def result(self, record: JobRecord) -> dict[str, Any]:
        """What the run left. Raises Answer (409): nothing yet."""
        work: Work | None = self.work.get(record.job)
        if work is None or work.result is None:
            raise conflict("the job has no outputs yet")
        return work.result

    def _age(self) -> float:
        return time.monotonic() - self._beat

    def _watch(self) -> None:
        metrics = self.metrics
        metrics.watch("gpubond_storage_used_bytes", "Blobs of all buyers.", lambda: self.stores.used_bytes)
        metrics.watch("gpubond_disk_free_bytes", "Free on the blobs' disk.", lambda: self.stores.disk.free_bytes)
        metrics.watch("gpubond_gateway_nonces", "Nonces remembered.", lambda: len(self._nonces))
        metrics.watch(
            "gpubond_loop_age_seconds", "Since the worker's last step.", lambda: time.monotonic() - self._beat
        )
        metrics.watch_all("gpubond_jobs", "Jobs by state on this machine.", "state", self.work.counts)


def _count_down(counter: Counter[str], key: str) -> None:
    counter[key] -= 1
    if counter[key] <= 0:
        del counter[key]
