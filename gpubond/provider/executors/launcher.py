# SPDX-License-Identifier: Apache-2.0
"""Programs that wait for the plan of a sandbox: started ahead, as a start of Python takes longer than all the rest."""

from __future__ import annotations

import contextlib
import marshal
import os
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from gpubond.provider.executors.cgroups import Group
from gpubond.provider.executors.leftovers import MARK, new_mark
from gpubond.provider.executors.sandbox import machine_plan

_LAUNCH = Path(__file__).with_name("launch.py")


class Launcher:
    """One `launch.py` that waits. It ends by itself when its plan does not come because the worker has gone.

    mark: what its sandbox will be known by. group: its control groups, if there are any, without limits yet.
    status, ready: read ends of pipes, not blocking, of bubblewrap's messages and of those of the first program inside.
    log: read end of what is printed. bare: for jobs without a sandbox.
    """

    def __init__(self, root: Path, *, bare: bool = False) -> None:
        self.mark = new_mark(root)
        self.group = Group.make(self.mark)
        self.status, status_write = os.pipe()
        self.ready, ready_write = os.pipe()
        self.log: int | None
        self.log, log_write = os.pipe()
        for handle in (self.status, self.ready):
            os.set_blocking(handle, False)
        try:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-I", "-S", str(_LAUNCH), str(os.getpid()), str(status_write), str(ready_write)),
                    *([] if self.group is None else self.group.entrances),
                ],
                stdin=subprocess.PIPE,
                stdout=log_write,
                stderr=log_write,
                pass_fds=(status_write, ready_write),
                cwd="/",
                env={"LANG": "C.UTF-8", MARK: self.mark},
            )
            self._send(machine_plan(bare=bare))
        except BaseException:
            self.close()
            raise
        finally:
            for handle in (status_write, ready_write, log_write):
                os.close(handle)

    def start(self, plan: dict[str, Any]) -> None:
        """Give it the rest of its plan; see `sandbox.plan_of`."""
        self._send(plan)
        assert self.process.stdin is not None  # noqa: S101  # a pipe
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()

    def _send(self, part: dict[str, Any]) -> None:
        assert self.process.stdin is not None  # noqa: S101  # a pipe
        # One that has died says so by its exit code.
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(marshal.dumps(part))
            self.process.stdin.flush()

    def take_log(self) -> int:
        """The pipe of what is printed; whoever takes it closes it."""
        handle, self.log = self.log, None
        assert handle is not None  # noqa: S101  # it is taken once
        return handle

    def close(self) -> None:
        """Close the pipes that were not taken, and remove the groups, whose processes have ended."""
        handles = [self.status, self.ready, *([] if self.log is None else [self.log])]
        self.log = None
        for handle in handles:
            os.close(handle)
        if self.group is not None:
            self.group.remove()

    def discard(self) -> None:
        """End one that is not needed."""
        self.process.kill()
        with contextlib.suppress(BrokenPipeError):
            self.process.communicate()
        self.close()


class Launchers:
    """Keeps one launcher ready. Thread-safe; what is not used ends with this object, or with the process."""

    def __init__(self, root: Path, *, bare: bool = False) -> None:
        self._root = root
        self._bare = bare
        self._lock = threading.Lock()
        self._waiting: list[Launcher] = []
        # The kernel ends a sandbox with the thread that started it, not with the process: so one thread starts all of
        # them, and lives as long as this object.
        self._starter = ThreadPoolExecutor(max_workers=1, thread_name_prefix="launcher")
        self._discard: Callable[[], object] = weakref.finalize(self, _discard_all, self._waiting)

    def take(self) -> Launcher:
        """One for a sandbox now."""
        with self._lock:
            while self._waiting:
                launcher = self._waiting.pop()
                if launcher.process.poll() is None:
                    return launcher
                launcher.discard()
        return self._start()

    def refill(self) -> None:
        """Start one for the next time, if none waits."""
        with self._lock:
            if not self._waiting:
                self._waiting.append(self._start())

    def close(self) -> None:
        """End those that wait."""
        self._discard()

    def _start(self) -> Launcher:
        return self._starter.submit(Launcher, self._root, bare=self._bare).result()


def _discard_all(waiting: list[Launcher]) -> None:
    while waiting:
        waiting.pop().discard()
