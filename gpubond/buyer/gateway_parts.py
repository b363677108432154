# SPDX-License-Identifier: Apache-2.0
"""Blobs in parts, several at once, to and from a gateway; a transfer that breaks off goes on where it was.

Upload: the gateway says which parts it has, the others are sent, each with its own SHA-256. Download: parts
are fetched ahead, at most `PARALLEL` of them, and written and hashed in order, so what lies in the `.part` file
is always the blob's beginning, and its length is all there is to remember.
"""

from __future__ import annotations

import hashlib
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any, TypeVar

from gpubond.buyer.gateway_client import Busy, GatewayClient
from gpubond.buyer.partial import begin_partial
from gpubond.errors import BadInput, JobFailed, Unreachable
from gpubond.jobs.ranges import etag, part_headers

PARALLEL = 4
# Of a download; an upload takes the gateway's.
PART_BYTES = 4 << 20
# What a gateway may ask for: this many bytes are in memory `PARALLEL` times.
LEAST_PART_BYTES, LARGEST_PART_BYTES = 64 << 10, 64 << 20
# Tries of one part before the transfer is given up, and the longest pause between two, seconds.
TRIES = 7
LONGEST_PAUSE = 8.0

_T = TypeVar("_T")

OnProgress = Callable[[int, int], None]


def upload_blob(client: GatewayClient, sha256: str, path: Path, on_progress: OnProgress | None = None) -> None:
    """Sends a file as the blob `sha256`.

    Args:
        on_progress: called with bytes there and bytes in all, from the calling thread.

    Raises:
        BadInput: the file cannot be read, or changed while it was sent.
        Unreachable: the gateway does not answer any more; what it has it keeps.
        Refused: it refuses, in its own words.
    """
    target = client.path(f"/blobs/{sha256}")
    size = path.stat().st_size
    state = _patiently(lambda: client.parts(sha256))
    if state.get("complete") is True:
        _report(on_progress, size, size)
        return
    part_bytes = state.get("part_bytes")
    if state.get("size") is None or not isinstance(part_bytes, int) or size <= part_bytes:
        content = _read(path, 0, size)
        _patiently(lambda: client.put(target, content, {}))
        _report(on_progress, size, size)
        return
    if not LEAST_PART_BYTES <= part_bytes <= LARGEST_PART_BYTES:
        raise client.nonsense("list of parts")
    have = _ranges(client, state)
    todo = [
        (first, min(first + part_bytes, size) - 1)
        for first in range(0, size, part_bytes)
        if not any(low <= first and min(first + part_bytes, size) - 1 <= high for low, high in have)
    ]
    sent = size - sum(last + 1 - first for first, last in todo)

    def send(part: tuple[int, int]) -> bool:
        first, last = part
        content = _read(path, first, last + 1 - first)
        headers = part_headers(first, last, size, hashlib.sha256(content).digest())
        return _patiently(lambda: client.put(target, content, headers)).get("complete") is True

    complete = False
    _report(on_progress, sent, size)
    for (first, last), done in _in_parallel(send, todo):
        complete = complete or done
        sent += last + 1 - first
        _report(on_progress, sent, size)
    if not complete and _patiently(lambda: client.parts(sha256)).get("complete") is not True:
        raise client.nonsense("end of the upload: all parts are sent, and it is not complete")


