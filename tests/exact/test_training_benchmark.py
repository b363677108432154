# SPDX-License-Identifier: Apache-2.0
"""The benchmark of training: its table of where time goes, its part without a peer, and what it says without one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.exact_where import where
from gpubond.exact import c_library
from gpubond.exact.build import build, initial_state
from gpubond.exact.c_engine import CEngine
from gpubond.exact.models import perceptron_step

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.skipif(
    not c_library.available(), reason="neither library nor compiler of the C engine is here"
)


def benchmark(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs the script where no peer is named."""
    environment = {name: value for name, value in os.environ.items() if name != "GPUBOND_TORCH_PYTHON"}
    command = [sys.executable, str(ROOT / "benchmarks" / "exact_training.py"), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_the_table_of_a_step_names_every_instruction_once() -> None:
    graph = perceptron_step((64, 32, 10), 16)
    prepared = CEngine(1).prepare(build(graph).program)
    state, data = initial_state(graph, 1), [np.zeros((1, 16, 64), np.float32), np.zeros((1, 16), np.float32)]
    rows = where(prepared, state, data, 0)
    assert sum(row["times"] for row in rows) == len(list(prepared.instructions(state, data, 0)))
    products = {row["what"]: row["times"] for row in rows if "gflops" in row}
    assert products == {
        "product 1 x (16 x 32, 64 terms)": 1,
        "product 1 x (16 x 10, 32 terms)": 1,
        "product 1 x (16 x 32, 10 terms)": 1,
        "product 1 x (10 x 32, 16 terms)": 1,
        "product 1 x (32 x 64, 16 terms)": 1,
    }
    assert sum(row["percent"] for row in rows) == pytest.approx(100, abs=2)


def test_the_digits_are_learnt_without_a_peer() -> None:
    pytest.importorskip("sklearn", reason="the data set comes with scikit-learn, extra `examples`")
    done = benchmark("--only", "digits", "--json", "--threads", "1")
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)
    assert results["digits"]["digits_images"] == 540
    assert [entry["name"] for entry in results["limits"]] == ["digits_accuracy"]
    assert results["limits"][0]["within"]


def test_without_torch_nothing_is_measured_and_that_is_said() -> None:
    done = benchmark("--only", "mlp", "--quick", "--peer", str(ROOT / "no-such-python"))
    assert done.returncode == 2
    assert "nothing was measured" in done.stderr and "no-such-python" in done.stderr
