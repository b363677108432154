# SPDX-License-Identifier: Apache-2.0
"""Hears the driver's errors (Xids and uncorrected ECC errors) of all GPUs while the worker runs.

One thread waits for them in the driver's library; it looks up twice a second whether it is to end. What it hears is
logged for the owner, and kept for the job that runs on that GPU.
"""

from __future__ import annotations

import ctypes
import logging
import threading
from collections import deque
from dataclasses import dataclass
from typing import Any

from gpubond.provider.gpus.xids import AGEING_XIDS, MACHINE_XIDS, words
from gpubond.provider.nvml import library, value

logger = logging.getLogger(__name__)

_WAIT_MILLISECONDS = 500
# Before the next try, where the library failed.
_PAUSE_SECONDS = 5.0
_KEPT = 1024
# The library's mark of an event that concerns no slice in particular.
_WHOLE_GPU = 0xFFFFFFFF


@dataclass(frozen=True)
class Fault:
    """What the driver said of the GPU with this uuid; `gpu_instance` is None where it concerns all of it.

    xid: its number, None for an uncorrected ECC error that came without one.
    """

    number: int
    gpu: str
    gpu_instance: int | None
    xid: int | None

    @property
    def of_machine(self) -> bool:
        """Whether it is a fault of the machine, which no program brings about."""
        return self.xid is None or self.xid in MACHINE_XIDS

    @property
    def words(self) -> str:
        """What the driver said, in words."""
        return "an ECC error that could not be corrected" if self.xid is None else words(self.xid)


class Watch:
    """Thread-safe. `start` and `stop` may be called more than once."""

    def __init__(self) -> None:
        self._heard: deque[Fault] = deque(maxlen=_KEPT)
        self._changed = threading.Condition()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._ready = threading.Event()
        self._count = 0
        self._starting = threading.Lock()

    @property
    def position(self) -> int:
        """How many faults were heard until now."""
        with self._changed:
            return self._count

    def start(self, seconds: float = 5.0) -> None:
        """Begins to listen; waits until it does, so many seconds at most. Without the driver's library it does not."""
        with self._starting:
            if self._thread is None or not self._thread.is_alive():
                self._stop.clear()
                self._ready.clear()
                self._thread = threading.Thread(target=self._run, name="gpu-watch", daemon=True)
                self._thread.start()
        self._ready.wait(seconds)

    def stop(self) -> None:
        """Ends the thread and waits for it."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def since(self, position: int, gpu: str, gpu_instance: int | None, seconds: float = 0.0) -> list[Fault]:
        """What was heard of that GPU or slice after `position`; waits so many seconds at most for the first."""

        def found() -> list[Fault]:
            return [
                fault
                for fault in self._heard
                if fault.number > position
                and fault.gpu == gpu
                and (gpu_instance is None or fault.gpu_instance in (None, gpu_instance))
            ]

        with self._changed:
            if seconds and self._thread is not None and self._thread.is_alive():
                self._changed.wait_for(found, seconds)
            return found()

    def _run(self) -> None:
        try:
            import pynvml
        except ImportError:
            self._ready.set()
            return
        said = ""
        while not self._stop.is_set():
            try:
                with library() as nvml:
                    self._listen(nvml)
            except pynvml.NVMLError as error:
                if isinstance(error, pynvml.NVMLError_LibraryNotFound):
                    break
                # One that is lost fails every wait; it is said once.
                if str(error) != said:
                    said = str(error)
                    logger.warning("GPUs cannot be watched for errors: %s; tried again", error)
                self._ready.set()
                self._stop.wait(_PAUSE_SECONDS)
        self._ready.set()

    def _listen(self, nvml: Any) -> None:
        events = nvml.nvmlEventSetCreate()
        # By handle: one that has fallen off the bus cannot say any more which it is.
        names: dict[int, str] = {}
        try:
            wanted = nvml.nvmlEventTypeXidCriticalError | nvml.nvmlEventTypeDoubleBitEccError
            for index in range(nvml.nvmlDeviceGetCount()):
                try:
                    handle = nvml.nvmlDeviceGetHandleByIndex(index)
                    kinds = (value(nvml.nvmlDeviceGetSupportedEventTypes, handle) or 0) & wanted
                    if kinds:
                        nvml.nvmlDeviceRegisterEvents(handle, kinds, events)
                        names[_address(handle)] = str(nvml.nvmlDeviceGetUUID(handle))
                except nvml.NVMLError as error:
                    logger.warning("GPU %d cannot be watched for errors: %s", index, error)
            self._ready.set()
            if not names:
                self._stop.wait()
            while not self._stop.is_set():
                try:
                    event = nvml.nvmlEventSetWait(events, _WAIT_MILLISECONDS)
                except nvml.NVMLError_Timeout:
                    continue
                self._note(nvml, event, names.get(_address(event.device)) or _uuid(nvml, event.device))
        finally:
            nvml.nvmlEventSetFree(events)

    def _note(self, nvml: Any, event: Any, gpu: str) -> None:
        xid = int(event.eventData) if event.eventType == nvml.nvmlEventTypeXidCriticalError else None
        instance = None if event.gpuInstanceId == _WHOLE_GPU else int(event.gpuInstanceId)
        with self._changed:
            self._count += 1
            fault = Fault(self._count, gpu, instance, xid)
            self._heard.append(fault)
            self._changed.notify_all()
        level = logging.WARNING if fault.of_machine or xid in AGEING_XIDS else logging.INFO
        logger.log(level, "GPU %s: %s", gpu, fault.words)


def _uuid(nvml: Any, handle: Any) -> str:
    try:
        return str(nvml.nvmlDeviceGetUUID(handle))
    except nvml.NVMLError:
        return "unknown"


def _address(handle: Any) -> int:
    return ctypes.cast(handle, ctypes.c_void_p).value or 0
