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
        for name, fact in (("memory.events", "oom_kill"), ("memory.oom_control", "oom_kill"), ("memory.events", "max")):
            with contextlib.suppress(OSError, ValueError):
                found = dict(line.split() for line in (self._folder / name).read_text().splitlines())
                if int(found.get(fact, 0)) > 0:
                    self.killed = self.killed or fact == "oom_kill"
                    self.met = self.met or fact == "max"
        # Read last: whoever was killed for the limit met it before. Not every kernel counts failures.
        with contextlib.suppress(OSError, ValueError):
            self.met = self.met or int((self._folder / "memory.failcnt").read_text()) > 0
        with contextlib.suppress(OSError, ValueError):
            highest, limit = (
                int((self._folder / f"memory.{name}_in_bytes").read_text()) for name in ("max_usage", "limit")
            )
            self.met = self.met or highest >= limit - BATCH_BYTES


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
