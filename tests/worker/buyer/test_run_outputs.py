# SPDX-License-Identifier: Apache-2.0
"""Outputs of an EXACT job against the run root on chain: what a provider could serve in their place is found out."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gpubond.buyer.run_outputs import verify_run
from gpubond.errors import JobFailed
from gpubond.exact.checkpoints import checkpoint_path
from gpubond.exact.numpy_engine import NumpyEngine
from gpubond.exact.runner import run
from gpubond.exact.tensors import STATE, write_tensors
from gpubond.jobs.exact_check import load_task
from gpubond.jobs.manifest import Exit, Manifest, OutputFile
from gpubond.jobs.reasons import Reason
from gpubond.jobs.spec import JobSpec, load_job_file
from gpubond.jobs.template import write_job


@dataclass
class Served:
    """What a provider serves, and what it committed to."""

    spec: JobSpec
    root: bytes
    files: dict[str, Path]

    def verify(self) -> str:
        record: Any = type("Record", (), {"job": "0x" + "11" * 32})
        listed = tuple(
            OutputFile(path=path, sha256=hashlib.sha256(file.read_bytes()).hexdigest(), size=file.stat().st_size)
            for path, file in sorted(self.files.items())
        )
        manifest = Manifest(
            version=1, job=record.job, exit=Exit(code=0, reason=Reason.OK), seconds=1, device="cpu", files=listed
        )
        return verify_run(record, self.root, self.spec, manifest, self.files)


@pytest.fixture
def served(tmp_path: Path) -> Served:
    path = write_job(tmp_path / "line", "exact")
    job = json.loads(path.read_text()) | {"tier": "exact"}
    job["exact"] |= {"steps": 20, "interval": 5}
    path.write_text(json.dumps(job))
    spec, files = load_job_file(path)
    assert spec.exact is not None
    content = {item.path: item.sha256 for item in spec.inputs}
    task = load_task(spec.exact, {field: files[content[name]] for field, name in spec.exact.read.items()})
    folder = tmp_path / "run"
    manifest = run(NumpyEngine().prepare(task.program), task, folder)
    assert manifest.run is not None
    outputs = {
        "final.safetensors": checkpoint_path(folder, 20),
        "manifest.json": folder / "manifest.json",
        "metrics.jsonl": folder / "metrics.jsonl",
    }
    return Served(spec, manifest.run, outputs)


def test_what_was_committed_passes(served: Served) -> None:
    assert "metrics.jsonl is under no root" in served.verify()


def test_another_run_root_is_found(served: Served) -> None:
    served.root = bytes(32)
    with pytest.raises(JobFailed, match="another run"):
        served.verify()


def test_another_last_state_is_found(served: Served, tmp_path: Path) -> None:
    other = tmp_path / "other.safetensors"
    write_tensors(other, STATE, [np.ones((1, 2), np.float32), np.zeros((), np.float32)])
    served.files["final.safetensors"] = other
    with pytest.raises(JobFailed, match="not the last state"):
        served.verify()


@pytest.mark.parametrize("change", ["steps", "checkpoint", "no json"])
def test_another_manifest_is_found(served: Served, tmp_path: Path, change: str) -> None:
    said = json.loads(served.files["manifest.json"].read_text())
    if change == "steps":
        said["steps"], said["checkpoints"] = 15, said["checkpoints"][:3]
    else:
        said["checkpoints"][1]["state"] = "00" * 32
    other = tmp_path / "manifest.json"
    other.write_text("{" if change == "no json" else json.dumps(said))
    served.files["manifest.json"] = other
    with pytest.raises(JobFailed):
        served.verify()


def test_a_missing_output_is_found(served: Served) -> None:
    del served.files["manifest.json"]
    with pytest.raises(JobFailed):
        served.verify()
