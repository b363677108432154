# SPDX-License-Identifier: Apache-2.0
"""What the driver reports while a job runs: a fault of the GPU becomes the job's cause, one of the job's does not."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from gpubond.jobs.causes import XIDS
from gpubond.jobs.reasons import Reason
from gpubond.provider.executors.xid import Report
from gpubond.provider.gpus.xids import AGEING_XIDS, MACHINE_XIDS

from .machine import Machine
from .test_allocation import SEE

# `judged(ending, events)`: what is said of a job that ended so, after these events; and with which outputs.
JUDGE = (
    SEE
    + """
from gpubond.jobs.reasons import Reason
from gpubond.provider.executors.supervise import Ending
from tests.worker.gpus.machine import happens

def judged(gpus, held, ending, *events):
    held.start()
    for event in events:
        happens(machine, *event)
    if events:
        # Until it was heard; the driver reports after a moment.
        while gpus._watch.position < held._position + len(events):
            threading.Event().wait(0.01)
    ending, outputs = held.finish(ending, {"out": Path("out")})
    return [ending.reason, ending.code, ending.detail, list(outputs)]

FINE = Ending(0, None, "", 5)
FAILED = Ending(1, Reason.LAUNCH_ERROR, "an illegal address", 5)
STOPPED = Ending(0, Reason.CANCELLED, "ended from outside", 5)
"""
)


def test_a_fault_of_the_gpu_is_the_cause_whatever_the_ending(machine_with: Callable[[str], Machine]) -> None:
    found = machine_with("h100x2").run(
        JUDGE
        + """
gpus = Gpus()
held, other = gpus.hold(never, log_for("a")), gpus.hold(never, log_for("b"))
found = [
    judged(gpus, held, FINE),
    judged(gpus, held, FINE, (0, 8, 79)),
    judged(gpus, held, FAILED, (0, 8, 13), (0, 8, 119)),
    judged(gpus, held, FAILED, (0, 2, 0)),
    # What came before does not count, nor what concerns the other GPU, nor a run that was ended from outside.
    judged(gpus, held, FINE),
    judged(gpus, held, FINE, (1, 8, 79)),
    judged(gpus, held, STOPPED, (0, 8, 79)),
    # A program's own fault is named, and stays its own; signs of ageing are for the owner.
    judged(gpus, held, FAILED, (0, 8, 31)),
    judged(gpus, held, FINE, (0, 8, 13)),
    judged(gpus, held, FINE, (0, 8, 63)),
]
print(json.dumps(found))
gpus.stop()
"""
    )
    place = "GPU 0 (00000000:19:00.0)"
    assert found == [
        [None, 0, "", ["out"]],
        ["gpu_fault", 0, f"{place}: Xid 79: the GPU has fallen off the bus", []],
        ["gpu_fault", 0, f"{place}: Xid 119: the GPU's system processor does not answer", []],
        ["gpu_fault", 0, f"{place}: an ECC error that could not be corrected", []],
        [None, 0, "", ["out"]],
        [None, 0, "", ["out"]],
        ["cancelled", 0, "ended from outside", ["out"]],
        ["launch_error", 1, "an illegal address (Xid 31: memory page fault)", ["out"]],
        [None, 0, "", ["out"]],
        [None, 0, "", ["out"]],
    ]


def test_errors_that_the_counter_shows_without_an_event(machine_with: Callable[[str], Machine]) -> None:
    machine = machine_with("h100x2")
    machine.says("gpu0", "ecc_uncorrected", 3)
    found = machine.run(
        JUDGE
        + """
gpus = Gpus()
held = gpus.hold(never, log_for("a"))
held.start()
before = held.finish(FINE, {})[0].reason
held.start()
machine.says("gpu0", "ecc_uncorrected", 5)
after = held.finish(FINE, {})[0]
held.release()
# One that failed is given last from then on.
print(json.dumps([before, after.reason, after.detail, gpus.hold(never, log_for("b")).unit.place]))
gpus.stop()
"""
    )
    assert found[:2] == [None, "gpu_fault"] and "2 ECC errors that could not be corrected" in found[2]
    assert found[3].startswith("GPU 1")


def test_a_slice_is_not_blamed_for_its_neighbour(machine_with: Callable[[str], Machine]) -> None:
    found = machine_with("a100-mig").run(
        JUDGE
        + """
