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
    first, second = machine.run(
        RUN
        + """
# Else the job ends as it is compiled: this NVRTC is too new for the driver of the recording.
machine.says("driver", "cuda", 13000)
first = run(lambda: None)
machine.says("gpu0", "status", 15)
second = run(lambda: None)
gpus.stop()
print(json.dumps([first, second]))
"""
    )
    reason, _, _, device, energy, log = first
    assert Reason(reason).fault == "machine" and device == "NVIDIA GeForce RTX 4090"
    assert (energy["joules"], energy["source"]) == (0, "counter")
    assert "NVIDIA GeForce RTX 4090: 22 MiB of its memory cleared" in log
    # It was lost between two jobs: the next one's cause is that, and it never began.
    assert second[:2] == ["gpu_fault", 113] and "there is no GPU here" in second[2]
    assert len(machine.visible) == 1


SEES = """
import glob, json, os, resource
names = [n for n in glob.glob("/dev/nvidia*") + glob.glob("/dev/nvidia-caps/*") if not os.path.isdir(n)]
bounded = resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY
with open("out.txt", "w") as file:
    json.dump([sorted(names), os.environ.get("CUDA_VISIBLE_DEVICES"), os.path.isdir("/sys/class"), bounded], file)
"""


def test_a_python_job_gets_a_gpu_where_one_is_sold_and_none_of_class_cpu_sim(
    machine_with: Callable[[str], Machine],
) -> None:
    machine = machine_with("h100x2")
    sold, visible, failed, plain = machine.run(
        RUN
        + f"""
import time
from gpubond.provider.executors.process import ProcessExecutor
from gpubond.provider.gpus.allocation import Gpus
SEES = {SEES!r}

def python(class_name, during=lambda gpus: None):
    gpus = Gpus(class_name)
    bench.executor = ProcessExecutor(bench.root / "work", gpus=gpus)
    real = Held.start
    def start(self):
        real(self)
        during(gpus)
    Held.start = start
    attempt = bench.python(SEES)
    Held.start = real
    bench.executor.close()
    energy = None if attempt.energy is None else attempt.energy.model_dump()
    seen = json.loads(attempt.outputs["out.txt"].read_text()) if attempt.outputs else None
    return [attempt.reason, attempt.detail, attempt.device, energy, seen, log_of(attempt)]

def falls_off_the_bus(gpus):
    happens(machine, 0, 8, 79)
    while gpus._watch.position == 0:
        time.sleep(0.01)

H100 = "nvidia-h100-80gb-hbm3"
sold = python(H100, lambda gpus: machine.says("gpu0", "energy", 1234567890 + 5000))
visible = machine.visible
failed = python(H100, falls_off_the_bus)
print(json.dumps([sold, visible, failed, python("cpu-sim")]))
"""
    )
    uuid = "GPU-5b1f3c52-8d0e-4c6a-9a53-6f7c1d2e3a40"
    reason, _, device, energy, seen, log = sold
    assert (reason, device) == ("ok", "NVIDIA H100 80GB HBM3")
    # Its own GPU alone, and no limit on addresses, with which CUDA does not start.
    assert seen == [["/dev/nvidia-uvm", "/dev/nvidia0", "/dev/nvidiactl"], uuid, True, False]
    assert (energy["joules"], energy["source"]) == (5, "counter")
    # What was in its memory is overwritten before the job begins.
    assert visible == [uuid] and "of its memory cleared" in log
    # A GPU that fails voids the run, although the script ended well.
    assert failed[0] == "gpu_fault" and "Xid 79" in failed[1] and failed[4] is None
    # Who hires the processor gets the processor.
    assert plain[:1] + plain[2:5] == ["ok", "cpu", None, [[], None, False, True]]


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
