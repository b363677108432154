# SPDX-License-Identifier: Apache-2.0
"""The HTTP door of a worker: buyers deliver inputs and fetch status, logs and outputs of their own jobs.

    GET  /healthz                          anyone: the worker is up
    GET  /v1/jobs/{job}                    status, reason, what it waits for and until when, what is missing
    PUT  /v1/jobs/{job}/blobs/{sha256}     the specification or an input, streamed and verified
    GET  /v1/jobs/{job}/manifest           the canonical manifest of the outputs
    GET  /v1/jobs/{job}/blobs/{sha256}     an output that the manifest names
    GET  /v1/jobs/{job}/logs?offset=N      the job's log from byte N
    POST /v1/jobs/{job}/cancel             ends the job: what follows and until when; noted before it is answered

Every request but the first is signed by the wallet of that job's buyer (`gpubond.jobs.requests`).
Errors are JSON: `{"error": {"code", "message", "field", "value", "remedy"}}`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import anyio.from_thread
import anyio.to_thread
import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from gpubond import __version__
from gpubond.chain.index import JobRecord, MarketIndex
from gpubond.errors import BadInput, BadSettings, GpuBondError
from gpubond.jobs.requests import Domain, Unauthorized, Verifier
from gpubond.provider.cancellations import Cancellations, hear
from gpubond.provider.inputs import JobInputs
from gpubond.provider.stores import BuyerStores
from gpubond.provider.work import STATES, WorkLog, WorkState
from gpubond.settings import GatewaySettings

logger = logging.getLogger(__name__)

# Seconds that an upload may stand still, and connections at once.
STALL_SECONDS = 60.0
MAX_CONNECTIONS = 128
LOG_SLICE_BYTES = 1 << 20

_UPLOAD_STATES = (WorkState.HIRED, WorkState.AWAITING_INPUTS)


class Gateway:
    """The ASGI application over the worker's store.

    Args:
        domain: chain and escrow that signatures must name.
        index: jobs and their buyers.
        work: where jobs stand on this machine.
        stores: inputs and outputs.
        inputs: which blobs a job asks for.
        log_path: the log file of a job, existing or not.
        cancellations: where wishes to end a job are noted.
        now: the chain's time, Unix seconds.
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
        cancellations: Cancellations,
        now: Callable[[], int],
    ) -> None:
        self._verifier = Verifier(domain)
        self._index = index
        self._work = work
        self._stores = stores
        self._inputs = inputs
        self._log_path = log_path
        self._cancellations = cancellations
        self._now = now

    def app(self) -> Starlette:
        """The ASGI application."""
        return Starlette(
            routes=[
                Route("/healthz", self._health, methods=["GET"]),
                Route("/v1/jobs/{job}", _answering_errors(self._status), methods=["GET"]),
                Route("/v1/jobs/{job}/blobs/{sha256}", _answering_errors(self._upload), methods=["PUT"]),
                Route("/v1/jobs/{job}/blobs/{sha256}", _answering_errors(self._download), methods=["GET"]),
                Route("/v1/jobs/{job}/manifest", _answering_errors(self._manifest), methods=["GET"]),
                Route("/v1/jobs/{job}/logs", _answering_errors(self._logs), methods=["GET"]),
                Route("/v1/jobs/{job}/cancel", _answering_errors(self._cancel), methods=["POST"]),
            ]
        )

    async def _health(self, request: Request) -> Response:
        return JSONResponse({"ok": True, "version": __version__})

    async def _status(self, request: Request) -> Response:
        record = await self._authorize(request)
        return JSONResponse(await anyio.to_thread.run_sync(self._describe, record))

    async def _upload(self, request: Request) -> Response:
        record = await self._authorize(request)
        name = request.path_params["sha256"]
        work = self._work.get(record.job)
        if work is None or work.state not in _UPLOAD_STATES:
            state = "unknown to this worker" if work is None else work.state
            raise _conflict(f"the job takes no more uploads: it is {state}")
        limit = await anyio.to_thread.run_sync(self._inputs.accepts, record.terms, name)
        if limit is None:
            raise BadInput(
                "the job does not ask for this blob",
                field="sha256",
                value=name,
                remedy="upload the specification first, then the inputs that it names",
            )
        stream = request.stream()

        async def next_chunk() -> bytes | None:
            with anyio.fail_after(STALL_SECONDS):
                return await anext(stream, None)

        def chunks() -> Iterator[bytes]:
            while (chunk := anyio.from_thread.run(next_chunk)) is not None:
                yield chunk

        blobs = self._stores.of(record.terms.buyer)
        await anyio.to_thread.run_sync(lambda: blobs.put(chunks(), sha256=name, max_bytes=limit))
        return JSONResponse({"sha256": name}, status_code=201)

    async def _manifest(self, request: Request) -> Response:
        record = await self._authorize(request)
        path = self._stores.of(record.terms.buyer).path(self._result(record)["manifest"])
        return FileResponse(path, media_type="application/json")

    async def _download(self, request: Request) -> Response:
        record = await self._authorize(request)
        name = request.path_params["sha256"]
        if name not in self._result(record)["blobs"]:
            raise _not_found("the job has no such output", "sha256", name)
        path = self._stores.of(record.terms.buyer).path(name)
        return FileResponse(path, media_type="application/octet-stream")

    async def _logs(self, request: Request) -> Response:
        record = await self._authorize(request)
        text = request.query_params.get("offset", "0")
        if not text.isascii() or not text.isdigit() or len(text) > 15:
            raise BadInput("this is not an offset", field="offset", value=text, remedy="give bytes from 0")
        data = await anyio.to_thread.run_sync(_read_slice, self._log_path(record.job), int(text))
        return Response(data, media_type="application/octet-stream")

    async def _cancel(self, request: Request) -> Response:
        record = await self._authorize(request)
        return JSONResponse(
            await anyio.to_thread.run_sync(lambda: hear(self._cancellations, record, self._work, self._now))
        )

    async def _authorize(self, request: Request) -> JobRecord:
        text = request.path_params["job"]
        try:
            job = bytes.fromhex(text.removeprefix("0x"))
        except ValueError:
            job = b""
        if len(job) != 32 or text != "0x" + job.hex():
            raise BadInput("this is not a job id", field="job", value=text[:80], remedy="0x and 64 hex digits")
        record = await anyio.to_thread.run_sync(self._index.job, text)
        if record is None:
            raise _not_found("the worker has not seen this job on chain yet", "job", text)
        path = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        header = request.headers.get("authorization")
        await anyio.to_thread.run_sync(self._verifier.check, header, request.method, path, job, record.terms.buyer)
        return record

    def _describe(self, record: JobRecord) -> dict[str, Any]:
        work = self._work.get(record.job)
        if work is None:
            # In the index, but not taken up by the dispatcher yet: a moment later it is.
            raise _not_found("the worker has not taken the job up yet", "job", record.job)
        waiting = work.state in _UPLOAD_STATES
        return {
            "job": record.job,
            "state": work.state,
            "chain_status": record.status.name.lower(),
            "reason": work.reason,
            "detail": work.detail,
            "waits_for": STATES[work.state] or None,
            "until": _until(record, work.state),
            "missing": self._inputs.missing(record.terms) if waiting else [],
            "attempts": work.attempts,
            "result": work.result,
            "history": [
                {"at": at, "state": state, "reason": reason} for at, state, reason in self._work.history(record.job)
            ],
        }

    def _result(self, record: JobRecord) -> dict[str, Any]:
        work = self._work.get(record.job)
        if work is None or work.result is None:
            raise _conflict("the job has no outputs yet")
        return work.result


