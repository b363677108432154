# SPDX-License-Identifier: Apache-2.0
"""The examples, as a buyer runs them: data made, job checked and run, outputs evaluated."""

from __future__ import annotations

import ctypes
import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from gpubond.jobs.cuda_check import precheck_job
from gpubond.jobs.reasons import Reason
from gpubond.jobs.spec import load_job_file

from ..bench import Bench, log_of

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"


def run_example(bench: Bench, name: str, target: Path) -> tuple[Any, Path]:
    """Make the example's data, run its job, lay out its outputs; the attempt and their directory."""
    data = target / name
    data.mkdir()
    for file in (EXAMPLES / name).iterdir():
        if file.is_file():
            (data / file.name).write_bytes(file.read_bytes())
    subprocess.run([sys.executable, str(data / "make_data.py"), str(data)], check=True, stdout=subprocess.DEVNULL)
    spec, files = load_job_file(data / "job.json")
    assert not any("secret" in path.name for path in files.values())
    assert precheck_job(spec, files)
    for path in files.values():
        bench.blobs.put_file(path)
    attempt = bench.executor.run("e1", spec, bench.blobs, cancel=bench.cancel)
    assert attempt.reason is Reason.OK, log_of(attempt)
    outputs = target / "fetched"
    outputs.mkdir()
    for path, file in attempt.outputs.items():
        (outputs / path).write_bytes(file.read_bytes())
    return attempt, outputs


def evaluated(name: str, data: Path, outputs: Path) -> dict[str, Any]:
    command = [sys.executable, str(EXAMPLES / name / "evaluate.py"), str(outputs), str(data)]
    result: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    return result


def nearest_neighbours(data: Path) -> np.ndarray[Any, Any]:
    """What digits-knn is to predict from the data in a folder, by NumPy."""
    train, labels, test = (np.load(data / f"{name}.npy") for name in ("train_images", "train_labels", "test_images"))
    # Whole numbers far below 2**53: exact.
    a, b = test.astype(np.float64), train.astype(np.float64)
    squared = (a * a).sum(axis=1)[:, None] + (b * b).sum(axis=1) - 2 * (a @ b.T)
    nearest = labels[np.argsort(squared, axis=1, kind="stable")[:, :5]]
    votes = (nearest[:, :, None] == np.arange(10)).sum(axis=1)
    return votes.argmax(axis=1).astype(np.int32)


def test_digits_knn_equals_numpy_bit_for_bit(bench: Bench, tmp_path: Path) -> None:
    _, outputs = run_example(bench, "digits-knn", tmp_path)
    data = tmp_path / "digits-knn"
    predictions = np.load(outputs / "predictions.npy")
    assert predictions.dtype == np.int32
    assert np.array_equal(predictions, nearest_neighbours(data))
    result = evaluated("digits-knn", data, outputs)
    assert result["accuracy"] > 0.97
    assert result["images"] == 540


def test_tiled_matmul_is_one_chain_of_multiply_adds_an_element(bench: Bench, tmp_path: Path) -> None:
    _, outputs = run_example(bench, "tiled-matmul", tmp_path)
    product = np.load(outputs / "product.npy")
    factors = load_file(tmp_path / "tiled-matmul" / "factors.safetensors")
    libm = ctypes.CDLL("libm.so.6")
    libm.fmaf.argtypes, libm.fmaf.restype = [ctypes.c_float] * 3, ctypes.c_float
    for row, column in [(0, 0), (31, 32), (299, 199), (150, 7), (297, 193)]:
        total = 0.0
        for left, right in zip(factors["a"][row].tolist(), factors["b"][:, column].tolist(), strict=True):
            total = libm.fmaf(left, right, total)
        assert product[row, column] == np.float32(total)
    result = evaluated("tiled-matmul", tmp_path / "tiled-matmul", outputs)
    assert result["elements"] == 60000
    assert 0 < result["largest_error"] < 1e-3


def test_digits_training_learns_and_shows_progress(bench: Bench, tmp_path: Path) -> None:
    attempt, outputs = run_example(bench, "digits-training", tmp_path)
    lines = [line for line in log_of(attempt).splitlines() if line.startswith("epoch")]
    losses = [float(line.split("loss ")[1].split(",")[0]) for line in lines]
    assert losses[0] > 1
    assert losses[-1] < 0.1
    result = evaluated("digits-training", tmp_path / "digits-training", outputs)
    assert result["accuracy"] > 0.9
    assert result["predictions_agree"] == 540


def test_torch_training_learns_and_gives_the_same_state_again(bench: Bench, tmp_path: Path) -> None:
    if importlib.util.find_spec("torch") is None:
        pytest.skip("PyTorch is not installed here: `make torch`")
    states = []
    for folder in (tmp_path / "first", tmp_path / "second"):
        folder.mkdir()
        attempt, outputs = run_example(bench, "torch-training", folder)
        states.append((outputs / "state.safetensors").read_bytes())
        lines = [line for line in log_of(attempt).splitlines() if line.startswith("epoch")]
        losses = [float(line.split("loss ")[1].split(",")[0]) for line in lines]
        assert len(losses) == 12 and losses[0] > 1
        assert losses[-1] < 0.2
    result = evaluated("torch-training", tmp_path / "first" / "torch-training", tmp_path / "first" / "fetched")
    assert result["accuracy"] > 0.95
    assert states[0] == states[1]
