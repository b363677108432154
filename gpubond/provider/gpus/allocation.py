# SPDX-License-Identifier: Apache-2.0
"""Gives each job that needs a GPU one of its own, and takes it back when the job has ended.

Nothing of it is stored: which units there are is asked of the driver each time, and which are taken is what this
process runs. A worker that was killed took its jobs along (see executors/leftovers.py), so the next one finds all free.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import replace
from pathlib import Path

from gpubond.jobs.manifest import Energy
from gpubond.jobs.reasons import Reason
from gpubond.provider import devices, nvml
from gpubond.provider.executors.log import JobLog
from gpubond.provider.executors.sandbox import Sandbox
from gpubond.provider.executors.supervise import Ending
from gpubond.provider.gpus import units as gpu_units
from gpubond.provider.gpus.clear import NotCleared, clear
from gpubond.provider.gpus.energy import Meter
from gpubond.provider.gpus.units import Unit, cdi_name, machine_units
from gpubond.provider.gpus.watch import Fault, Watch

logger = logging.getLogger(__name__)

_POLL_SECONDS = 0.2
# The driver tells of an error a moment after the job has met it.
_GRACE_SECONDS = 1.0


class Cancelled(Exception):
    """The job was cancelled while it waited for a GPU."""


class NoGpu(Exception):
    """This machine has no GPU of the class that jobs may get (any more)."""


class Share:
    """What a job has of the GPUs: here nothing. `equip` its sandbox, `start` just before it runs, `finish` just after,
    `release` last.

    refusal: how the job ends that should have had a GPU and got none. energy: what was consumed, after `finish`.
    """

    def __init__(self, refusal: Ending | None = None) -> None:
        self.refusal = refusal
        self.energy: Energy | None = None

    def device(self, otherwise: str) -> str:
        """What the job runs on; `otherwise` where that is no GPU."""
        return otherwise

    @property
    def gpu_class(self) -> str | None:
        """The resource class of the job's GPU; None without one."""
        return None

    @property
    def cdi_name(self) -> str | None:
        """What containers know the job's GPU by; None without one."""
        return None

    def equip(self, sandbox: Sandbox) -> None:
        """Shows the job's GPU to the sandbox, and no other."""

    def start(self) -> None:
        """The job begins."""

    def finish(self, ending: Ending, outputs: dict[str, Path]) -> tuple[Ending, dict[str, Path]]:
        """The job has ended so, with these outputs: what is to be believed of that."""
        return ending, outputs

    def release(self) -> None:
        """Gives the GPU back. May be called again."""


class Gpus:
    """The units of this machine. Thread-safe.

    class_name: only units of this class are given to jobs; None, or a class that no GPU has, for any.
    """

    def __init__(self, class_name: str | None = None) -> None:
        self._class = class_name if class_name is not None and class_name.startswith("nvidia-") else None
        self._of_cpu = class_name == devices.CPU_SIM
        self._taken: dict[str, Held] = {}
        self._faulty: set[str] = set()
        self._free = threading.Condition()
        self._watch = Watch()

    def units(self) -> list[Unit]:
        """The units that jobs may get, as the driver tells of them now."""
        return [unit for unit in machine_units() if self._class in (None, unit.class_name)]

    @property
    def sold(self) -> bool:
        """Whether who hires this machine has hired a GPU: it has one, and the class on offer is not `cpu-sim`."""
        return not self._of_cpu and devices.has_gpu()

    def start(self) -> None:
        """Begins to listen to the driver's errors, for the owner's log and for the jobs."""
        self._watch.start()

    def stop(self) -> None:
        """Ends that. No job may hold a unit."""
        self._watch.stop()

    def share(self, wanted: bool, cancel: threading.Event, log: JobLog) -> Share:
        """What a job has of the GPUs: nothing, or if it is `wanted` a unit; else `refusal` says how it ends."""
        if not wanted:
            return Share()
        try:
            return self.hold(cancel, log)
        except (NoGpu, NotCleared) as error:
            return Share(Ending(0, Reason.GPU_FAULT, str(error), 1))
        except Cancelled:
            return Share(Ending(0, Reason.CANCELLED, "ended from outside", 1))

    def hold(self, cancel: threading.Event, log: JobLog) -> Held:
        """Takes a unit for a job, with nothing left in its memory; waits while all are taken.

        Raises:
            NoGpu: there is no such GPU (any more).
            Cancelled: `cancel` was set meanwhile.
            NotCleared: the unit's memory could not be overwritten.
        """
        self.start()
        unit = self._take(cancel)
        held = self._taken[unit.key]
        try:
            if unit.busy_with:
                log.remark(f"other processes compute on {unit.name} as well: {unit.busy_with}")
            cleared = clear(unit.uuid)
            log.remark(f"{unit.name}: {cleared} MiB of its memory cleared")
        except BaseException:
            held.release()
            raise
        return held

    def _take(self, cancel: threading.Event) -> Unit:
        with self._free:
            while True:
                if cancel.is_set():
                    raise Cancelled
                units = self.units()
                if not units:
                    raise NoGpu(f"there is no GPU {'' if self._class is None else f'of class {self._class} '}here")
                free = [unit for unit in units if unit.key not in self._taken]
                if free:
                    # One that failed, or that somebody else computes on, only if there is no other.
                    unit = min(free, key=lambda each: (each.key in self._faulty, each.busy_with))
                    self._taken[unit.key] = Held(self, unit, self._watch)
                    return unit
                self._free.wait(_POLL_SECONDS)

    def give_back(self, unit: Unit, *, faulty: bool) -> None:
        """Called by what is held."""
        with self._free:
            self._taken.pop(unit.key, None)
            if faulty:
                self._faulty.add(unit.key)
            self._free.notify()


