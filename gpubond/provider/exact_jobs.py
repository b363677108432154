# SPDX-License-Identifier: Apache-2.0
"""What a job of tier EXACT asks of its provider before the acknowledgement window ends: terms that it can be held to,
inputs that are what they say, room for what it may have to show, and a run that will end in time.

Such a job cannot fail on chain: after the window it is delivered, or it costs the collateral. So whatever speaks
against it is looked for before, and the job is given back.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from gpubond.chain.contracts import Contracts
from gpubond.chain.games import GameRules, game_rules
from gpubond.chain.market import JobTerms
from gpubond.disputes.ordered import terms_of
from gpubond.errors import BadInput
from gpubond.exact.program import Program
from gpubond.jobs.answer_time import answer_seconds
from gpubond.jobs.blobs import BlobStore
from gpubond.jobs.exact_check import precheck_exact
from gpubond.jobs.spec import JobSpec
from gpubond.jobs.worker_codes import WorkerCode

# Bytes at the end of a run's log that are looked through for how far it is.
_TAIL_BYTES = 4096
_STEP = re.compile(rb"^step (\d+)/(\d+)", re.MULTILINE)
# Of the time that is left, the part that a run may be expected to take.
_CAUTION = 0.8
# Times what an answer needs that terms may give it: a worker has few answer seconds to promise, and who could take all
# of them with one small job would keep others' jobs away.
_MOST_OVER = 4


class Objection(NamedTuple):
    """Why a job is given back: the code of the decline, and words for its buyer."""

    code: WorkerCode
    words: str


class ExactJobs:
    """Judges jobs of tier EXACT for one worker. One thread calls it, the dispatcher's.

    Args:
        log_path: where a job's log lies.
        has_gas: why the operator cannot pay for the answers of one more job; empty if it can.
        held: the answer seconds of the jobs that the worker stands by, beside one.
    """

    def __init__(
        self,
        contracts: Contracts,
        log_path: Callable[[str], Path],
        has_gas: Callable[[JobTerms], str] = lambda _: "",
        held: Callable[[str], int] = lambda _: 0,
    ) -> None:
        self._contracts = contracts
        self._log_path = log_path
        self._has_gas = has_gas
        self._held = held
        self._rules: GameRules | None = None
        # Hashing tensors takes seconds, and other jobs' deadlines do not wait for it.
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="exact")
        self._judging: dict[str, Future[Objection | None]] = {}

    def objection_to_terms(self, terms: JobTerms, spec: JobSpec) -> Objection | None:
        """What can be said before the inputs are there."""
        rules = self._rules = self._rules or game_rules(self._contracts)
        if rules is None:
            return Objection(WorkerCode.EXACT_TERMS, "this deployment has no DisputeGame")
        short = rules.shortfall(
            arbiter=terms.arbiter,
            collateral=terms.collateral,
            challenge_window=terms.challenge_window,
            longest_run=terms.longest_run,
            answer_seconds=None if spec.exact is None else spec.exact.answer_seconds,
        )
        if short is not None:
            return Objection(WorkerCode.EXACT_TERMS, short.words)
        gas = self._has_gas(terms)
        return Objection(WorkerCode.EXACT_GAS, gas) if gas else None

    def objection_to_crowd(self, job: str, spec: JobSpec) -> Objection | None:
        """Why a job is one too many, whose terms were found good; asked again until it is taken."""
        if self._rules is None or spec.exact is None or spec.exact.answer_seconds is None:
            return None
        short = self._rules.crowding(spec.exact.answer_seconds, self._held(job))
        return None if short is None else Objection(WorkerCode.EXACT_CROWDED, f"exact.{short.words}")

    def judge_inputs(self, job: str, terms: JobTerms, spec: JobSpec, blobs: BlobStore) -> tuple[bool, Objection | None]:
        """Whether the inputs have been judged, and what speaks against them. Begins to, and returns at once."""
        judging = self._judging.get(job)
        if judging is None:
            files = {item.sha256: blobs.path(item.sha256) for item in spec.inputs}
            judging = self._judging[job] = self._pool.submit(_judge, terms, spec, files)
        if not judging.done():
            return False, None
        del self._judging[job]
        return True, judging.result()

    def doubt(self, job: str, spec: JobSpec, elapsed: float | None, left: float) -> Objection | None:
        """Why a job is not likely to be delivered; asked while it can just still be given back.

        elapsed: seconds since the run began; None if it has not. left: seconds until the job is due.
        """
        done, steps = (0, 1) if elapsed is None else _progress(self._log_path(job))
        if elapsed is None or not done:
            words = "it has not begun" if elapsed is None else "it has made no progress that could be measured"
            return Objection(WorkerCode.EXACT_TOO_SLOW, f"shortly before it cannot be given back any more, {words}")
        needed = elapsed * steps / done
        allowed = _CAUTION * min(spec.limits.seconds, left + elapsed)
        if needed <= allowed:
            return None
        words = f"after {done} of {steps} steps the run seems to need {needed:.0f} s, and {allowed:.0f} s are safe"
        return Objection(WorkerCode.EXACT_TOO_SLOW, words)

    def forget(self, job: str) -> None:
        """Drops what is being judged of a job that is over."""
        judging = self._judging.pop(job, None)
        if judging is not None:
            judging.cancel()

    def stop(self) -> None:
        """Begins nothing new."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def _judge(terms: JobTerms, spec: JobSpec, files: dict[str, Path]) -> Objection | None:
    assert spec.exact is not None  # noqa: S101  # by its validation
    try:
        precheck_exact(spec, files)
        stated = terms_of(spec, files)
    except BadInput as error:
        return Objection(WorkerCode.SPEC_INVALID, str(error))
    if stated.exact_terms != terms.exact_terms:
        words = (
            f"exact_terms = 0x{terms.exact_terms.hex()} are not those of the specification and its inputs, which are "
        )
        return Objection(WorkerCode.EXACT_TERMS, f"{words}0x{stated.exact_terms.hex()}")
    content = {item.path: item.sha256 for item in spec.inputs}
    program = Program.parse(files[content[spec.exact.program]].read_bytes())
    needed = answer_seconds(program, spec.exact.interval)
    if stated.answer_seconds < needed:
        words = f"exact.answer_seconds = {stated.answer_seconds}: this worker may need {needed} s for an answer"
        return Objection(WorkerCode.EXACT_TERMS, words)
    if stated.answer_seconds > _MOST_OVER * needed:
        words = f"exact.answer_seconds = {stated.answer_seconds}: {needed} s suffice, and more take other jobs' room"
        return Objection(WorkerCode.EXACT_TERMS, f"{words}; leave it out")
    return None


def _progress(log: Path) -> tuple[int, int]:
    """Steps that a run has taken, by its log, and all of them."""
    try:
        with log.open("rb") as stream:
            stream.seek(max(0, log.stat().st_size - _TAIL_BYTES))
            found = _STEP.findall(stream.read())
    except OSError:
        return 0, 1
    return (int(found[-1][0]), int(found[-1][1])) if found else (0, 1)
