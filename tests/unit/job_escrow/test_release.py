# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import ape
import pytest

from ..market import Account, Contract, Job, Market, logs
from ..reference import COMMITTED, DISPUTED, EXACT_DISPUTE_TIMEOUT, SETTLED, digest


def test_release(market: Market, escrow: Contract, views: Contract, disputed: Job) -> None:
    receipt = market.arbiter.release(disputed.terms, sender=market.buyer)
    assert logs(receipt, escrow) == [("JobReleased", {"job": disputed.id, "arbiter": market.arbiter.address})]
    state = views.job_state(disputed.id)
    assert state.status == COMMITTED
    assert state.commitment_digest == digest(disputed.commitment)


def test_settles_as_before_the_dispute(market: Market, escrow: Contract, disputed: Job, keeper: Account) -> None:
    market.at(market.window_end(disputed) + 5)
    market.arbiter.release(disputed.terms, sender=market.buyer)
    escrow.settle(disputed.terms, disputed.commitment, sender=keeper)
    assert market.status(disputed) == SETTLED
    assert market.balance(market.owner) == 3_600_000 - 90_000


def test_within_the_window_only_the_buyer_settles(
    market: Market, escrow: Contract, disputed: Job, keeper: Account
) -> None:
    market.arbiter.release(disputed.terms, sender=market.buyer)
    with ape.reverts("escrow: challenge window is open"):
        escrow.settle(disputed.terms, disputed.commitment, sender=keeper)
    escrow.settle(disputed.terms, disputed.commitment, sender=market.buyer)


def test_held_again_only_within_the_window(market: Market, disputed: Job) -> None:
    market.arbiter.release(disputed.terms, sender=market.buyer)
    market.hold(disputed)
    assert market.status(disputed) == DISPUTED
    market.at(market.window_end(disputed))
    market.arbiter.release(disputed.terms, sender=market.buyer)
    with ape.reverts("escrow: challenge window is over"):
        market.hold(disputed)


@pytest.mark.parametrize("role", ["thief", "buyer", "admin", "owner", "operator"])
def test_by_a_person(escrow: Contract, disputed: Job, role: str, request: pytest.FixtureRequest) -> None:
    with ape.reverts("escrow: not the arbiter"):
        escrow.release(disputed.terms, sender=request.getfixturevalue(role))


def test_not_disputed(market: Market, exact_job: Job) -> None:
    with ape.reverts("escrow: wrong state"):
        market.arbiter.release(exact_job.terms, sender=market.buyer)


def test_after_the_timeout(market: Market, escrow: Contract, disputed: Job, keeper: Account) -> None:
    # An arbiter that comes late may still let the provider have its pay, as anyone may by settling.
    market.at(market.window_end(disputed) + EXACT_DISPUTE_TIMEOUT)
    market.arbiter.release(disputed.terms, sender=market.buyer)
    assert market.status(disputed) == COMMITTED
    escrow.settle(disputed.terms, disputed.commitment, sender=keeper)
    assert market.balance(market.owner) == 3_600_000 - 90_000


def test_by_another_contract(market: Market, disputed: Job) -> None:
    rival = market.admin.deploy(ape.project.MockArbiter, market.escrow)
    with ape.reverts("escrow: not the arbiter"):
        rival.release(disputed.terms, sender=market.buyer)
    assert market.status(disputed) == DISPUTED


def test_twice(market: Market, disputed: Job) -> None:
    market.arbiter.release(disputed.terms, sender=market.buyer)
    with ape.reverts("escrow: wrong state"):
        market.arbiter.release(disputed.terms, sender=market.buyer)
