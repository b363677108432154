# SPDX-License-Identifier: Apache-2.0
"""Whether the kernel's group of a container met its limit of memory: asked of the group itself, while it is there.

Not every engine says so afterwards: podman 4.3 does not where the groups are of version 1.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from gpubond.provider.executors.cgroups import BATCH_BYTES

_ROOT = Path("/sys/fs/cgroup")


class MemoryGroup:
    """The group of a process. `met`: its limit was met; `killed`: the kernel killed a process of it for memory, the
    machine's if the limit was not met. Both as last seen."""

    def __init__(self, process: int) -> None:
        self.met = False
        self.killed = False
        self._folder = _folder_of(process)

    def look(self) -> None:
        """Asks once more; silence, as of a group that has gone, changes nothing."""
        if self._folder is None:
            return
        # Version 2 has memory.events, version 1 the others.
        events = self._facts("memory.events") or self._facts("memory.oom_control")
        self.killed = self.killed or events.get("oom_kill", 0) > 0
        self.met = self.met or events.get("max", 0) > 0
        if "max" in events:
            return
        # Read last: whoever was killed for the limit met it before. Not every kernel counts failures.
        with contextlib.suppress(OSError, ValueError):
            self.met = self.met or int((self._folder / "memory.failcnt").read_text()) > 0
        with contextlib.suppress(OSError, ValueError):
            highest, limit = (
                int((self._folder / f"memory.{name}_in_bytes").read_text()) for name in ("max_usage", "limit")
            )
            self.met = self.met or highest >= limit - BATCH_BYTES

    def _facts(self, name: str) -> dict[str, int]:
        assert self._folder is not None  # noqa: S101  # asked of a group that was found
        with contextlib.suppress(OSError, ValueError):
            lines = (self._folder / name).read_text().splitlines()
            return {fact: int(value) for fact, value in (line.split() for line in lines)}
        return {}

    def processes(self) -> list[int] | None:
        """Process ids (the host's) of all that are in it; None if nobody can tell."""
        if self._folder is not None:
            with contextlib.suppress(OSError):
                return [int(line) for line in (self._folder / "cgroup.procs").read_text().split()]
        return None


def _folder_of(process: int) -> Path | None:
    try:
        lines = Path(f"/proc/{process}/cgroup").read_text().splitlines()
    except OSError:
        return None
    paths = {controllers: path.lstrip("/") for _, controllers, path in (line.split(":", 2) for line in lines)}
    for controllers, path in paths.items():
        if "memory" in controllers.split(","):
            return _ROOT / "memory" / path
    return _ROOT / paths[""] if "" in paths else None
