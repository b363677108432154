# SPDX-License-Identifier: Apache-2.0
"""What a job's GPU consumed: by the driver's counter where the GPU has one, else by its power, read again and again.

A slice of a GPU has neither, and what the whole GPU consumes is not the job's: then nothing is measured.
"""

from __future__ import annotations

import threading
import time
from typing import Any

from gpubond.jobs.manifest import Energy
from gpubond.provider.nvml import library, value

_SAMPLE_SECONDS = 0.5


class Meter:
    """Measures one GPU, given by its uuid, from `start` to `stop`."""

    def __init__(self, gpu: str | None) -> None:
        self._gpu = gpu
        self._begin = 0.0
        self._counted: int | None = None
        self._joules = 0.0
        self._last: tuple[float, float] | None = None
        self._broken = False
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begins. What cannot be measured is no error: `stop` then says None."""
        if self._gpu is None:
            return
        self._begin = time.monotonic()
        self._counted = _read(self._gpu, "nvmlDeviceGetTotalEnergyConsumption")
        if self._counted is None and self._sample():
            self._thread = threading.Thread(target=self._sample_on, name="gpu-power", daemon=True)
            self._thread.start()

    def stop(self) -> Energy | None:
        """What was consumed since `start`; None where nothing tells, or what tells it failed in between."""
        if self._gpu is None:
            return None
        if self._counted is not None:
            now = _read(self._gpu, "nvmlDeviceGetTotalEnergyConsumption")
            seconds = time.monotonic() - self._begin
            # A counter that went back was reset, with its driver.
            if now is None or now < self._counted:
                return None
            return _energy((now - self._counted) / 1000, seconds, "counter")
        if self._thread is None:
            return None
        self._stop.set()
        self._thread.join()
        self._thread = None
        if not self._sample() or self._broken or self._last is None:
            return None
        return _energy(self._joules, self._last[0] - self._begin, "samples")

    def _sample_on(self) -> None:
        while not self._stop.wait(_SAMPLE_SECONDS):
            if not self._sample():
                self._broken = True
                return

    def _sample(self) -> bool:
        """Adds what was consumed since the last sample, as if power had changed evenly; whether power could be read."""
        assert self._gpu is not None  # noqa: S101  # by the callers
        milliwatts = _read(self._gpu, "nvmlDeviceGetPowerUsage")
        if milliwatts is None:
            return False
        now, watts = time.monotonic(), milliwatts / 1000
        if self._last is None:
            self._begin = now
        else:
            before, then = self._last
            self._joules += (now - before) * (watts + then) / 2
        self._last = (now, watts)
        return True


def _energy(joules: float, seconds: float, source: Any) -> Energy:
    return Energy(joules=round(joules), average_watts=round(joules / max(seconds, 1e-3)), source=source)


def _read(gpu: str, what: str) -> int | None:
    try:
        import pynvml
    except ImportError:
        return None
    try:
        with library() as nvml:
            found = value(getattr(nvml, what), nvml.nvmlDeviceGetHandleByUUID(gpu.encode()))
    except pynvml.NVMLError:
        return None
    return None if found is None else int(found)
