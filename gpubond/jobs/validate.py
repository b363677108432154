# SPDX-License-Identifier: Apache-2.0
"""Everything that can be wrong with a job file, found at once and without key, node or home folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpubond.errors import BadInput
from gpubond.jobs.cuda_check import precheck_job
from gpubond.jobs.exact_check import precheck_exact
from gpubond.jobs.spec import JobSpec, load_job_file

NOT_COMPILED = "the CUDA source was not compiled here: install gpubond[cuda] to find its errors before you pay"
NOT_HERE = "program and tensors were not checked here: the provider fetches some of them"


@dataclass(frozen=True)
class Report:
    """What was found. `spec` is None if there are problems; sizes in bytes."""

    problems: tuple[BadInput, ...]
    notes: tuple[str, ...]
    spec: JobSpec | None

    @property
    def ok(self) -> bool:
        """Whether a provider would take the job as it is."""
        return not self.problems

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        spec = self.spec
        shown: dict[str, Any] = {
            "ok": self.ok,
            "problems": [problem.as_dict() for problem in self.problems],
            "notes": list(self.notes),
        }
        if spec is not None:
            shown |= {
                "name": spec.name,
                "runtime": spec.runtime,
                "spec_hash": spec.hash().hex(),
                "spec_bytes": len(spec.canonical()),
                "input_bytes": sum(item.size for item in spec.inputs),
                "inputs": [item.model_dump(mode="json") for item in spec.inputs],
                "outputs": list(spec.outputs),
                "limits": spec.limits.model_dump(mode="json"),
            }
        return shown


def validate_job_file(path: Path) -> Report:
    """Reads a job file, hashes its inputs, and compiles its CUDA source where NVRTC is installed."""
    problems: list[BadInput] = []
    notes: list[str] = []
    spec: JobSpec | None = None
    files: dict[str, Path] = {}
    try:
        spec, files = load_job_file(path, collect=problems.append)
    except BadInput as error:
        if error not in problems:
            problems.append(error)
    if spec is not None and not problems:
        try:
            if not precheck_job(spec, files):
                notes.append(NOT_COMPILED)
            if not precheck_exact(spec, files):
                notes.append(NOT_HERE)
        except BadInput as error:
            problems.append(error)
    return Report(tuple(problems), tuple(notes), None if problems else spec)
