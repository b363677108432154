# SPDX-License-Identifier: Apache-2.0
"""What a worker has promised to answer for: the answer seconds of its EXACT jobs whose results can still be challenged.
Challengers may open games on all of them at once, and it computes one answer after the other."""

from __future__ import annotations

from collections.abc import Callable

from gpubond.chain.index import JobRecord, MarketIndex
from gpubond.chain.market import Status, Tier
from gpubond.errors import BadInput
from gpubond.provider.cancellations import can_decline
from gpubond.provider.inputs import JobInputs
from gpubond.provider.work import FINAL_STATES, WorkLog, WorkState

# Judged and not taken, or being given back.
_OPEN = frozenset({WorkState.HIRED, WorkState.AWAITING_INPUTS})
_GIVEN_BACK = FINAL_STATES | {WorkState.DECLINING}


class Promises:
    """Sums them up. One thread calls it, the dispatcher's.

    Args:
        index: the jobs.
        work: where they stand here.
        inputs: their specifications.
        provider: whose jobs.
        now: the chain's time, Unix seconds.
    """

    def __init__(
        self, index: MarketIndex, work: WorkLog, inputs: JobInputs, provider: str, now: Callable[[], int]
    ) -> None:
        self._index = index
        self._work = work
        self._inputs = inputs
        self._provider = provider
        self._now = now
        self._seconds: dict[str, int] = {}

    def held(self, job: str) -> int:
        """The answer seconds of all jobs but this one, until they are final."""
        live = self._index.jobs(provider=self._provider, live_only=True)
        exact = {record.job: record for record in live if record.terms.tier == Tier.EXACT}
        now = self._now()
        self._seconds = {name: seconds for name, seconds in self._seconds.items() if name in exact}
        others = [record for name, record in exact.items() if name != job and self._is_promised(record, now)]
        return sum(map(self._seconds_of, others))

    def _is_promised(self, record: JobRecord, now: int) -> bool:
        if record.status != Status.ACTIVE:
            return True
        work = self._work.get(record.job)
        if work is None or work.state in _OPEN:
            # What cannot be given back in time any more is taken if its inputs come.
            return not can_decline(record.terms, now)
        return work.state not in _GIVEN_BACK

    def _seconds_of(self, record: JobRecord) -> int:
        known = self._seconds.get(record.job)
        if known is not None:
            return known
        try:
            spec = self._inputs.spec(record.terms)
        except BadInput:
            return 0
        if spec is None or spec.exact is None:
            # Lost with its store: there is nothing to answer with.
            return 0
        self._seconds[record.job] = spec.exact.answer_seconds or 0
        return self._seconds[record.job]