gpus = Gpus("nvidia-a100-40gb-mig-1g-5gb")
held = gpus.hold(never, log_for("a"))
found = [held.unit.gpu_instance, *(judged(gpus, held, FINE, (0, 8, 94, instance))[0] for instance in (10, 9, -1))]
print(json.dumps([*found, held.energy]))
gpus.stop()
"""
    )
    # What the whole GPU consumes is not the slice's: nothing is said of it.
    assert found == [9, None, "gpu_fault", "gpu_fault", None]


def test_the_watch_ends_cleanly_and_goes_on_after_a_failing_driver(machine_with: Callable[[str], Machine]) -> None:
    machine = machine_with("h100x2")
    threads = machine.run(
        """
import threading
from gpubond.provider.gpus.watch import Watch
def names():
    return [thread.name for thread in threading.enumerate() if thread.name == "gpu-watch"]
found = []
watch = Watch()
watch.start()
watch.start()
found.append(names())
watch.stop()
watch.stop()
found.append(names())
watch.start()
found.append(names())
watch.stop()
machine.says("driver", "status", 18)
watch.start()
found.append(names())
watch.stop()
found.append(names())
print(json.dumps(found))
"""
    )
    assert threads == [["gpu-watch"], [], ["gpu-watch"], ["gpu-watch"], []]


def test_without_a_library_there_is_nothing_to_watch(tmp_path: object) -> None:
    from gpubond.provider.gpus.watch import Watch

    watch = Watch()
    watch.start(60)
    watch.stop()
    assert (watch.position, watch.since(0, "GPU-x", None)) == (0, [])


def test_what_a_program_brings_about_is_no_fault_of_the_machine() -> None:
    # Exceptions of kernels, illegal addresses, what ends with them: whoever could have these taken for the machine's
    # fault could spoil a provider's record.
    assert not {8, 11, 13, 31, 32, 43, 45, 68, 69, 109} & (MACHINE_XIDS | AGEING_XIDS)
    assert not MACHINE_XIDS & AGEING_XIDS
    assert Reason.GPU_FAULT.fault == "machine"


def test_a_line_of_the_kernels_log_is_of_one_gpu() -> None:
    lost = Report("0000:3b:00", XIDS[79])
    assert lost.is_of("00000000:3B:00.0") and lost.is_of("")
    assert not lost.is_of("00000000:19:00.0") and not lost.is_of("00000001:3B:00.0")


@pytest.mark.parametrize("recording", ["h100x2", "gtx1080", "gb10"])
def test_energy_is_measured_by_counter_or_by_power(machine_with: Callable[[str], Machine], recording: str) -> None:
    machine = machine_with(recording)
    found = machine.run(
        JUDGE
        + """
import time
gpus = Gpus()
held = gpus.hold(never, log_for("a"))
begin = time.monotonic()
held.start()
machine.says("gpu0", "energy", 2234567890) if sys.argv[1] == "h100x2" else None
threading.Event().wait(1.2)
held.finish(FINE, {})
seconds = time.monotonic() - begin
print(json.dumps([held.energy.model_dump(), seconds]))
held.release(), gpus.stop()
""",
        recording,
    )
    energy, seconds = found
    if recording == "h100x2":
        assert (energy["joules"], energy["source"]) == (1_000_000, "counter")
        assert energy["average_watts"] >= 1_000_000 / seconds - 1
    elif recording == "gtx1080":
        # It draws 38 W all the time.
        assert energy["source"] == "samples" and energy["average_watts"] == 38
        assert 0 < energy["joules"] <= 38 * seconds + 1
    else:
        assert (energy["joules"], energy["source"]) == (0, "counter")


def test_energy_that_cannot_be_measured_is_not_named(machine_with: Callable[[str], Machine]) -> None:
    machine = machine_with("gtx1080")
    machine.says("gpu0", "power", None)
    found = machine.run(
        JUDGE
        + """
gpus = Gpus()
held = gpus.hold(never, log_for("a"))
found = []
held.start()
held.finish(FINE, {})
found.append(held.energy)
# A counter that was reset, and one that went away.
for before, after in ((500, 400), (500, None)):
    machine.says("gpu0", "energy", before)
    held.start()
    machine.says("gpu0", "energy", after)
    held.finish(FINE, {})
    found.append(held.energy)
print(json.dumps(found))
gpus.stop()
"""
    )
    assert found == [None, None, None]
