# SPDX-License-Identifier: Apache-2.0
"""The log of an attempt: what the job prints, as it comes, up to a limit."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path

MAX_LOG_BYTES = 8 << 20
_TAIL_BYTES = 4096
_logger = logging.getLogger(__name__)


class JobLog:
    """Copies a pipe into a file from a thread of its own; beyond the limit it reads on but keeps nothing."""

    def __init__(self, path: Path, on_log: Callable[[bytes], None] | None, max_bytes: int) -> None:
        self.path = path
        self.truncated = False
        self._on_log = on_log
        self._left = max_bytes
        self._tail = b""
        self._thread: threading.Thread | None = None
        self._full = False
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)

    @property
    def tail(self) -> bytes:
        """The last 4 KiB that the job printed."""
        return self._tail

    def follow(self, pipe: int) -> None:
        """Copy from `pipe` until its last writer has gone; closes it then."""
        self._thread = threading.Thread(target=self._copy, args=(pipe,), name="job-log", daemon=True)
        self._thread.start()

    def join(self, seconds: float) -> bool:
        """Wait for the end of the pipe; whether it was reached."""
        if self._thread is None:
            return True
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def remark(self, text: str) -> None:
        """Append a line of the worker's own; never cut."""
        self._emit(f"[gpubond] {text}\n".encode())

    def close(self) -> None:
        os.close(self._file)

    def _copy(self, pipe: int) -> None:
        try:
            while piece := os.read(pipe, 65536):
                self._tail = (self._tail + piece)[-_TAIL_BYTES:]
                kept = piece[: self._left]
                self._left -= len(kept)
                if kept:
                    self._emit(kept)
                if len(kept) < len(piece) and not self.truncated:
                    self.truncated = True
                    self.remark("log limit reached: the rest of the output is not kept")
        finally:
            os.close(pipe)

    def _emit(self, piece: bytes) -> None:
        view = memoryview(piece)
        try:
            while view:
                view = view[os.write(self._file, view) :]
        except OSError as error:
            # The pipe must be read on: a job that meets a closed one dies, by no fault of its own.
            if not self._full:
                self._full = True
                _logger.error("a job's log cannot be written: %s", error.strerror)
            self.truncated = True
        if self._on_log is not None:
            try:
                self._on_log(piece)
            except Exception:
                # A reader of the log who has gone is no reason to end the job.
                _logger.exception("a listener to a job's log failed")
                self._on_log = None
