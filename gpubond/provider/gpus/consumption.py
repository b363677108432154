# SPDX-License-Identifier: Apache-2.0
"""What jobs drew on this provider's GPUs, by class: its own measurement, which buyers may believe or not."""

from __future__ import annotations

import time
from collections import defaultdict
from typing import Any

from gpubond.provider.work import WorkLog

# The latest jobs count: what a GPU draws depends on what is run on it.
JOBS = 1000
_LOOK_SECONDS = 60.0


class Consumption:
    """Averages over the good runs of `work` whose energy NVML measured; `look` takes in what was delivered since."""

    def __init__(self, work: WorkLog) -> None:
        self._work = work
        self._seen: tuple[int, float] | None = None
        self._found: list[dict[str, Any]] = []

    def look(self) -> None:
        """Reads the store, once a minute at most and only if a job moved."""
        now = time.monotonic()
        if self._seen is not None and (self._seen[0] == self._work.moves or now - self._seen[1] < _LOOK_SECONDS):
            return
        self._seen = self._work.moves, now
        runs: dict[str, list[tuple[int, int]]] = defaultdict(list)
        for name, watts, seconds in self._work.drawn(JOBS):
            runs[name].append((watts, seconds))
        self._found = [
            {"class": name, "average_watts": _average(measured), "jobs": len(measured)}
            for name, measured in sorted(runs.items())
        ]

    def by_class(self) -> list[dict[str, Any]]:
        """For each class of which something was measured: `class`, `average_watts` (the whole GPU's, its idle power
        included, by the seconds of the runs) and `jobs`, how many were measured."""
        return self._found


def _average(runs: list[tuple[int, int]]) -> int:
    return round(sum(watts * seconds for watts, seconds in runs) / sum(seconds for _, seconds in runs))
