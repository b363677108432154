# SPDX-License-Identifier: Apache-2.0
"""What `gpubond job init` writes runs as it is."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gpubond.jobs.reasons import Reason
from gpubond.jobs.spec import load_job_file
from gpubond.jobs.template import COMPLETE, write_job

from ..bench import Bench, array_of, log_of

NUMBERS = np.arange(1024, dtype=np.float32) / 16


def results(bench: Bench, folder: Path, template: str) -> tuple[np.ndarray[Any, Any], str]:
    spec, files = load_job_file(write_job(folder / template, template))
    for path in files.values():
        bench.blobs.put_file(path)
    attempt = bench.executor.run("t1", spec, bench.blobs, cancel=bench.cancel)
    assert attempt.reason is Reason.OK, log_of(attempt)
    return array_of(attempt, spec.outputs[0]), log_of(attempt)


def test_python(bench: Bench, tmp_path: Path) -> None:
    squares, log = results(bench, tmp_path, "python")
    assert np.array_equal(squares, NUMBERS**2)
    assert "squaring 1024 numbers" in log


def test_cuda(bench: Bench, tmp_path: Path) -> None:
    squares, _ = results(bench, tmp_path, "cuda")
    assert np.array_equal(squares, (NUMBERS.reshape(4, 256)[:, ::-1] ** 2).ravel())


def test_exact(bench: Bench, tmp_path: Path) -> None:
    """Its outputs are judged in test_exact.py."""
    spec, files = load_job_file(write_job(tmp_path / "exact", "exact"))
    for path in files.values():
        bench.blobs.put_file(path)
    attempt = bench.executor.run("t1", spec, bench.blobs, cancel=bench.cancel)
    assert attempt.reason is Reason.OK, log_of(attempt)
    assert set(attempt.outputs) == set(spec.outputs)


def test_torch(bench: Bench, tmp_path: Path) -> None:
    if importlib.util.find_spec("torch") is None:
        pytest.skip("PyTorch is not installed here: `make torch`")
    learned, log = results(bench, tmp_path, "torch")
    numbers = NUMBERS / NUMBERS.max()
    assert np.abs(learned - (3 * numbers**2 - numbers)).max() < 0.2
    assert "epoch 300: loss 0.00" in log


def test_each_template_is_tried_here() -> None:
    assert {f"test_{name}" for name in COMPLETE} <= globals().keys()
