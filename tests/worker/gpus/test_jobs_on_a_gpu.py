# SPDX-License-Identifier: Apache-2.0
"""Jobs through the real executor on a recorded machine.

Its GPU computes nothing: inside the sandbox there is no driver, so that every run of a `cuda` job fails there, and what
is looked at is what the worker makes of that.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from gpubond.jobs.blobs import BlobStore
from gpubond.jobs.manifest import Energy, Manifest
from gpubond.jobs.reasons import Reason
from gpubond.provider.executors.attempt import Attempt
from gpubond.provider.runs import failed_result

from .machine import Machine

RUN = '''
from gpubond.provider.gpus.allocation import Held
from tests.worker.bench import Bench, log_of
from tests.worker.gpus.machine import happens
from tests.worker.runtimes.test_cuda import SCALE, SCALE_BUFFERS, SCALE_LAUNCH, npy
import numpy as np

bench = Bench(machine.directory)
gpus = bench.executor._gpus

def run(during):
    """`during` happens when the job has its GPU and begins."""
    real = Held.start
    def start(self):
        real(self)
        during()
    Held.start = start
    attempt = bench.cuda(SCALE, SCALE_BUFFERS, [SCALE_LAUNCH], files={"a.npy": npy(np.zeros(10, np.float32))})
    Held.start = real
    energy = None if attempt.energy is None else attempt.energy.model_dump()
    return [attempt.reason, attempt.exit_code, attempt.detail, attempt.device, energy, log_of(attempt)]
'''


def test_a_run_on_a_gpu_is_cleared_measured_and_given_back(machine_with: Callable[[str], Machine]) -> None:
    machine = machine_with("rtx4090")
    first, second, python = machine.run(
        RUN
        + """
# Else the job ends as it is compiled: this NVRTC is too new for the driver of the recording.
machine.says("driver", "cuda", 13000)
first = run(lambda: None)
machine.says("gpu0", "status", 15)
second = run(lambda: None)
machine.says("gpu0", "status", 0)
attempt = bench.python("import glob; open('out.txt', 'w').write(str(glob.glob('/dev/nvidia*')))")
python = [attempt.reason, attempt.device, attempt.energy, attempt.outputs["out.txt"].read_text()]
gpus.stop()
print(json.dumps([first, second, python]))
"""
    )
    reason, _, _, device, energy, log = first
    assert Reason(reason).fault == "machine" and device == "NVIDIA GeForce RTX 4090"
    assert (energy["joules"], energy["source"]) == (0, "counter")
    assert "NVIDIA GeForce RTX 4090: 22 MiB of its memory cleared" in log
    # It was lost between two jobs: the next one's cause is that, and it never began.
    assert second[:2] == ["gpu_fault", 113] and "there is no GPU here" in second[2]
    # A job of the processor gets none, and none is cleared for it.
    assert python == ["ok", "cpu", None, "[]"]
    assert len(machine.visible) == 1


def test_an_xid_during_a_run_is_its_cause(machine_with: Callable[[str], Machine]) -> None:
    machine = machine_with("h100x2")
    (found,) = machine.run(
        RUN
        + """
found = run(lambda: (machine.says("gpu0", "energy", 1234567890 + 5000), happens(machine, 0, 8, 79)))
gpus.stop()
print(json.dumps([found]))
"""
    )
    assert found[:3] == ["gpu_fault", 113, "GPU 0 (00000000:19:00.0): Xid 79: the GPU has fallen off the bus"]
    assert found[4]["joules"] == 5
    assert "gpu_fault: GPU 0" in found[5]


def test_what_a_stopped_run_consumed_is_committed_with_it(tmp_path: Path) -> None:
    energy = Energy(joules=12, average_watts=6, source="samples")
    stopped = Attempt(130, Reason.CANCELLED, 2, "", Path(), False, {}, "NVIDIA GeForce GTX 1080", energy)
    blobs = BlobStore(tmp_path)
    result = failed_result("ab" * 32, blobs, Reason.CANCELLED_BY_BUYER, 2, stopped)
    manifest = Manifest.parse(blobs.path(result["manifest"]).read_bytes())
    assert (manifest.energy, manifest.device) == (energy, "NVIDIA GeForce GTX 1080")
