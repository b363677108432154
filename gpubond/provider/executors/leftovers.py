# SPDX-License-Identifier: Apache-2.0
"""Ends what a killed worker left behind.

A sandbox dies with its worker: the kernel sees to it, but for a moment while bubblewrap starts, in which its second
process does not know its parent yet (bubblewrap 0.8; it then waits for ever, and nothing of the job has begun). So
each sandbox carries a mark in its environment, by which it is found: by the next worker of the same data, or by its own
worker if that ends it in this moment. Its control groups carry the mark in their names.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path

from gpubond.provider.executors import cgroups

MARK = "GPUBOND_SANDBOX"

_MARK = re.compile(r"[0-9a-f]{32}\.[0-9]{1,10}\.[0-9]{1,20}\.[0-9]{1,20}")
_numbers = itertools.count()


def new_mark(root: Path) -> str:
    """What one sandbox of this process for the data below `root` carries. It tells nothing: a job may read it."""
    return f"{_name_of(root)}.{os.getpid()}.{_started(os.getpid())}.{next(_numbers)}"


def end_sandbox(mark: str) -> int:
    """Kills what carries this mark; returns how many processes that were."""
    return _end(lambda found: found == mark)


def end_leftovers(root: Path) -> int:
    """Kills sandboxes for the data below `root` whose worker is no more; returns how many processes that were."""

    def ours(mark: str) -> bool:
        return mark.startswith(f"{_name_of(root)}.")

    ended = _end(lambda mark: is_leftover(mark, root))
    cgroups.end_leftovers(ours, _is_dead)
    return ended


def is_leftover(mark: str, root: Path) -> bool:
    """Whether something that bears this mark is for the data below `root`, and its worker is no more."""
    return mark.startswith(f"{_name_of(root)}.") and _is_dead(mark)


def _is_dead(mark: str) -> bool:
    return _MARK.fullmatch(mark) is not None and not _worker_lives(mark)


def _end(meant: Callable[[str], bool]) -> int:
    ended = 0
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        # Others may be gone by now, or belong to other users.
        with contextlib.suppress(OSError):
            handle = os.pidfd_open(int(entry.name))
            try:
                mark = _mark_in((entry / "environ").read_bytes())
                if mark is not None and meant(mark):
                    signal.pidfd_send_signal(handle, signal.SIGKILL)
                    ended += 1
            finally:
                os.close(handle)
    return ended


def _mark_in(environment: bytes) -> str | None:
    found = [item for item in environment.split(b"\0") if item.startswith(f"{MARK}=".encode())]
    mark = found[0].decode(errors="replace").partition("=")[2] if found else ""
    return mark if _MARK.fullmatch(mark) else None


def _name_of(root: Path) -> str:
    return hashlib.sha256(os.fsencode(root.resolve())).hexdigest()[:32]


def _worker_lives(mark: str) -> bool:
    _, worker, started, _ = mark.split(".")
    return _started(int(worker)) == int(started)


def _started(process: int) -> int:
    """When a process began, in clock ticks since the machine did; 0 if there is none. It tells reused numbers apart."""
    try:
        # The name, in parentheses, may hold anything.
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return int(fields[19])