class Held(Share):
    """A unit that a job has to itself."""

    def __init__(self, gpus: Gpus, unit: Unit, watch: Watch) -> None:
        super().__init__()
        self.unit = unit
        self._gpus = gpus
        self._watch = watch
        self._meter = Meter(unit.gpu if unit.gpu_instance is None else None)
        self._position = 0
        self._uncorrected: int | None = None
        self._faulty = self._released = False

    def device(self, otherwise: str) -> str:
        return self.unit.name

    @property
    def gpu_class(self) -> str | None:
        return self.unit.class_name

    @property
    def cdi_name(self) -> str | None:
        return cdi_name(self.unit)

    def equip(self, sandbox: Sandbox) -> None:
        sandbox.gpu = {str(Path("/dev") / node.relative_to(gpu_units.DEV)): node for node in self.unit.nodes}
        # The kernel's log does not tell slices apart; the watch does.
        sandbox.gpu_reports = None if self.unit.gpu_instance is not None else self.unit.bus_id
        sandbox.environment = {**sandbox.environment, **self.environment}

    @property
    def environment(self) -> dict[str, str]:
        """What makes CUDA take this unit, whatever else it might see."""
        return {} if self.unit.uuid is None else {"CUDA_VISIBLE_DEVICES": self.unit.uuid}

    def start(self) -> None:
        self._position = self._watch.position
        self._uncorrected = _uncorrected(self.unit)
        self._meter.start()

    def finish(self, ending: Ending, outputs: dict[str, Path]) -> tuple[Ending, dict[str, Path]]:
        """A fault of the machine since `start` is the cause of whatever ending, but one from outside; what was computed
        then is not kept."""
        self.energy = self._meter.stop()
        if ending.reason is Reason.CANCELLED or self.unit.gpu is None:
            return ending, outputs
        failed = ending.reason not in (None, Reason.OK)
        heard = self._watch.since(
            self._position, self.unit.gpu, self.unit.gpu_instance, _GRACE_SECONDS if failed else 0.0
        )
        words = [fault.words for fault in heard if fault.of_machine]
        if not words:
            before, now = self._uncorrected, _uncorrected(self.unit)
            if before is not None and now is not None and now > before:
                words = [f"{now - before} ECC errors that could not be corrected"]
        if not words:
            return self._explained(ending, heard), outputs
        self._faulty = True
        detail = f"{self.unit.place}: {'; '.join(dict.fromkeys(words))}"
        logger.error("%s failed while a job ran on it: %s", self.unit.name, detail)
        return replace(ending, code=0, reason=Reason.GPU_FAULT, detail=detail), {}

    def release(self) -> None:
        self._meter.stop()
        if not self._released:
            self._released = True
            self._gpus.give_back(self.unit, faulty=self._faulty)

    def _explained(self, ending: Ending, heard: list[Fault]) -> Ending:
        numbers = ", ".join(dict.fromkeys(fault.words for fault in heard))
        if not numbers or ending.reason in (None, Reason.OK):
            return ending
        return replace(ending, detail=f"{ending.detail} ({numbers})")


def _uncorrected(unit: Unit) -> int | None:
    """ECC errors of the unit's GPU that could not be corrected; None for a slice, whose neighbours count along."""
    if unit.gpu_instance is not None:
        return None
    return next((gpu.uncorrected for gpu in nvml.look().gpus if gpu.uuid == unit.gpu), None)
