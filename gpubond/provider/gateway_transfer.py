# SPDX-License-Identifier: Apache-2.0
"""Blobs through the gateway: uploads whole or in parts, downloads whole or by range, none faster than the
disk and none slower than `SLOWEST` allows. Everything is verified before it counts."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import BinaryIO, TypeVar

import anyio
import anyio.to_thread
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from gpubond.chain.index import JobRecord
from gpubond.errors import BadInput
from gpubond.jobs.ranges import etag, requested_range, stated_part
from gpubond.jobs.spec import MAX_SPEC_BYTES
from gpubond.jobs.uploads import PART_BYTES
from gpubond.provider.gateway import Gateway, conflict, not_found
from gpubond.provider.job_status import UPLOAD_STATES

# Seconds without a byte that an upload may last, and in which a body or answer of a length must be through.
QUIET_SECONDS = 30.0
PATIENCE_SECONDS = 60.0
SLOWEST = 8192  # bytes a second
_PIECE = 1 << 18

_T = TypeVar("_T")


def time_for(length: int) -> float:
    """Seconds that so many bytes may take."""
    return PATIENCE_SECONDS + length / SLOWEST


async def body(request: Request, limit: int) -> AsyncIterator[bytes]:
    """The request's body in pieces of some size; at most `limit` bytes and one piece more.

    Raises:
        TimeoutError: it stands still, or is too slow altogether.
        ClientDisconnect: it broke off.
    """
    deadline = asyncio.get_running_loop().time() + time_for(limit)
    kept, more, count = bytearray(), True, 0
    while more:
        left = deadline - asyncio.get_running_loop().time()
        async with asyncio.timeout(min(QUIET_SECONDS, max(left, 0))):
            message = await request.receive()
        if message["type"] != "http.request":
            raise ClientDisconnect
        more = message.get("more_body", False)
        kept += message.get("body", b"")
        count += len(message.get("body", b""))
        if kept and (len(kept) >= _PIECE or not more or count > limit):
            yield bytes(kept)
            kept.clear()


async def upload(gateway: Gateway, request: Request) -> Response:
    """PUT of a blob, or with Content-Range of one part of it."""
    record = await gateway.authorize(request)
    name = request.path_params["sha256"]
    _require_waiting(gateway, record)
    blobs = gateway.stores.of(record.terms.buyer)
    limit = await _on_disk(gateway, gateway.inputs.accepts, record.terms, name)
    if limit is None:
        raise _unwanted(name)
    if blobs.has(name):
        return JSONResponse({"sha256": name, "complete": True})
    content_range = request.headers.get("content-range")
    if content_range is not None:
        return await _upload_part(gateway, request, record, name, content_range)
    with await _on_disk(gateway, blobs.writer, name, limit) as writer:
        async for piece in body(request, limit):
            await _on_disk(gateway, writer.write, piece)
            gateway.metrics.received.inc(len(piece))
        await _on_disk(gateway, writer.commit)
    return JSONResponse({"sha256": name, "complete": True}, status_code=201)


async def _upload_part(
    gateway: Gateway, request: Request, record: JobRecord, name: str, content_range: str
) -> Response:
    size = await _on_disk(gateway, gateway.inputs.size, record.terms, name)
    if size is None:
        raise BadInput(
            "the specification is sent in one piece",
            field="Content-Range",
            value=content_range[:80],
            remedy=f"leave the header out; a specification has {MAX_SPEC_BYTES} bytes at most",
        )
    first, last, digest = stated_part(content_range, request.headers.get("content-digest"), size)
    uploads = gateway.stores.uploads(record.terms.buyer)
    partial = await _on_disk(gateway, uploads.begin, name, size)
    with await _on_disk(gateway, partial.writer, first, last, digest) as writer:
        async for piece in body(request, last + 1 - first):
            await _on_disk(gateway, writer.write, piece)
            gateway.metrics.received.inc(len(piece))
        complete = await _on_disk(gateway, writer.commit)
    return JSONResponse({"sha256": name, "complete": complete}, status_code=201 if complete else 202)


async def parts(gateway: Gateway, request: Request) -> Response:
    """Which parts of a blob are here, so that an upload goes on where it broke off."""
    record = await gateway.authorize(request)
    name = request.path_params["sha256"]
    _require_waiting(gateway, record)
    blobs = gateway.stores.of(record.terms.buyer)
    limit = await _on_disk(gateway, gateway.inputs.accepts, record.terms, name)
    if limit is None:
        raise _unwanted(name)
    size = await _on_disk(gateway, gateway.inputs.size, record.terms, name)
    complete = blobs.has(name)
    have: list[tuple[int, int]] = []
    if complete:
        size = blobs.size(name)
        have = [(0, size - 1)] if size else []
    elif (partial := gateway.stores.uploads(record.terms.buyer).get(name)) is not None:
        have = await _on_disk(gateway, partial.ranges)
    return JSONResponse(
        {
            "sha256": name,
            "size": size,
            "part_bytes": PART_BYTES,
            "complete": complete,
            "have": [list(item) for item in have],
        }
    )


async def download(gateway: Gateway, request: Request) -> Response:
    """GET or HEAD of an output, or a range of it."""
    record = await gateway.authorize(request)
    name = request.path_params["sha256"]
    if name not in gateway.result(record)["blobs"]:
        raise not_found("the job has no such output", "sha256", name)
    return await _file(gateway, request, record, name, "application/octet-stream")


async def public(gateway: Gateway, request: Request) -> Response:
    """The specification or an input of a job of tier EXACT, for whoever computes it again."""
    record, name = await gateway.published(request)
    return await _file(gateway, request, record, name, "application/octet-stream")


async def manifest(gateway: Gateway, request: Request) -> Response:
    """The canonical manifest of the outputs."""
    record = await gateway.authorize(request)
    return await _file(gateway, request, record, gateway.result(record)["manifest"], "application/json")


def _require_waiting(gateway: Gateway, record: JobRecord) -> None:
    work = gateway.work.get(record.job)
    if work is None or work.state not in UPLOAD_STATES:
        state = "unknown to this worker" if work is None else work.state
        raise conflict(f"the job takes no more uploads: it is {state}")


def _unwanted(name: str) -> BadInput:
    return BadInput(
        "the job does not ask for this blob",
        field="sha256",
        value=name[:80],
        remedy="upload the specification first, then the inputs that it names",
    )


async def _on_disk(gateway: Gateway, work: Callable[..., _T], *arguments: object) -> _T:
    return await anyio.to_thread.run_sync(work, *arguments, limiter=gateway.disk_threads)


async def _file(gateway: Gateway, request: Request, record: JobRecord, name: str, kind: str) -> Response:
    blobs = gateway.stores.of(record.terms.buyer)
    path = await _on_disk(gateway, blobs.path, name)
    size = path.stat().st_size
    asked = requested_range(request.headers.get("range"), request.headers.get("if-range"), name, size)
    if request.method == "HEAD":
        asked = None
    first, last = asked if asked is not None else (0, size - 1)
    headers = {
        "Content-Type": kind,
        "Content-Length": str(last + 1 - first),
        "Accept-Ranges": "bytes",
        "ETag": etag(name),
        "Cache-Control": "no-store",
    }
    if asked is not None:
        headers["Content-Range"] = f"bytes {first}-{last}/{size}"
    return _FileAnswer(gateway, path, first, last + 1 - first, headers, 206 if asked is not None else 200)


class _FileAnswer(Response):
    """Some bytes of a file, read as fast as they are taken and dropped if that is too slow."""

    def __init__(
        self, gateway: Gateway, path: Path, first: int, length: int, headers: dict[str, str], status: int
    ) -> None:
        super().__init__(status_code=status, headers=headers)
        self._gateway, self._path, self._first, self._length = gateway, path, first, length

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends it."""
        file: BinaryIO = await _on_disk(self._gateway, self._path.open, "rb")
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            left = 0 if scope["method"] == "HEAD" else self._length
            offset = self._first
            try:
                async with asyncio.timeout(time_for(left)):
                    while left:
                        data = await _on_disk(self._gateway, os.pread, file.fileno(), min(left, _PIECE), offset)
                        if not data:
                            raise ClientDisconnect  # shorter than it was: the answer ends early, which the reader sees
                        await send({"type": "http.response.body", "body": data, "more_body": True})
                        self._gateway.metrics.sent.inc(len(data))
                        offset, left = offset + len(data), left - len(data)
            except TimeoutError:
                self._gateway.door.close(scope, "slow")
                raise
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            file.close()
