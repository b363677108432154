# SPDX-License-Identifier: Apache-2.0
"""What the gateway serves: one table, from which the application and its OpenAPI description are made.

A new operation is a row of `ROUTES` and a handler `async (gateway, request) -> response`. A handler that
serves a job begins with `await gateway.authorize(request)`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from gpubond.errors import BadInput, GpuBondError
from gpubond.jobs.quota import StorageFull
from gpubond.jobs.ranges import BadRange
from gpubond.jobs.requests import TooManyRequests, Unauthorized
from gpubond.provider import gateway_transfer as transfer
from gpubond.provider.cancellations import hear
from gpubond.provider.gateway import Answer, Gateway
from gpubond.provider.gateway_door import UNREAD, DoorKeeper
from gpubond.provider.gateway_schema import describe_api
from gpubond.provider.software import software
from gpubond.provider.work import BEFORE_THE_END

logger = logging.getLogger(__name__)

Handler = Callable[[Gateway, Request], Awaitable[Response]]

LOG_SLICE_BYTES = 1 << 20
MAX_WAIT_SECONDS = 25
_LOG_LOOK_SECONDS = 0.2

# Of a body that is not wanted so much is read, for so long, that a client that sends first sees the answer.
_DRAIN_BYTES = 1 << 20
_DRAIN_BYTES_OF_BUYERS = 8 << 20
_DRAIN_SECONDS = 3.0


@dataclass(frozen=True)
class Operation:
    """One row of the table.

    name: of the operation, in metrics and schema.
    query: names of its parameters, all whole numbers.
    statuses: of its answers, besides those that every operation has.
    """

    name: str
    method: str
    path: str
    summary: str
    handler: Handler
    statuses: tuple[int, ...] = (200,)
    signed: bool = True
    query: tuple[str, ...] = ()
    body: bool = False


async def _health(gateway: Gateway, request: Request) -> Response:
    health = gateway.health()
    return JSONResponse(health, status_code=200 if health["ok"] else 503)


async def _software(gateway: Gateway, request: Request) -> Response:
    return JSONResponse((await anyio.to_thread.run_sync(software, limiter=gateway.disk_threads)).as_dict())


async def _schema(gateway: Gateway, request: Request) -> Response:
    return JSONResponse(describe_api(ROUTES))


async def _status(gateway: Gateway, request: Request) -> Response:
    record = await gateway.authorize(request)
    return JSONResponse(await anyio.to_thread.run_sync(gateway.describe, record, limiter=gateway.disk_threads))


async def _cancel(gateway: Gateway, request: Request) -> Response:
    record = await gateway.authorize(request)

    def note() -> dict[str, Any]:
        return hear(gateway.cancellations, record, gateway.work, gateway.now)

    return JSONResponse(await anyio.to_thread.run_sync(note, limiter=gateway.disk_threads))


async def _logs(gateway: Gateway, request: Request) -> Response:
    record = await gateway.authorize(request)
    offset = _number(request, "offset", 10**15)
    wait = _number(request, "wait", MAX_WAIT_SECONDS)
    path = gateway.log_path(record.job)
    buyer = record.terms.buyer
    # Who waits too often gets what there is, and may ask again.
    waiting = wait > 0 and gateway.may_wait(buyer)
    try:
        until = time.monotonic() + (wait if waiting else 0)
        while True:
            # The state first: what is printed before the end is then in the file.
            work = await anyio.to_thread.run_sync(gateway.work.get, record.job, limiter=gateway.disk_threads)
            ended = work is not None and work.state not in BEFORE_THE_END
            data, size = await anyio.to_thread.run_sync(_read_slice, path, offset, limiter=gateway.disk_threads)
            if data or ended or time.monotonic() >= until or await request.is_disconnected():
                break
            await asyncio.sleep(_LOG_LOOK_SECONDS)
    finally:
        if waiting:
            gateway.waited(buyer)
    gateway.metrics.sent.inc(len(data))
    headers = {
        "GpuBond-Log-Size": str(size),
        "GpuBond-Log-Ended": "?1" if ended and offset + len(data) >= size else "?0",
        "Cache-Control": "no-store",
    }
    return Response(data, media_type="application/octet-stream", headers=headers)


ROUTES: tuple[Operation, ...] = (
    Operation("health", "GET", "/healthz", "Whether the worker is up", _health, (200, 503), signed=False),
    Operation("software", "GET", "/v1/software", "Which Python and packages jobs find", _software, signed=False),
    Operation("schema", "GET", "/openapi.json", "This description", _schema, signed=False),
    Operation("status", "GET", "/v1/jobs/{job}", "Where the job stands, and what it waits for until when", _status),
    Operation(
        *("upload", "PUT", "/v1/jobs/{job}/blobs/{sha256}"),
        "Send the specification, an input, or with Content-Range and Content-Digest one part of an input",
        transfer.upload,
        (200, 201, 202, 409, 507),
        body=True,
    ),
    Operation(
        *("parts", "GET", "/v1/jobs/{job}/blobs/{sha256}/parts"),
        "Which bytes of an input are here already",
        transfer.parts,
        (200, 409),
    ),
    Operation(
        *("download", "GET", "/v1/jobs/{job}/blobs/{sha256}"),
        "An output that the manifest names, whole or one range of it",
        transfer.download,
        (200, 206, 409, 416),
    ),
    Operation(
        *("manifest", "GET", "/v1/jobs/{job}/manifest"),
        "The canonical manifest of the outputs",
        transfer.manifest,
        (200, 206, 409, 416),
    ),
    Operation(
        *("public", "GET", "/v1/jobs/{job}/public/{sha256}"),
        "The specification or an input of a committed job of tier EXACT, for anybody: whole or one range of it",
        transfer.public,
        (200, 206, 404, 416),
        signed=False,
    ),
    Operation(
        *("logs", "GET", "/v1/jobs/{job}/logs"),
        "The job's log from a byte on, at most 1 MiB; with `wait` it is held so many seconds until there is more",
        _logs,
        query=("offset", "wait"),
    ),
    Operation(
        *("cancel", "POST", "/v1/jobs/{job}/cancel"),
        "End the job: what follows and until when; noted before it is answered, and may be repeated",
        _cancel,
    ),
)


def gateway_app(gateway: Gateway) -> ASGIApp:
    """The ASGI application."""
    app = Starlette(
        routes=[
            Route(operation.path, _Endpoint(gateway, operation), methods=[operation.method], name=operation.name)
            for operation in ROUTES
        ],
        exception_handlers={HTTPException: _http_error},
    )
    app.router.redirect_slashes = False
    return DoorKeeper(app, gateway.door)


class _Endpoint:
    """One operation: calls the handler, answers its errors, counts."""

    def __init__(self, gateway: Gateway, operation: Operation) -> None:
        self._gateway = gateway
        self._operation = operation

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request."""
        request = Request(scope, receive, send)
        metrics, name, started = self._gateway.metrics, self._operation.name, time.monotonic()
        status = 500
        try:
            try:
                response = await self._operation.handler(self._gateway, request)
            except Exception as error:
                response = error_answer(error)
                code = response.headers.get("gpubond-error", "internal")
                metrics.refused.labels(code).inc()
                await _drain(request)
            status = response.status_code
            if status < 300 and request.method not in ("GET", "HEAD"):
                self._gateway.on_change()
            await response(scope, receive, send)
        except (ClientDisconnect, TimeoutError):
            status = 499  # whoever asked has gone, or was too slow; there is nobody to answer
        finally:
            self._gateway.release(request)
            metrics.requests.labels(name, str(status)).inc()
            metrics.seconds.labels(name).observe(time.monotonic() - started)


