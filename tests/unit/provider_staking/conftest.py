# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from ..market import USD, Contract, Market

TOTAL = 2_000 * USD
PER_JOB = 500 * USD


@pytest.fixture
def allowed(market: Market, locker: Contract) -> Contract:
    """The locker, allowed 2,000 of the owner's stake and 500 a job."""
    market.staking.allow(locker, TOTAL, PER_JOB, sender=market.owner)
    return locker
