# SPDX-License-Identifier: Apache-2.0
"""One job by way of its buyer's own store: what the worker put there, and what it is to find there.

What lies there was written by a stranger, so its sizes are bounded, and nothing of it is believed that the chain or a
hash does not confirm; see `GatewayClient`, whose methods these are.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from gpubond.buyer.box import Box
from gpubond.buyer.gateway_client import MAX_ANSWER_BYTES, MAX_LOG_BYTES, LogPiece, NotSeenYet
from gpubond.buyer.object_store import Absent, ObjectStore
from gpubond.buyer.partial import begin_partial
from gpubond.errors import BadInput, JobFailed, Refused, Unreachable
from gpubond.jobs.manifest import MAX_MANIFEST_BYTES, Manifest
from gpubond.jobs.model import read_json
from gpubond.jobs.note import MAX_STATUS_BYTES

# Seconds in which a worker that runs has looked for a cancellation, as it does every ten.
CANCEL_SECONDS = 25.0
# Seconds between two looks at the store while something is awaited there.
LOOK_SECONDS = 2.0
MAX_PROBLEM = 500


class StoreClient:
    """What lies in the box of one job.

    Args:
        store: where the box is.
        box: of the job's order.

    Every method raises Unreachable if the store does not answer, NotSeenYet if the worker has not written there yet,
    and Refused if the store does not let us, or what lies there is nothing that a worker writes.
    """

    def __init__(self, store: ObjectStore, box: Box) -> None:
        self._store = store
        self._box = box
        self._outputs: dict[str, str] = {}
        self._seen: tuple[float, dict[str, Any]] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return

    def status(self) -> dict[str, Any]:
        """Where the job stood when the worker wrote last; looked at every two seconds at most."""
        if self._seen is not None and time.monotonic() - self._seen[0] < LOOK_SECONDS:
            return dict(self._seen[1])
        try:
            found = read_json(self._whole(self._box.status, MAX_STATUS_BYTES), "status")
        except Absent:
            raise NotSeenYet("the worker has not written to your store yet", field="store") from None
        except (BadInput, ValueError):
            raise self._nonsense("status") from None
        if not isinstance(found, dict):
            raise self._nonsense("status")
        self._seen = (time.monotonic(), found)
        return dict(found)

    def cancel(self) -> dict[str, Any]:
        """Writes the wish to end the job, and waits a while for the worker to take note of it. May be repeated."""
        self._store.write(self._box.cancel, self._box.cancel_proof)
        deadline = time.monotonic() + CANCEL_SECONDS
        while True:
            try:
                answer = self.status().get("cancel")
            except NotSeenYet:
                answer = None
            if isinstance(answer, dict):
                return answer
            if time.monotonic() >= deadline:
                return {
                    "acknowledged": False,
                    "effect": "the wish lies in your store, where the worker looks every ten seconds; it has not "
                    "answered yet, and what follows depends on when it does: `gpubond job status` follows it",
                }
            time.sleep(LOOK_SECONDS)

    def upload(self, sha256: str, path: Path, on_progress: Callable[[int, int], None] | None = None) -> None:
        """Puts an input where the note says that it lies."""
        size = path.stat().st_size
        self._store.write(self._box.input(sha256), path)
        if on_progress is not None:
            on_progress(size, size)

    def download(
        self, sha256: str, size: int, target: Path, on_progress: Callable[[int, int], None] | None = None
    ) -> None:
        """Fetches one output of the manifest that was read before; goes on where an earlier call broke off.

        Raises:
            JobFailed: other bytes lie there than the provider committed to; they are thrown away.
            Unreachable: the output is not there (yet), or the store does not answer; what came is kept.
        """
        begun = begin_partial(target, size, sha256)
        if begun is None:
            return
        partial, digest, received = begun.path, begun.digest, begun.received
        path = self._outputs.get(sha256)
        if path is None:
            raise self._nonsense("manifest")
        if received < size or size == 0:
            try:
                with partial.open("ab") as file:
                    for piece in self._store.read(self._box.output(path), received) if size else ():
                        received += len(piece)
                        if received > size:
                            break
                        digest.update(piece)
                        file.write(piece)
                        if on_progress is not None:
                            on_progress(received, size)
            except Absent:
                raise self._not_delivered() from None
        if received != size or digest.hexdigest() != sha256:
            partial.unlink()
            raise JobFailed(
                "other bytes lie in your store than the provider committed to",
                field="output",
                value=path,
                remedy="fetch again; do not release the payment while this stays so: `gpubond job demand` makes the "
                "provider show the result on chain",
            )
        partial.replace(target)

    def manifest(self) -> bytes:
        """The canonical manifest of the outputs; check it against the result root on chain."""
        try:
            data = self._whole(self._box.manifest, MAX_MANIFEST_BYTES)
        except Absent:
            raise self._not_delivered() from None
        self._outputs = {item.sha256: item.path for item in Manifest.parse(data).files}
        return data

    def follow_logs(self, offset: int = 0, wait: int = 0) -> Iterator[LogPiece]:
        """The log as it grows, until the run has ended; see `GatewayClient.follow_logs`. The worker writes it every
        ten seconds or so, as a whole."""
        total = 0
        while True:
            piece = self._log_piece(offset, wait)
            total += len(piece.data)
            if total > MAX_LOG_BYTES:
                raise self._nonsense("log: it is too long")
            if not piece.data and piece.size < offset:
                offset = 0  # a run that was begun again
                continue
            if not piece.data and piece.ended:
                return
            yield piece
            offset += len(piece.data)

    def _log_piece(self, offset: int, wait: int) -> LogPiece:
        deadline = time.monotonic() + wait
        while True:
            # The status first: what it counts is in the log by then.
            size, ended = self._log_state()
            data = b""
            if size > offset:
                try:
                    data = self._whole(self._box.log, MAX_ANSWER_BYTES, offset, cut=True)
                except Absent:
                    data = b""
            if data or ended or size < offset or time.monotonic() >= deadline:
                return LogPiece(data, offset, size, ended)
            time.sleep(min(LOOK_SECONDS, max(0.0, deadline - time.monotonic())))

    def _log_state(self) -> tuple[int, bool]:
        found = self.status().get("log")
        size = found.get("bytes") if isinstance(found, dict) else None
        ended = isinstance(found, dict) and found.get("ended") is True
        return (size if type(size) is int and 0 <= size <= MAX_LOG_BYTES else 0), ended

    def _whole(self, name: str, most: int, start: int = 0, *, cut: bool = False) -> bytes:
        """An object's bytes from one on, of at most so many; what is longer is cut, or refused."""
        data = bytearray()
        for piece in self._store.read(name, start):
            data += piece
            if len(data) > most:
                if cut:
                    return bytes(data[:most])
                raise self._nonsense("object: it is too long")
        return bytes(data)

    def _not_delivered(self) -> Unreachable:
        why = ""
        try:
            delivery = self.status().get("delivery")
            problem = delivery.get("problem") if isinstance(delivery, dict) else None
            if isinstance(problem, str):
                why = f"; it says: {problem[:MAX_PROBLEM]}"
        except (NotSeenYet, Unreachable, Refused):
            why = ""
        return Unreachable(
            f"the provider has not put the result into your store{why}",
            field="store",
            value=self._box.root,
            remedy="try again in a moment; if it stays so, the result that is committed can be demanded on chain: "
            "`gpubond job demand`",
        )

    def _nonsense(self, what: str) -> Refused:
        return Refused(
            f"the provider put no usable {what} into your store",
            field="store",
            value=self._box.root,
            remedy="try again; if it stays so, hire another provider. After the deadline you are refunded",
        )
