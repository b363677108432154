# SPDX-License-Identifier: Apache-2.0
"""Which job gets which GPU: one of its own, shown alone to its sandbox, free again whatever ends the worker."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable

from .machine import ROOT, Machine

# `see(held, name)`: what a process in a real sandbox sees that was given what is held.
SEE = """
import os, threading
from gpubond.provider.executors.launcher import Launchers
from gpubond.provider.executors.log import JobLog
from gpubond.provider.executors.sandbox import Sandbox, outer_user
from gpubond.provider.executors.supervise import Bounds, Supervisor
from gpubond.provider.gpus.allocation import Cancelled, Gpus, NoGpu

PROGRAM = '''
import glob, json, os, stat
names = [n for n in glob.glob("/dev/nvidia*") + glob.glob("/dev/nvidia-caps/*") if not os.path.isdir(n)]
print(json.dumps([sorted(names), os.environ.get("CUDA_VISIBLE_DEVICES"), os.path.isdir("/sys/class")]))
'''

def log_for(name):
    place = machine.directory / name
    place.mkdir()
    return JobLog(place / "log.txt", None, 1 << 20)

def see(held, name):
    root = machine.directory / f"{name}-root"
    directory = root / name
    (directory / "job").mkdir(parents=True)
    if outer_user() is not None:
        os.chown(directory / "job", outer_user(), outer_user())
    (directory / "spec.json").write_bytes(b"{}")
    sandbox = Sandbox(directory / "job", {}, [sys.executable, "-I", "-c", PROGRAM], {"core": 0}, 1 << 20,
                      directory / "spec.json")
    if held is not None:
        held.equip(sandbox)
    log = JobLog(directory / "log.txt", None, 1 << 20)
    bounds = Bounds(seconds=60, memory_bytes=1 << 40, disk_bytes=1 << 40)
    launchers = Launchers(root)
    ending = Supervisor(sandbox, launchers.take(), log, bounds, check=True).run(threading.Event())
    launchers.close()
    log.close()
    assert (ending.reason, ending.code) == (None, 0), (ending, log.tail)
    return json.loads(log.tail)

never = threading.Event()
"""


def test_two_jobs_see_one_gpu_each_and_a_third_waits(machine_with: Callable[[str], Machine]) -> None:
    machine = machine_with("h100x2")
    found = machine.run(
        SEE
        + """
gpus = Gpus("nvidia-h100-80gb-hbm3")
one, two = gpus.hold(never, log_for("a")), gpus.hold(never, log_for("b"))
seen = [see(one, "one"), see(two, "two"), see(None, "without")]
got = []
third = threading.Thread(target=lambda: got.append(gpus.hold(never, log_for("c"))))
third.start()
third.join(1.0)
waited = third.is_alive()
two.release()
two.release()
third.join()
got[0].release(), one.release(), gpus.stop()
left = [thread.name for thread in threading.enumerate() if thread.name.startswith("gpu-")]
print(json.dumps({"seen": seen, "waited": waited, "second": two.unit.uuid, "third": got[0].unit.uuid, "left": left}))
"""
    )
    one, two, without = found["seen"]
    assert one == [
        ["/dev/nvidia-uvm", "/dev/nvidia0", "/dev/nvidiactl"],
        "GPU-5b1f3c52-8d0e-4c6a-9a53-6f7c1d2e3a40",
        True,
    ]
    assert two[:2] == [
        ["/dev/nvidia-uvm", "/dev/nvidia1", "/dev/nvidiactl"],
        "GPU-c7a9d1e4-02b6-47f8-8e1d-0b9a8c7d6e51",
    ]
    # A job of the processor sees nothing of them.
    assert without == [[], None, False]
    # A unit that is given back twice is given away once.
    assert found["waited"] and found["third"] == found["second"]
    assert found["left"] == []


def test_a_slice_comes_with_its_capabilities_alone(machine_with: Callable[[str], Machine]) -> None:
    machine = machine_with("a100-mig")
    machine.cut({"gpu0/gi9/access": 84, "gpu0/gi9/ci0/access": 85, "gpu0/gi10/access": 93, "gpu0/gi10/ci0/access": 94})
    seen = machine.run(
        SEE
        + """
