# SPDX-License-Identifier: Apache-2.0
"""Computes a committed EXACT run again, and says whether its run root is the right one.

The run lies in a folder and goes on where it was after any stop; when it is over, a game is played from it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gpubond.chain.index import JobRecord
from gpubond.chain.market import Commitment
from gpubond.disputes.execution import Execution
from gpubond.disputes.ordered import paths_of, terms_of
from gpubond.disputes.playing import Known
from gpubond.disputes.sources import Sources
from gpubond.errors import BadInput, GpuBondError
from gpubond.exact import runner
from gpubond.exact.engines import best
from gpubond.exact.memory import prepare
from gpubond.exact.refusal import Refused
from gpubond.jobs.exact_check import load_task

Watch = Callable[[str], object]


@dataclass(frozen=True)
class Checked:
    """What a run that was computed again gives. known: what a game is played from."""

    ours: bytes
    committed: bytes
    known: Known

    @property
    def is_right(self) -> bool:
        """Whether the committed run root is the one that its terms ask for."""
        return self.ours == self.committed


class Stopped(Exception):
    """The check was stopped; called again it goes on."""


def require_committed(record: JobRecord) -> Commitment:
    """What a job's provider committed to. Raises BadInput if that is nothing."""
    if record.commitment is None:
        raise BadInput(
            f"nothing was committed: the job is {record.status.name.lower()}",
            field="JOB",
            value=record.job,
            remedy="wait until its provider commits to a result",
        )
    return record.commitment


def check_run(
    record: JobRecord,
    sources: Sources,
    folder: Path,
    *,
    gateway: str = "",
    memory_bytes: int | None = None,
    disk_bytes: int | None = None,
    watch: Watch = lambda words: None,
    stop: Callable[[], bool] = lambda: False,
) -> Checked:
    """Computes the run of a committed job again.

    Args:
        record: the job.
        sources: where specification and inputs are to be had.
        folder: of this job's run.
        gateway: see `Sources.spec`.
        memory_bytes, disk_bytes: limits of the run, and of the states that it keeps.
        watch: is told how far it is, in words.
        stop: is asked before each step.

    Raises:
        BadInput: it is no EXACT job with a commitment, its specification or inputs are not valid, or its terms are not
            those of its specification: then nobody can play on it.
        Unreachable: specification or inputs are not to be had.
        Stopped: it was asked to stop.
    """
    committed = require_committed(record)
    spec = sources.spec(record.terms, gateway)
    files = sources.inputs(spec, gateway)
    terms = terms_of(spec, files)
    if terms.exact_terms != record.terms.exact_terms:
        raise BadInput(
            "the job's terms are not those of its specification and inputs, so nobody can dispute its result",
            field="exact_terms",
            value="0x" + record.terms.exact_terms.hex(),
            remedy=f"its buyer should have ordered 0x{terms.exact_terms.hex()}",
        )
    assert spec.exact is not None  # noqa: S101  # by `terms_of`
    shown = max(1, spec.exact.steps // 20)

    def tell(at: runner.Progress) -> None:
        if at.step % shown == 0 or at.step == at.steps:
            watch(f"step {at.step} of {at.steps}")

    try:
        task = load_task(spec.exact, paths_of(spec, spec.exact, files))
        prepared = prepare(best(), task.program, memory_bytes)
        manifest = runner.run(
            prepared, task, folder, memory_bytes=memory_bytes, disk_bytes=disk_bytes, watch=tell, stop=stop
        )
        execution = Execution(prepared, task, folder)
    except runner.Stopped:
        raise Stopped from None
    except runner.Unsteady as error:
        raise GpuBondError(str(error), field="machine", remedy="do not watch with this machine") from None
    except Refused as refused:
        remedy = refused.remedy or "correct what is named"
        raise BadInput(refused.reason, field=refused.field, value=refused.value, remedy=remedy) from None
    assert manifest.run is not None  # noqa: S101  # it has ended
    return Checked(manifest.run, committed.result_root, Known(terms, execution))