def download_blob(
    client: GatewayClient, sha256: str, size: int, target: Path, on_progress: OnProgress | None = None
) -> None:
    """Fetches one output into a file; nothing is at `target` unless it has that size and hash.

    What came before a break is kept beside it, as `<target>.part`, and used by the next call.

    Args:
        on_progress: called with bytes here and bytes in all, from the calling thread.

    Raises:
        JobFailed: the gateway sent other bytes than it committed to; they are thrown away.
        Unreachable: it does not answer any more; what came is kept.
        Refused: it refuses, in its own words.
    """
    begun = begin_partial(target, size, sha256)
    if begun is None:
        return
    partial, digest, received = begun.path, begun.digest, begun.received
    path = client.path(f"/blobs/{sha256}")

    def fetch(part: tuple[int, int]) -> bytes:
        first, last = part
        length = last + 1 - first

        def once() -> bytes:
            asked = {} if length == size else {"Range": f"bytes={first}-{last}", "If-Range": etag(sha256)}
            with client.open("GET", path, headers=asked) as response:
                expected = 200 if length == size else 206
                if response.status_code != expected:
                    raise client.nonsense(f"output: HTTP status {response.status_code}")
                data = bytearray()
                for piece in client.pieces(response, length):
                    data += piece
            if len(data) < length:
                raise client.unreachable("it broke off")
            return bytes(data)

        return _patiently(once)

    parts = [(first, min(first + PART_BYTES, size) - 1) for first in range(received, size, PART_BYTES)]
    _report(on_progress, received, size)
    with partial.open("ab") as file:
        for _, data in _in_order(fetch, parts):
            digest.update(data)
            file.write(data)
            received += len(data)
            _report(on_progress, received, size)
    if digest.hexdigest() != sha256:
        partial.unlink()
        raise JobFailed(
            "the gateway sent other bytes than the provider committed to",
            field="output",
            value=target.name,
            remedy="fetch again; do not release the payment while this stays so",
        )
    partial.replace(target)


def _in_parallel(
    work: Callable[[tuple[int, int]], _T], parts: list[tuple[int, int]]
) -> Iterator[tuple[tuple[int, int], _T]]:
    """Each part's outcome, as it comes, `PARALLEL` at once."""
    waiting = deque(parts)
    with ThreadPoolExecutor(PARALLEL, "parts") as pool:
        running: dict[Future[_T], tuple[int, int]] = {}
        while waiting or running:
            while waiting and len(running) < PARALLEL:
                part = waiting.popleft()
                running[pool.submit(work, part)] = part
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                yield running.pop(future), future.result()


def _in_order(
    work: Callable[[tuple[int, int]], _T], parts: list[tuple[int, int]]
) -> Iterator[tuple[tuple[int, int], _T]]:
    """Each part's outcome in the order of the parts, at most `PARALLEL` of them begun ahead."""
    waiting = deque(parts)
    with ThreadPoolExecutor(PARALLEL, "parts") as pool:
        running: deque[tuple[tuple[int, int], Future[_T]]] = deque()
        while waiting or running:
            while waiting and len(running) < PARALLEL:
                part = waiting.popleft()
                running.append((part, pool.submit(work, part)))
            part, future = running.popleft()
            yield part, future.result()


def _patiently(ask: Callable[[], _T]) -> _T:
    """Asks again while the gateway is silent or busy, a bounded number of times."""
    for attempt in range(1, TRIES):
        try:
            return ask()
        except Busy as error:
            time.sleep(min(max(error.retry_after, 0.1), LONGEST_PAUSE))
        except Unreachable:
            time.sleep(min(0.25 * 2**attempt, LONGEST_PAUSE))
    return ask()


def _ranges(client: GatewayClient, state: dict[str, Any]) -> list[tuple[int, int]]:
    try:
        return [(int(first), int(last)) for first, last in state["have"]]
    except (KeyError, TypeError, ValueError):
        raise client.nonsense("list of parts") from None


def _read(path: Path, first: int, length: int) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(first)
            data = file.read(length)
    except OSError as error:
        raise BadInput(
            f"{path} cannot be read: {error.strerror}", field="input", value=str(path), remedy="let it be read"
        ) from None
    if len(data) != length:
        raise BadInput(
            f"{path} became shorter while it was sent", field="input", value=str(path), remedy="restore the file"
        )
    return data


def _report(on_progress: OnProgress | None, done: int, total: int) -> None:
    if on_progress is not None:
        on_progress(done, total)


class Meter:
    """Says in words how far a long transfer is: not at once, and at most every few seconds."""

    def __init__(self, say: Callable[[str], None], what: str, every_seconds: float = 5.0) -> None:
        self._say, self._what, self._every = say, what, every_seconds
        self._started = self._last = time.monotonic()
        self._first: int | None = None

    def __call__(self, done: int, total: int) -> None:
        """Takes note of bytes done and bytes in all."""
        now = time.monotonic()
        if self._first is None:
            self._first = done
        if now - self._last < self._every or not total:
            return
        self._last = now
        rate = (done - self._first) / (now - self._started)
        left = f", {(total - done) / rate:,.0f} s left" if rate > 0 else ""
        self._say(f"{self._what}: {100 * done // total} % of {total:,} bytes{left}")
