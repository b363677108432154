# SPDX-License-Identifier: Apache-2.0
"""The `exact` runtime: runs an exact program inside the sandbox, in the job's directory.

    python -I exact_main.py SPEC

Nothing of the job's is executed: program and tensors are data, and are judged before the first step.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

# Started by path with -I: the package lies three directories above, and nothing else is on the path.
sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from gpubond.exact.checkpoints import checkpoint_path
from gpubond.exact.engines import best
from gpubond.exact.manifest import MANIFEST
from gpubond.exact.memory import plan_memory, prepare
from gpubond.exact.metrics import METRICS
from gpubond.exact.program import Program
from gpubond.exact.refusal import Refused
from gpubond.exact.runner import Progress, Unsteady, run
from gpubond.jobs.exact_check import INTERPRETER_BYTES, disk_budget, load_task
from gpubond.jobs.exact_section import ExactSection
from gpubond.jobs.reasons import Reason
from gpubond.jobs.spec import JobSpec
from gpubond.provider.runtimes.cuda_errors import JobEnds, ending_of, say

_MAX_PROGRESS_LINES = 50
_REASONS = {"memory": Reason.OUT_OF_MEMORY, "disk": Reason.DISK_LIMIT}


def _run(spec: JobSpec, section: ExactSection) -> None:
    program = Program.parse(Path(section.program).read_bytes())
    engine = best()
    allowed = (spec.limits.memory_mib << 20) - INTERPRETER_BYTES
    prepared = prepare(engine, program, allowed)
    say(f"engine: {engine.name}; up to {plan_memory(program, prepared).peak} bytes for tensors")
    task = load_task(section, {field: Path(path) for field, path in section.read.items()})
    apart = max(1, section.steps // _MAX_PROGRESS_LINES)
    due = apart

    def show(at: Progress) -> None:
        nonlocal due
        if at.step >= due or (at.step == at.steps and at.step):
            due = at.step + apart
            say(f"step {at.step}/{at.steps}" + "".join(f" {name} {value:.6g}" for name, value in at.metrics.items()))

    folder = Path(tempfile.mkdtemp(prefix=".exact-", dir="."))
    try:
        manifest = run(prepared, task, folder, memory_bytes=allowed, disk_bytes=disk_budget(program, spec), watch=show)
    except Unsteady as error:
        raise JobEnds(Reason.INTERNAL, str(error)) from None
    say(f"run root {'' if manifest.run is None else manifest.run.hex()}")
    for step, path in spec.kept_states.items():
        Path(path).parent.mkdir(exist_ok=True)
        checkpoint_path(folder, step).replace(path)
    checkpoint_path(folder, section.steps).replace(section.final)
    (folder / MANIFEST).replace(section.manifest)
    if section.metrics is not None:
        (folder / METRICS).touch()
        (folder / METRICS).replace(section.metrics)


def main() -> int:
    """Run the job; the exit code is the one of its reason, see `gpubond.jobs.reasons`."""
    spec = JobSpec.model_validate_json(Path(sys.argv[1]).read_bytes())
    if spec.exact is None:
        raise ValueError("the specification has no exact section")
    with ending_of(spec) as ending:
        try:
            _run(spec, spec.exact)
        except Refused as refused:
            raise JobEnds(_REASONS.get(refused.field, Reason.INPUT_INVALID), str(refused)) from None
    return ending.code


if __name__ == "__main__":
    sys.exit(main())
