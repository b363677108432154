# SPDX-License-Identifier: Apache-2.0
"""Takes outputs out of a job's directory after its last process has ended, trusting nothing in it."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable
from pathlib import Path

from gpubond.jobs.reasons import Reason


class BadOutput(Exception):
    """An output is missing or unfit; `reason` says which."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


def _open_parent(root: int, parts: list[str], path: str) -> int:
    """Handle of the directory that holds the file, reached without following a link."""
    handle = os.dup(root)
    for part in parts:
        try:
            inner = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=handle)
        except FileNotFoundError as error:
            raise BadOutput(Reason.OUTPUT_MISSING, f"the job did not write {path!r}") from error
        except OSError as error:
            raise BadOutput(
                Reason.OUTPUT_INVALID, f"{path!r}: {part!r} is not a plain directory that can be entered"
            ) from error
        finally:
            os.close(handle)
        handle = inner
    return handle


def _take(root: int, path: str, target: Path, max_bytes: int) -> int:
    """Move one output to `target`; return its size in bytes."""
    *parents, name = path.split("/")
    parent = _open_parent(root, parents, path)
    try:
        try:
            # Non-blocking: opening a pipe without a writer must not wait.
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            handle = os.open(name, flags, dir_fd=parent)
        except FileNotFoundError as error:
            raise BadOutput(Reason.OUTPUT_MISSING, f"the job did not write {path!r}") from error
        except OSError as error:
            raise BadOutput(Reason.OUTPUT_INVALID, f"{path!r} is a link or cannot be opened") from error
        try:
            info = os.fstat(handle)
            if not stat.S_ISREG(info.st_mode):
                raise BadOutput(Reason.OUTPUT_INVALID, f"{path!r} is not a plain file")
            if info.st_nlink != 1:
                raise BadOutput(Reason.OUTPUT_INVALID, f"{path!r} is one file under several names (hard links)")
            if info.st_size > max_bytes:
                raise BadOutput(Reason.OUTPUT_INVALID, f"the outputs are larger than limits.disk_mib with {path!r}")
            os.rename(name, target, src_dir_fd=parent)
            if os.geteuid() == 0:
                os.fchown(handle, 0, 0)
            os.fchmod(handle, 0o400)
            return info.st_size
        finally:
            os.close(handle)
    finally:
        os.close(parent)


def collect_outputs(job_directory: Path, paths: Iterable[str], target: Path, max_bytes: int) -> dict[str, Path]:
    """Move the outputs into the new directory `target`; return path in the job -> file there.

    max_bytes: of all outputs together, holes of sparse files counted. Raises BadOutput.
    """
    target.mkdir(mode=0o700)
    outputs: dict[str, Path] = {}
    left = max_bytes
    root = os.open(job_directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    with contextlib.ExitStack() as stack:
        stack.callback(os.close, root)
        for number, path in enumerate(paths):
            file = target / f"{number:04d}"
            left -= _take(root, path, file, left)
            outputs[path] = file
    return outputs
