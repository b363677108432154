# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from ..market import USD, Account, Contract, Market

TOTAL = 2_000 * USD
PER_JOB = 500 * USD
LOCKED = 400 * USD
JOB = b"\x01" * 32


def allowance(staking: Contract, owner: Account, locker: Contract) -> tuple[int, int, int]:
    """Total, per job and locked."""
    answer = staking.allowance(owner, locker)
    return answer.total, answer.per_job, answer.locked


@pytest.fixture
def allowed(market: Market, locker: Contract) -> Contract:
    """The locker, allowed 2,000 of the owner's stake and 500 a job."""
    market.staking.allow(locker, TOTAL, PER_JOB, sender=market.owner)
    return locker


@pytest.fixture
def locked(owner: Account, allowed: Contract) -> Contract:
    """The locker with 400 locked."""
    allowed.lock(owner, LOCKED, sender=owner)
    return allowed