gpus = Gpus("nvidia-a100-40gb-mig-1g-5gb")
held = [gpus.hold(never, log_for("a")), gpus.hold(never, log_for("b"))]
print(json.dumps([see(each, f"job{number}")[:2] for number, each in enumerate(held)]))
gpus.stop()
"""
    )
    common = ["/dev/nvidia-uvm", "/dev/nvidia0", "/dev/nvidiactl"]
    assert seen == [
        [
            sorted([*common, "/dev/nvidia-caps/nvidia-cap84", "/dev/nvidia-caps/nvidia-cap85"]),
            "MIG-a28ad590-3fda-56dd-84fc-0a0b96edc58d",
        ],
        [
            sorted([*common, "/dev/nvidia-caps/nvidia-cap93", "/dev/nvidia-caps/nvidia-cap94"]),
            "MIG-63feeb45-94c6-50da-8f8f-2a3b7d1e9c06",
        ],
    ]


def test_a_cancelled_job_stops_waiting_and_a_class_that_is_gone_is_said(machine_with: Callable[[str], Machine]) -> None:
    machine = machine_with("rtx4090")
    said = machine.run(
        SEE
        + """
gpus = Gpus("nvidia-geforce-rtx-4090")
held = gpus.hold(never, log_for("a"))
log = (machine.directory / "a" / "log.txt").read_text()
cancel, said = threading.Event(), []
def wait():
    try:
        gpus.hold(cancel, log_for("b"))
    except Cancelled:
        said.append("cancelled")
waiting = threading.Thread(target=wait)
waiting.start()
cancel.set()
waiting.join()
held.release()
machine.says("gpu0", "status", 15)
try:
    gpus.hold(never, log_for("c"))
except NoGpu as error:
    said.append(str(error))
gpus.stop()
print(json.dumps([said, log]))
"""
    )
    assert said[0] == ["cancelled", "there is no GPU of class nvidia-geforce-rtx-4090 here"]
    # Somebody else computes there: the buyer can read that in the log.
    assert "other processes compute on NVIDIA GeForce RTX 4090 as well: 1" in said[1]


def test_one_that_others_compute_on_is_given_last(machine_with: Callable[[str], Machine]) -> None:
    machine = machine_with("h100x2")
    machine.says("gpu0", "process", 4711)
    got = machine.run(
        SEE
        + """
gpus = Gpus()
print(json.dumps([gpus.hold(never, log_for(name)).unit.place for name in "ab"]))
gpus.stop()
"""
    )
    assert [place.split()[1] for place in got] == ["1", "0"]


def test_a_worker_that_was_killed_leaves_nothing_taken(machine_with: Callable[[str], Machine]) -> None:
    machine = machine_with("h100x2")
    script = f"""
import json, sys
sys.path.insert(0, {str(ROOT)!r})
from tests.worker.gpus.machine import there
machine = there({str(machine.directory)!r})
{SEE}
gpus = Gpus("nvidia-h100-80gb-hbm3")
held = [gpus.hold(never, log_for(sys.argv[1] + name)) for name in "ab"]
print(json.dumps([each.unit.uuid for each in held]), flush=True)
sys.stdin.read()
"""
    taken = []
    for life in range(2):
        worker = subprocess.Popen(
            [sys.executable, "-c", script, f"life{life}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **machine.environment},
        )
        assert worker.stdin is not None and worker.stdout is not None
        taken.append(json.loads(worker.stdout.readline()))
        worker.kill()
        worker.wait()
        worker.stdin.close()
        worker.stdout.close()
    assert all(set(each) == set(taken[0]) and len(each) == 2 for each in taken)
