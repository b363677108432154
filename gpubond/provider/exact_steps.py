# SPDX-License-Identifier: Apache-2.0
"""The steps that a job of tier EXACT takes beside those of any other: it is judged before it is taken, and doubted as
long as it can be given back."""

from __future__ import annotations

import time

from gpubond.chain.clock import HeadClock
from gpubond.chain.index import JobRecord
from gpubond.chain.market import Tier
from gpubond.jobs.spec import JobSpec
from gpubond.provider.cancellations import decline_margin
from gpubond.provider.exact_jobs import ExactJobs
from gpubond.provider.giving_back import GivingBack
from gpubond.provider.inputs import JobInputs
from gpubond.provider.runs import Runs
from gpubond.provider.stores import BuyerStores
from gpubond.provider.work import Work, WorkState


class ExactSteps:
    """Acts on what `ExactJobs` finds. One thread calls it, the dispatcher's."""

    def __init__(
        self,
        judge: ExactJobs,
        clock: HeadClock,
        inputs: JobInputs,
        stores: BuyerStores,
        runs: Runs,
        giving_back: GivingBack,
    ) -> None:
        self._judge = judge
        self._clock = clock
        self._inputs = inputs
        self._stores = stores
        self._runs = runs
        self._giving_back = giving_back

    def accepts(self, work: Work, record: JobRecord, spec: JobSpec, incomplete: bool) -> bool:
        """Whether the job goes on; else it was given back, or is still being judged.

        incomplete: whether inputs are missing.
        """
        objection = self._judge.objection_to_terms(record.terms, spec)
        if objection is None and self._clock.now() <= record.terms.acknowledge_by:
            objection = self._judge.objection_to_crowd(work.job, spec)
        judged = True
        if objection is None and not incomplete:
            stored = self._stores.of(record.terms.buyer)
            judged, objection = self._judge.judge_inputs(work.job, record.terms, spec, stored)
        if objection is not None:
            self._giving_back.decline(work, record, objection.code, objection.words)
        return judged and objection is None

    def doubts(self, work: Work, record: JobRecord) -> bool:
        """Gives a job back that is not likely to be delivered, at the last moment for that; whether it did."""
        terms, now = record.terms, self._clock.now()
        last = terms.acknowledge_by - decline_margin(terms)
        if terms.tier != Tier.EXACT or not last <= now <= terms.acknowledge_by:
            return False
        if work.job in self._runs.ended or self._inputs.missing(terms):
            return False
        spec = self._inputs.spec(terms)
        if spec is None:
            return False
        elapsed = time.time() - work.updated if work.state == WorkState.RUNNING else None
        objection = self._judge.doubt(work.job, spec, elapsed, terms.deliver_by - now)
        if objection is None:
            return False
        self._runs.cancel(work.job)
        self._giving_back.decline(work, record, objection.code, objection.words)
        return True

    def forget(self, job: str) -> None:
        """A job is over."""
        self._judge.forget(job)
