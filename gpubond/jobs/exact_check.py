# SPDX-License-Identifier: Apache-2.0
"""What can be known of an `exact` job before it is sent or run: its program, tensors, memory and disk."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from gpubond.errors import BadInput
from gpubond.exact import commitments
from gpubond.exact.checkpoints import Retention
from gpubond.exact.commitments import Statement
from gpubond.exact.memory import STATES_HELD, data_bytes, state_bytes
from gpubond.exact.metrics import Metrics
from gpubond.exact.program import Program
from gpubond.exact.refusal import Refused
from gpubond.exact.runner import Task
from gpubond.exact.tensors import file_bytes, read_data, read_state
from gpubond.jobs.exact_section import ExactSection
from gpubond.jobs.spec import JobSpec

# Of Python, NumPy and the worker's own code in the job's memory.
INTERPRETER_BYTES = 128 << 20
# What the run keeps: the two newest checkpoints, and one that is being written.
_FILES = 3


def load_task(section: ExactSection, paths: Mapping[str, Path]) -> Task:
    """The task of a job. paths: local files by field of the section.

    Raises: gpubond.exact.refusal.Refused for what is not valid; OSError.
    """
    program = Program.parse(paths["program"].read_bytes())
    metrics = Metrics()
    if section.names is not None:
        metrics = Metrics.read(paths["names"], program)
    return Task(
        program,
        read_state(paths["initial"], program),
        read_data(paths.get("data"), program),
        section.steps,
        section.interval,
        metrics,
        section.every,
    )


def disk_budget(program: Program, spec: JobSpec) -> int:
    """Bytes that the run's checkpoints take: of tier EXACT all of them, since each may have to be shown."""
    files = len(spec.kept_states) + 2 if spec.tier is not None else _FILES
    return files * file_bytes([tensor.shape for tensor in program.state])


def precheck_exact(spec: JobSpec, files: Mapping[str, Path]) -> bool:
    """Judges program and tensors of a job file as loaded: `files` maps SHA-256 to local file. True for other runtimes.

    Returns: False if an input is fetched by the provider, and so is not here.
    Raises: BadInput.
    """
    section = spec.exact
    if section is None:
        return True
    content = {item.path: item.sha256 for item in spec.inputs}
    if any(content[path] not in files for path in section.read.values()):
        return False
    try:
        task = load_task(section, {name: files[content[path]] for name, path in section.read.items()})
        count = commitments.checkpoints(section.steps, section.interval)
        Retention.plan(task.program, count, disk_budget(task.program, spec))
    except Refused as refused:
        remedy = refused.remedy or "correct the file, or name another one"
        raise BadInput(refused.reason, field=refused.field, value=refused.value, remedy=remedy) from None
    least = STATES_HELD * state_bytes(task.program) + data_bytes(task.program) + INTERPRETER_BYTES
    if least > spec.limits.memory_mib << 20:
        raise BadInput(
            f"states, data and Python alone need {least} bytes",
            field="limits.memory_mib",
            value=spec.limits.memory_mib,
            remedy=f"allow {-(-least // (1 << 20)) + 1} MiB, and what the operations' outputs take",
        )
    room = disk_budget(task.program, spec) + sum(item.size for item in spec.inputs)
    if room > spec.limits.disk_mib << 20:
        states = "three checkpoints" if spec.tier is None else f"all {count} checkpoints, which tier 'exact' keeps,"
        raise BadInput(
            f"inputs and {states} need {room} bytes",
            field="limits.disk_mib",
            value=spec.limits.disk_mib,
            remedy=f"allow {-(-room // (1 << 20)) + 1} MiB"
            + ("" if spec.tier is None else ", or take checkpoints seldomer: exact.interval"),
        )
    return True


def statement_of(section: ExactSection, paths: Mapping[str, Path]) -> Statement:
    """The statement of a job's run; reads and hashes all of its tensors. paths: local files by field of the section.

    Raises: gpubond.exact.refusal.Refused for what is not valid; OSError.
    """
    task = load_task(section, paths)
    return commitments.statement(task.program, task.initial, task.data, task.steps, task.interval)
