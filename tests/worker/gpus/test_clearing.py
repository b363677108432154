# SPDX-License-Identifier: Apache-2.0
"""Nobody reads what was in a GPU's memory before: it is overwritten before each job, or the job does not begin."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest

from gpubond.provider import devices

from .machine import MEMORY_BYTES, MIB, Machine
from .test_allocation import SEE


def test_memory_is_overwritten_before_every_job(machine_with: Callable[[str], Machine]) -> None:
    machine = machine_with("h100x2")
    found = machine.run(
        SEE
        + """
gpus = Gpus()
held = gpus.hold(never, log_for("a"))
empty = not any(machine.memory.read_bytes())
# The first job leaves a secret, and the second finds none.
machine.memory.write_bytes(b"secret" * 1000 + machine.memory.read_bytes()[6000:])
held.release()
gpus.hold(never, log_for("b"))
print(json.dumps([empty, not any(machine.memory.read_bytes()), (machine.directory / "b" / "log.txt").read_text()]))
gpus.stop()
"""
    )
    assert found[:2] == [True, True]
    assert f"{MEMORY_BYTES // MIB} MiB of its memory cleared" in found[2]
    # Of that GPU, by the name that CUDA has for it.
    assert machine.visible == ["GPU-5b1f3c52-8d0e-4c6a-9a53-6f7c1d2e3a40"] * 2


def test_a_job_whose_gpu_cannot_be_cleared_does_not_begin(machine_with: Callable[[str], Machine]) -> None:
    machine = machine_with("h100x2")
    machine.memory.write_bytes(b"")
    said = machine.run(
        SEE
        + """
from gpubond.provider.gpus.clear import NotCleared
gpus = Gpus()
said = []
# It is given back each time, so that the next try finds one.
for number in range(3):
    try:
        gpus.hold(never, log_for(str(number)))
    except NotCleared as error:
        said.append(str(error))
print(json.dumps(said))
gpus.stop()
"""
    )
    assert said == ["clearing its memory failed: no memory of it is free"] * 3


def test_the_machines_own_memory_is_not_taken(machine_with: Callable[[str], Machine]) -> None:
    machine = machine_with("gb10")
    cleared = machine.run("from gpubond.provider.gpus.clear import clear\nprint(json.dumps(clear(None)))")
    assert cleared == 0
    assert machine.memory.read_bytes() == b"\xa5" * MEMORY_BYTES


def test_the_worker_s_secrets_do_not_go_along(machine_with: Callable[[str], Machine]) -> None:
    machine = machine_with("h100x2")
    given = machine.run(
        """
import os, subprocess
os.environ["GPUBOND_PASSPHRASE"] = "secret"
real, given = subprocess.run, []
def run(command, **options):
    given.append(sorted(options["env"]))
    return real(command, **options)
subprocess.run = run
from gpubond.provider.gpus.clear import clear
clear("GPU-x")
print(json.dumps(given))
"""
    )
    assert given == [["CUDA_VISIBLE_DEVICES", "LD_LIBRARY_PATH", "PATH"]]


LEAVE = """
import sys
from cuda.bindings import driver
def call(answer):
    assert answer[0] == driver.CUresult.CUDA_SUCCESS, answer
    return answer[1] if len(answer) > 1 else None
call(driver.cuInit(0))
context = call(driver.cuDevicePrimaryCtxRetain(call(driver.cuDeviceGet(0))))
call(driver.cuCtxSetCurrent(context))
size = 256 << 20
pieces = []
found = False
while len(pieces) < 1024:
    status, piece = driver.cuMemAlloc(size)
    if status != driver.CUresult.CUDA_SUCCESS:
        break
    pieces.append(piece)
    if sys.argv[1] == "leave":
        call(driver.cuMemsetD8(piece, 0xA5, size))
    else:
        data = bytearray(size)
        call(driver.cuMemcpyDtoH(data, piece, size))
        found = found or b"\\xa5" * 4096 in data
call(driver.cuCtxSynchronize())
print(len(pieces), found)
"""


@pytest.mark.gpu
@pytest.mark.skipif(not devices.has_gpu(), reason=devices.no_gpu_reason())
def test_a_real_gpu_keeps_nothing() -> None:
    from gpubond.provider.gpus.clear import clear

    def program(word: str) -> list[bytes]:
        return subprocess.run([sys.executable, "-c", LEAVE, word], capture_output=True, check=True).stdout.split()

    assert int(program("leave")[0]) > 0
    assert clear(None) > 0
    assert program("look")[1] == b"False"
