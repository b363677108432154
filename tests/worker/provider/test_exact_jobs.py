# SPDX-License-Identifier: Apache-2.0
"""Whether a run of tier EXACT is likely to be delivered, told while it can still be given back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gpubond.jobs.spec import JobSpec, load_job_file
from gpubond.jobs.template import write_job
from gpubond.jobs.worker_codes import WorkerCode
from gpubond.provider.exact_jobs import ExactJobs

JOB = "0x" + "5f" * 32


@pytest.fixture
def spec(tmp_path: Path) -> JobSpec:
    path = write_job(tmp_path / "line", "exact")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"tier": "exact"}))
    return load_job_file(path)[0]


@pytest.fixture
def judge(tmp_path: Path) -> ExactJobs:
    contracts: Any = None  # what is judged here follows from the log and the clock
    return ExactJobs(contracts, lambda job: tmp_path / "log.txt")


def log(tmp_path: Path, *lines: str) -> None:
    (tmp_path / "log.txt").write_text("\n".join(("engine: c; up to 10 bytes for tensors", *lines)) + "\n")


def test_a_run_that_will_end_in_time_goes_on(judge: ExactJobs, spec: JobSpec, tmp_path: Path) -> None:
    log(tmp_path, "step 100/500 loss 3", "step 250/500 loss 2")
    # Half of it took 20 of the 60 seconds that were hired.
    assert judge.doubt(JOB, spec, 20.0, 1000.0) is None


@pytest.mark.parametrize(
    ("lines", "elapsed", "left"),
    [
        (("step 100/500 loss 3",), 20.0, 1000.0),  # 100 seconds, and 60 were hired
        (("step 250/500 loss 2",), 20.0, 5.0),  # 20 seconds more, and it is due in 5
        ((), 30.0, 1000.0),  # nothing to measure
    ],
)
def test_a_run_that_will_not_is_given_back(
    judge: ExactJobs, spec: JobSpec, tmp_path: Path, lines: tuple[str, ...], elapsed: float, left: float
) -> None:
    log(tmp_path, *lines)
    found = judge.doubt(JOB, spec, elapsed, left)
    assert found is not None
    assert found.code is WorkerCode.EXACT_TOO_SLOW


def test_a_run_that_has_not_begun_is_given_back(judge: ExactJobs, spec: JobSpec) -> None:
    found = judge.doubt(JOB, spec, None, 1000.0)
    assert found is not None and "not begun" in found.words
