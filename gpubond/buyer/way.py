# SPDX-License-Identifier: Apache-2.0
"""What a buyer needs of the way to a job's provider, be it the provider's gateway or the buyer's own store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from gpubond.buyer.gateway_client import LogPiece
from gpubond.errors import GpuBondError, Unreachable


class Way(Protocol):
    """Requests about one job. See `GatewayClient` and `StoreClient` for what they raise."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def status(self) -> dict[str, Any]:
        """Where the job stands on the provider's machine."""

    def cancel(self) -> dict[str, Any]:
        """Asks the provider to stop the job. May be repeated."""

    def upload(self, sha256: str, path: Path, on_progress: Any = None) -> None:
        """Brings the specification or an input; goes on where an earlier call broke off."""

    def download(self, sha256: str, size: int, target: Path, on_progress: Any = None) -> None:
        """Fetches one output of the manifest that was read before; nothing is at `target` unless it is that."""

    def manifest(self) -> bytes:
        """The canonical manifest of the outputs; check it against the result root on chain."""

    def follow_logs(self, offset: int = 0, wait: int = 0) -> Iterator[LogPiece]:
        """The log as it grows, until the run has ended; a piece without data comes after `wait` seconds of silence."""


def is_silence(error: GpuBondError) -> bool:
    """Whether it was the way to the provider that did not answer, and not the node."""
    return not isinstance(error, Unreachable) or error.field in ("gateway", "store")