def error_answer(error: Exception) -> JSONResponse:
    """An error as JSON with the status that goes with it."""
    headers: dict[str, str] = {"Cache-Control": "no-store"}
    if isinstance(error, GpuBondError):
        shown = error.as_dict()
        status = _status_of(error)
        if isinstance(error, Unauthorized):
            headers["WWW-Authenticate"] = "GpuBond"
        if isinstance(error, TooManyRequests):
            headers["Retry-After"] = str(error.retry_after)
        if isinstance(error, BadRange):
            headers["Content-Range"] = f"bytes */{error.size}"
    elif isinstance(error, TimeoutError):
        status, shown = 408, _words("timeout", "the body came too slowly", "send it again, in parts")
    elif isinstance(error, ClientDisconnect):
        status, shown = 400, _words("disconnected", "the upload broke off", "send the rest")
    else:
        # What went wrong inside is for the owner's log, not for strangers.
        logger.error("a request failed", exc_info=error)
        status, shown = 500, _words("internal", "the gateway failed", "try again; the worker's log says more")
    headers["GpuBond-Error"] = shown["code"]
    return JSONResponse({"error": shown}, status_code=status, headers=headers)


def _status_of(error: GpuBondError) -> int:
    if isinstance(error, Answer):
        return error.status
    by_kind: tuple[tuple[type[GpuBondError], int], ...] = (
        (Unauthorized, 401),
        (TooManyRequests, 429),
        (StorageFull, 507),
        (BadRange, 416),
    )
    return next((status for kind, status in by_kind if isinstance(error, kind)), 400)


def _words(code: str, message: str, remedy: str) -> dict[str, str | None]:
    return {"code": code, "message": message, "field": None, "value": None, "remedy": remedy}


async def _http_error(request: Request, error: Exception) -> Response:
    """No such path or method, in the form of all errors."""
    status = error.status_code if isinstance(error, HTTPException) else 404
    headers = dict(getattr(error, "headers", None) or {})
    await _drain(request)
    words = _words("not_found" if status == 404 else "bad_request", "there is nothing here", "see /openapi.json")
    return JSONResponse({"error": words}, status_code=status, headers=headers)


async def _drain(request: Request) -> None:
    left = _DRAIN_BYTES_OF_BUYERS if "gpubond.buyer" in request.scope else _DRAIN_BYTES
    try:
        async with asyncio.timeout(_DRAIN_SECONDS):
            while left > 0 and request.scope[UNREAD]:
                left -= len((await request.receive()).get("body", b""))
    except TimeoutError:
        return


def _number(request: Request, name: str, largest: int) -> int:
    text = request.query_params.get(name, "0")
    if not text.isascii() or not text.isdigit() or len(text) > 15 or int(text) > largest:
        raise BadInput(
            f"this is no whole number from 0 to {largest}",
            field=name,
            value=text[:80],
            remedy="give bytes from 0" if name == "offset" else f"give seconds, {largest} at most",
        )
    return int(text)


def _read_slice(path: Path, offset: int) -> tuple[bytes, int]:
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(offset)
            return file.read(LOG_SLICE_BYTES), size
    except FileNotFoundError:
        return b"", 0
