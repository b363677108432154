# SPDX-License-Identifier: Apache-2.0
"""Without a sandbox, on development chains: jobs run and end as ever, and the flag says what it does."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from gpubond.errors import BadSettings
from gpubond.jobs.reasons import Reason
from gpubond.provider.executors import cgroups, defences
from gpubond.provider.executors.cgroups import CONTROLLERS, Places
from gpubond.provider.executors.process import ProcessExecutor

from ..bench import Bench, array_of, log_of, npy
from .test_limits import marked


@pytest.fixture(params=["groups", "no groups"])
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Bench:
    if request.param == "no groups":
        monkeypatch.setitem(cgroups._found, "here", Places(missing=dict.fromkeys(CONTROLLERS, "not this time")))
    bench = Bench(tmp_path)
    bench.executor = ProcessExecutor(tmp_path / "work", max_log_bytes=64 << 10, bare=True)
    # Bubblewrap is not needed, and nothing below may use it.
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("rm", "chmod"):
        (tools / name).symlink_to(str(shutil.which(name)))
    monkeypatch.setenv("PATH", str(tools))
    return bench


def test_a_job_runs_with_inputs_outputs_and_exit_code(bare: Bench) -> None:
    attempt = bare.python("open('out.txt', 'w').write(open('data/x').read() * 2)", files={"data/x": "ab"})
    assert attempt.reason is Reason.OK, log_of(attempt)
    assert attempt.outputs["out.txt"].read_text() == "abab"
    [entry] = bare.add({"data/x": "ab"})
    assert bare.blobs.path(entry["sha256"]).read_text() == "ab"
    failed = bare.python("import sys; open('out.txt', 'w'); sys.exit(42)")
    assert (failed.reason, failed.exit_code) == (Reason.NONZERO_EXIT, 42)


@pytest.mark.parametrize(
    ("script", "limits", "reason"),
    [
        ("import time\ntime.sleep(600)", {"seconds": 1}, Reason.TIMEOUT),
        ("import os, time\nfor i in range(3): os.fork()\nx = bytearray(100 << 20)\ntime.sleep(600)",
         {"memory_mib": 256}, Reason.OUT_OF_MEMORY),
        ("n = 0\nwhile True:\n  n += 1\n  open(f'f{n}', 'wb').write(bytes(1 << 20))",
         {"disk_mib": 8}, Reason.DISK_LIMIT),
    ],
    ids=["time", "memory", "disk"],
)  # fmt: skip
def test_limits_hold(bare: Bench, script: str, limits: dict[str, int], reason: Reason) -> None:
    mark = f"mark-{os.getpid()}-bare"
    attempt = bare.python(script, args=[mark], **limits)
    assert attempt.reason is reason, log_of(attempt)
    assert marked(mark) == []


def test_daemons_end_with_their_job(bare: Bench) -> None:
    mark = f"mark-{os.getpid()}-bare-daemon"
    script = """
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        time.sleep(600)
    os._exit(0)
open("out.txt", "w").write("x")
"""
    attempt = bare.python(script, args=[mark])
    assert attempt.reason is Reason.OK, log_of(attempt)
    assert marked(mark) == []


def test_cuda_runs_too(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.executor = ProcessExecutor(tmp_path / "work", bare=True)
    source = 'extern "C" __global__ void twice(float *x) { x[threadIdx.x] *= 2; }'
    attempt = bench.cuda(
        source,
        {"x": {"dtype": "float32", "shape": [4], "from": "x.npy", "to": "y.npy"}},
        [{"kernel": "twice", "grid": [1, 1, 1], "block": [4, 1, 1], "args": [{"buffer": "x"}]}],
        files={"x.npy": npy(np.arange(4, dtype=np.float32))},
    )
    assert array_of(attempt, "y.npy").tolist() == [0, 2, 4, 6]


@pytest.mark.parametrize("chain", [1, 10, 137, 8453, 11155111])
def test_the_flag_is_refused_where_money_is_at_stake(chain: int) -> None:
    with pytest.raises(BadSettings, match="development chains") as caught:
        defences.require_development_chain(chain)
    assert "--run-strangers-code-without-a-sandbox" in str(caught.value)
    for allowed in (31337, 1337):
        defences.require_development_chain(allowed)


def test_what_is_in_force_is_noted_for_the_status(tmp_path: Path) -> None:
    assert defences.noted(tmp_path) is None
    found = defences.here()
    assert "bubblewrap" in found.words
    found.note(tmp_path)
    assert defences.noted(tmp_path) == found
    defences.here(sandboxed=False).note(tmp_path)
    noted = defences.noted(tmp_path)
    assert noted is not None
    assert noted.words.startswith("NONE")
    (tmp_path / defences.NOTE).write_text("{}")
    assert defences.noted(tmp_path) is None
