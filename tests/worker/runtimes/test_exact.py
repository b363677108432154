# SPDX-License-Identifier: Apache-2.0
"""The `exact` runtime in the real sandbox: the bits of anybody's machine, and every end in a reason."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gpubond.errors import BadInput
from gpubond.exact import commitments
from gpubond.exact.engines import best
from gpubond.exact.manifest import Manifest
from gpubond.exact.program import Op, Opcode, Program, StateTensor
from gpubond.exact.runner import run
from gpubond.exact.tensors import DATA, STATE, read_state, write_tensors
from gpubond.jobs.exact_check import load_task, precheck_exact
from gpubond.jobs.reasons import Reason
from gpubond.jobs.spec import JobSpec, load_job_file
from gpubond.jobs.template import write_job
from gpubond.jobs.validate import validate_job_file
from gpubond.provider.executors.attempt import Attempt

from ..bench import Bench, log_of


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The job of the template."""
    write_job(tmp_path / "line", "exact")
    return tmp_path / "line"


def changed(folder: Path, **fields: Any) -> None:
    """Writes the job file with other fields, of the section or of limits."""
    path = folder / "job.json"
    job = json.loads(path.read_text())
    for name, value in fields.items():
        job["limits" if name in job["limits"] else "exact"][name] = value
    path.write_text(json.dumps(job))


def attempt_of(bench: Bench, folder: Path) -> tuple[JobSpec, Attempt]:
    spec, files = load_job_file(folder / "job.json")
    for path in files.values():
        bench.blobs.put_file(path)
    return spec, bench.executor.run("e1", spec, bench.blobs, cancel=bench.cancel)


def test_a_job_gives_the_run_root_of_every_machine(bench: Bench, folder: Path, tmp_path: Path) -> None:
    spec, attempt = attempt_of(bench, folder)
    assert attempt.reason is Reason.OK, log_of(attempt)
    assert spec.exact is not None
    task = load_task(spec.exact, {name: folder / path for name, path in spec.exact.read.items()})
    here = run(best(1, "numpy").prepare(task.program), task, tmp_path / "here")
    told = Manifest.parse(json.loads(attempt.outputs["manifest.json"].read_text()))
    assert told == here
    state = read_state(attempt.outputs["final.safetensors"], task.program)
    assert commitments.state(state) == here.checkpoints[-1].state
    lines = [json.loads(line) for line in attempt.outputs["metrics.jsonl"].read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(50, 501, 50))
    assert lines[-1]["loss"] < lines[0]["loss"]
    log = log_of(attempt)
    assert "engine: c" in log and "step 500/500 loss" in log
    assert here.run is not None and here.run.hex() in log


def test_a_program_that_is_not_valid(bench: Bench, folder: Path) -> None:
    os.truncate(folder / "line.gpx", 128)
    _, attempt = attempt_of(bench, folder)
    assert attempt.reason is Reason.INPUT_INVALID
    assert "program.length" in log_of(attempt)


def test_a_state_with_another_nan(bench: Bench, folder: Path) -> None:
    content = bytearray((folder / "initial.safetensors").read_bytes())
    content[-12:-8] = bytes.fromhex("0100c07f")
    (folder / "initial.safetensors").write_bytes(content)
    _, attempt = attempt_of(bench, folder)
    assert attempt.reason is Reason.INPUT_INVALID
    assert "initial.safetensors.state.0.element[0]" in log_of(attempt)
    report = validate_job_file(folder / "job.json")
    assert [problem.field for problem in report.problems] == ["initial.safetensors.state.0.element[0]"]


def large(folder: Path, rows: int) -> None:
    """A program whose state has so many rows of 1024 elements."""
    shape = (rows, 1024)
    program = Program((StateTensor(shape, 0), StateTensor((), 2)), (), (Op(Opcode.CONST, (), (), (), (0,)),))
    (folder / "line.gpx").write_bytes(program.encode())
    write_tensors(folder / "initial.safetensors", STATE, [np.zeros(shape, np.float32), np.zeros((), np.float32)])
    job = json.loads((folder / "job.json").read_text())
    del job["exact"]["data"]
    job["inputs"] = [item for item in job["inputs"] if item["path"] != "data.safetensors"]
    (folder / "job.json").write_text(json.dumps(job))


def test_more_memory_than_the_job_may_use(bench: Bench, folder: Path) -> None:
    large(folder, 16 << 10)  # 64 MiB a state
    changed(folder, memory_mib=256, disk_mib=1024)
    _, attempt = attempt_of(bench, folder)
    assert attempt.reason is Reason.OUT_OF_MEMORY, log_of(attempt)
    assert "memory" in log_of(attempt)
    report = validate_job_file(folder / "job.json")
    assert [problem.field for problem in report.problems] == ["limits.memory_mib"]


def test_less_disk_than_checkpoints_need_is_found_before(folder: Path) -> None:
    large(folder, 2 << 10)  # 8 MiB a state
    assert [problem.field for problem in validate_job_file(folder / "job.json").problems] == ["limits.disk_mib"]
    changed(folder, disk_mib=64)
    assert validate_job_file(folder / "job.json").ok


def test_data_must_be_those_of_the_program(folder: Path) -> None:
    write_tensors(folder / "data.safetensors", DATA, [])
    report = validate_job_file(folder / "job.json")
    assert [problem.field for problem in report.problems] == ["data.safetensors.data.0"]


def test_what_the_provider_fetches_is_not_checked_here(folder: Path) -> None:
    spec, files = load_job_file(folder / "job.json")
    assert precheck_exact(spec, files)
    assert not precheck_exact(spec, {})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"program": "other.gpx"}, "exact.program 'other.gpx' is not among the inputs"),
        ({"data": "numbers"}, "exact.data 'numbers' is not among the inputs"),
        ({"final": "last.safetensors"}, "the outputs must be those of the section"),
        ({"metrics": None}, "the outputs must be those of the section"),
        ({"names": None}, "need `names`"),
        ({"steps": 0}, "steps"),
        ({"steps": 1 << 53}, "steps"),
        ({"interval": True}, "interval"),
        ({"every": 1.5}, "every"),
        ({"final": "manifest.json"}, "the outputs must be those of the section"),
    ],
)
def test_a_section_that_is_not_right_is_refused(change: dict[str, Any], words: str, folder: Path) -> None:
    changed(folder, **change)
    with pytest.raises(BadInput, match=words):
        load_job_file(folder / "job.json")