def _until(record: JobRecord, state: WorkState) -> int | None:
    if state in _UPLOAD_STATES:
        return record.terms.acknowledge_by
    if state == WorkState.COMMITTED and record.commitment is not None:
        return record.commitment.committed_at + record.terms.challenge_window
    return record.terms.deliver_by if STATES[state] else None


def _read_slice(path: Path, offset: int) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(offset)
            return file.read(LOG_SLICE_BYTES)
    except FileNotFoundError:
        return b""


class _Answer(GpuBondError):
    """An error with an HTTP status of its own."""

    status = 500


def _not_found(message: str, field: str, value: str) -> _Answer:
    error = _Answer(message, field=field, value=value, remedy="check the id, or try again in a moment")
    error.status = 404
    return error


def _conflict(message: str) -> _Answer:
    error = _Answer(message, remedy="ask for the job's status")
    error.status = 409
    return error


def _answering_errors(
    handler: Callable[[Request], Awaitable[Response]],
) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        try:
            return await handler(request)
        except Unauthorized as error:
            status, shown = 401, error.as_dict()
        except _Answer as error:
            status, shown = error.status, error.as_dict()
        except GpuBondError as error:
            status, shown = 400, error.as_dict()
        except TimeoutError:
            status, shown = 408, {"code": "timeout", "message": f"no byte in {STALL_SECONDS:.0f} s"}
        except ClientDisconnect:
            status, shown = 400, {"code": "disconnected", "message": "the upload broke off"}
        return JSONResponse({"error": shown}, status_code=status)

    return answer


class GatewayServer:
    """Runs the application in a thread of its own."""

    def __init__(self, app: Starlette, settings: GatewaySettings) -> None:
        self._settings = settings
        self._server = uvicorn.Server(
            uvicorn.Config(
                app,
                host=settings.host,
                port=settings.port,
                log_level="warning",
                access_log=False,
                limit_concurrency=MAX_CONNECTIONS,
                timeout_keep_alive=10,
                h11_max_incomplete_event_size=16_384,
                server_header=False,
                lifespan="off",
            )
        )
        # The daemon's own handlers decide how to end; uvicorn must not replace them.
        self._thread = threading.Thread(target=self._server.run, name="gateway", daemon=True)

    def start(self) -> None:
        """Starts to listen.

        Raises:
            BadSettings: the port is taken or the address is not this machine's.
        """
        self._thread.start()
        deadline = time.monotonic() + 20
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > deadline:
                raise BadSettings(
                    "the gateway cannot listen",
                    field="gateway.port",
                    value=f"{self._settings.host}:{self._settings.port}",
                    remedy="another program may use this port: choose another one, in [gateway]",
                )
            time.sleep(0.02)

    def stop(self) -> None:
        """Lets open requests end and stops."""
        self._server.should_exit = True
        self._thread.join(timeout=10)
