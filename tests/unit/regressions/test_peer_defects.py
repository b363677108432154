# SPDX-License-Identifier: Apache-2.0
"""Defects that deployed markets of this kind had, each with a test that it is not here."""

from __future__ import annotations

from typing import Any

import ape
import pytest

from ..market import (
    ALLOWED,
    BALANCE,
    COLLATERAL,
    PRICE,
    ROOT,
    STAKE,
    Account,
    Contract,
    Job,
    Market,
    install,
    logs,
)
from ..reference import (
    ACTIVE,
    BASIC,
    COMMITTED,
    CONVICTED,
    DECLINED,
    DISPUTE_TIMEOUT,
    DISPUTED,
    EXACT_DISPUTE_TIMEOUT,
    EXPIRED,
    MAX_UINT256,
    OPEN,
    SETTLED,
    highest_price,
)
from .conftest import stake_of

PAY = 600 * PRICE
FEE = PAY * 250 // 10_000


def test_a_retrying_caller_settles_a_job_once(
    market: Market, escrow: Contract, committed: Job, keeper: Account
) -> None:
    """Lilypad: a deal was settled and paid twice when its solver sent the transaction again."""
    shown = {"terms": committed.terms, "commitment": committed.commitment}
    market.at(market.window_end(committed))
    escrow.settle(committed.terms, committed.commitment, sender=keeper)
    for sender in (keeper, market.operator, market.buyer):
        with ape.reverts("escrow: wrong state"):
            escrow.settle(committed.terms, committed.commitment, sender=sender)
        assert logs(escrow.settle_many([shown] * 3, sender=sender), escrow) == []
    market.at(committed.terms["deliver_by"] + DISPUTE_TIMEOUT * 2)
    with ape.reverts("escrow: wrong state"):
        escrow.expire(committed.terms, sender=keeper)
    with ape.reverts("escrow: wrong state"):
        escrow.decline(committed.terms, False, sender=market.operator)
    with ape.reverts("escrow: wrong state"):
        escrow.commit(committed.terms, ROOT, 1, 0, 3_600, 1, sender=market.operator)
    assert market.balance(market.owner) == PAY - FEE
    assert escrow.fees_of(market.owner) == FEE
    assert market.balance(market.buyer) == BALANCE - PAY
    assert market.locked() == 0


@pytest.mark.parametrize("decimals", [0, 6, 18])
def test_collateral_has_one_scale(
    chain: Any,
    admin: Account,
    owner: Account,
    operator: Account,
    buyer: Account,
    keeper: Account,
    decimals: int,
) -> None:
    """Lilypad: collateral was locked at one scale and required at another."""
    token = admin.deploy(ape.project.PlainToken, decimals)
    unit = 10**decimals
    for person in (owner, buyer):
        token.mint(person, BALANCE + 100_000 * unit, sender=admin)
    market = install(chain, token, admin=admin, owner=owner, operator=operator, buyer=buyer)
    staking, escrow = market.staking, market.escrow
    token.approve(staking, 10_000 * unit, sender=owner)
    token.approve(escrow, 10_000 * unit, sender=buyer)
    staking.stake(10_000 * unit, sender=owner)
    escrow.deposit(10_000 * unit, sender=buyer)
    # The allowance is exactly three collaterals of 7 tokens and one base unit.
    collateral = 7 * unit + 1
    staking.allow(escrow, 3 * collateral, collateral, sender=owner)
    stake = stake_of(market)
    assert stake == STAKE + 10_000 * unit

    def locked() -> int:
        return int(staking.allowance(owner, escrow).locked)

    too_much = market.post(market.exact_offer(collateral=collateral + 1))
    with ape.reverts("staking: above allowance per job"):
        escrow.hire(too_much, market.exact_order(), sender=buyer)
    offer = market.post(market.exact_offer(collateral=collateral, price_per_second=unit, longest_run=60))
    jobs = [market.hire_exact(offer, longest_run=60) for _ in range(3)]
    assert [job.terms["collateral"] for job in jobs] == [collateral] * 3
    assert locked() == 3 * collateral
    with ape.reverts("staking: above allowance"):
        escrow.hire(offer, market.exact_order(longest_run=60), sender=buyer)

    released, convicted, expired = jobs
    market.commit(released)
    escrow.settle(released.terms, released.commitment, sender=buyer)
    assert locked() == 2 * collateral
    assert stake_of(market) == stake

    market.commit(convicted)
    market.hold(convicted)
    market.arbiter.convict(convicted.terms, convicted.commitment, collateral * 15 // 100, sender=keeper)
    assert market.status(convicted) == CONVICTED
    assert locked() == collateral
    assert stake_of(market) == stake - collateral
    to_buyer, to_arbiter = min(60 * unit, collateral * 35 // 100), collateral * 15 // 100
    assert staking.owed_to(escrow) == to_buyer + to_arbiter
    assert staking.burned_by(escrow) == collateral - to_buyer - to_arbiter

    market.at(expired.terms["deliver_by"] + 1)
    escrow.expire(expired.terms, sender=keeper)
    assert locked() == 0
    assert stake_of(market) == stake - 2 * collateral
    compensation = min(60 * unit, collateral) // 5
    assert staking.owed_to(escrow) + staking.burned_by(escrow) == 2 * collateral
    assert staking.owed_to(escrow) == to_buyer + to_arbiter + compensation
    market.check_books()


@pytest.mark.parametrize("way", ["hire", "request"])
def test_a_buyer_cannot_withdraw_between_match_and_delivery(market: Market, escrow: Contract, way: str) -> None:
    """Ritual: a consumer could withdraw its money between its request and the delivery, which was then for nothing."""
    if way == "hire":
        job = market.hire(market.post(market.offer()))
        price = job.escrowed
    else:
        request = market.request()
        market.post_request(request)
        with ape.reverts("escrow: not enough balance"):
            escrow.withdraw(BALANCE - highest_price(request) + 1, sender=market.buyer)
        job = market.accept(request)
        with ape.reverts("escrow: request not open"):
            escrow.cancel_request(request, sender=market.buyer)
        price = job.escrowed
    with ape.reverts("escrow: not enough balance"):
        escrow.withdraw(BALANCE - price + 1, sender=market.buyer)
    escrow.withdraw(BALANCE - price, sender=market.buyer)
    market.at(job.terms["matched_at"] + 600)
    market.commit(job, seconds_used=600)
    pay = job.commitment["pay"]
    assert pay > 0
    escrow.settle(job.terms, job.commitment, sender=market.buyer)
    assert market.balance(market.owner) == pay - pay * 250 // 10_000


def test_a_delivery_cannot_be_front_run(market: Market, escrow: Contract, job: Job, rival: Account) -> None:
    """Ritual: whoever copied a pending delivery and sent it first was paid for it."""
    market.at(job.terms["matched_at"] + 600)
    for terms in (job.terms, job.terms | {"provider": rival.address}):
        with ape.reverts():
            escrow.commit(terms, ROOT, 1, 0, 600, 1, sender=rival)
    assert market.status(job) == ACTIVE
    market.commit(job, seconds_used=600)
    escrow.settle(job.terms, job.commitment, sender=market.buyer)
    assert market.balance(market.owner) > 0
    assert market.balance(rival) == 0


@pytest.mark.parametrize("caller", ["buyer", "keeper"])
def test_what_is_never_delivered_is_refunded(
    market: Market, escrow: Contract, caller: str, request: pytest.FixtureRequest
) -> None:
    """Olas: the payment for a request that was never delivered stayed with the marketplace for good."""
    sender = request.getfixturevalue(caller)
    ignored, accepted = market.request(), market.request()
    market.post_request(ignored)
    market.post_request(accepted)
    job = market.accept(accepted)
    market.at(job.terms["deliver_by"] + 1)
    escrow.expire(job.terms, sender=sender)
    compensation = job.escrowed // 5
    market.at(ignored["expiry"])
    escrow.cancel_request(ignored, sender=sender)
    assert market.balance(market.buyer) == BALANCE + compensation
    escrow.withdraw(BALANCE + compensation, sender=market.buyer)


@pytest.mark.parametrize("role", ["keeper", "admin", "thief", "operator", "owner"])
def test_nobody_gains_by_slashing(
    market: Market, escrow: Contract, demands: Contract, role: str, request: pytest.FixtureRequest
) -> None:
    """Prime Intellect: slashed tokens went to whoever slashed."""
    slasher = request.getfixturevalue(role)
    watched = [account for account in market.accounts() if account not in (market.buyer, escrow, market.staking)]
    withheld = market.hire(market.post(market.offer(arbiter=demands.address)))
    market.commit(withheld, seconds_used=1)
    demands.demand(withheld.terms, withheld.commitment, [0], sender=market.buyer)
    convicted = market.hire_exact(market.post(market.exact_offer()))
    market.commit(convicted)
    market.hold(convicted)
    expired = market.hire(market.post(market.offer()))
    before = [(market.balance(account), market.token.balanceOf(account)) for account in watched]

    market.arbiter.convict(convicted.terms, convicted.commitment, 0, sender=slasher)
    market.at(demands.demand_of(withheld.id, 0).answer_by + 1)
    demands.expire(withheld.terms, withheld.commitment, 0, sender=slasher)
    escrow.expire(expired.terms, sender=slasher)
    escrow.collect_slashes(sender=slasher)
    assert [market.status(job) for job in (withheld, convicted, expired)] == [EXPIRED, CONVICTED, EXPIRED]
    assert stake_of(market) == STAKE - 3 * COLLATERAL
    assert [(market.balance(account), market.token.balanceOf(account)) for account in watched] == before
    assert demands.claimable(slasher) == 0


def test_an_arbiters_share_is_not_the_callers(market: Market, disputed: Job, thief: Account) -> None:
    """Prime Intellect: slashed tokens went to whoever slashed; here at most 15 % to the arbiter, half burns."""
    cap = COLLATERAL * 15 // 100
    with ape.reverts("escrow: share above cap"):
        market.arbiter.convict(disputed.terms, disputed.commitment, cap + 1, sender=thief)
    market.arbiter.convict(disputed.terms, disputed.commitment, cap, sender=thief)
    assert market.balance(thief) == 0
    assert market.balance(market.arbiter) == cap
    assert 2 * market.staking.burned_by(market.escrow) >= COLLATERAL


@pytest.mark.parametrize("end", ["expire", "convict"])
def test_leaving_while_jobs_run_stays_slashable(
    market: Market, escrow: Contract, exact_offer: dict[str, Any], keeper: Account, end: str
) -> None:
    """Livepeer, issue 162: a transcoder that had begun to unbond could not be slashed any more."""
    job = market.hire_exact(exact_offer)
    if end == "convict":
        market.commit(job)
    market.staking.allow(escrow, 0, 0, sender=market.owner)
    with ape.reverts("staking: not enough free stake"):
        market.staking.withdraw(STAKE - COLLATERAL + 1, sender=market.owner)
    market.staking.withdraw(STAKE - COLLATERAL, sender=market.owner)
    assert market.locked() == COLLATERAL
    if end == "convict":
        market.hold(job)
        market.arbiter.convict(job.terms, job.commitment, 0, sender=keeper)
        gain = min(job.escrowed, COLLATERAL * 35 // 100)
    else:
        market.at(job.terms["deliver_by"] + 1)
        escrow.expire(job.terms, sender=keeper)
        gain = job.escrowed // 5
    assert market.balance(market.buyer) == BALANCE + gain
    assert market.staking.burned_by(escrow) == COLLATERAL - gain
    assert stake_of(market) == 0
    # And the tokens for it are there.
    escrow.withdraw(BALANCE + gain, sender=market.buyer)


def test_leaving_while_jobs_run_gives_the_rest_back_later(market: Market, escrow: Contract, committed: Job) -> None:
    """Livepeer, issue 162, the other side: honest work ends the lock of a provider that leaves."""
    market.staking.allow(escrow, 0, 0, sender=market.owner)
    market.staking.withdraw(STAKE - COLLATERAL, sender=market.owner)
    escrow.settle(committed.terms, committed.commitment, sender=market.buyer)
    market.staking.withdraw(COLLATERAL, sender=market.owner)
    assert stake_of(market) == 0


@pytest.mark.parametrize("late", [300, 1_000, 4_500])
@pytest.mark.parametrize("claimed", [3_600, 3_601, 10**9, MAX_UINT256])
def test_no_job_is_overdrawn(market: Market, escrow: Contract, late: int, claimed: int) -> None:
    """Akash: a lease whose escrow account was overdrawn ran on for nothing."""
    # The buyer has not one base unit beside what is escrowed.
    job = market.hire(market.post(market.offer()))
    escrow.withdraw(market.balance(market.buyer), sender=market.buyer)
    market.at(job.terms["matched_at"] + late)
    market.commit(job, seconds_used=claimed)
    pay = job.commitment["pay"]
    assert pay == min(late, 3_600) * PRICE <= job.escrowed
    escrow.settle(job.terms, job.commitment, sender=market.buyer)
    assert market.balance(market.buyer) == job.escrowed - pay
    assert market.balance(market.owner) + escrow.fees_of(market.owner) == pay


def test_work_beyond_what_is_escrowed_needs_a_new_job(market: Market, escrow: Contract, job: Job) -> None:
    """Akash: a lease whose escrow account was overdrawn ran on for nothing; here a job has an end from the start."""
    assert job.terms["deliver_by"] == job.terms["matched_at"] + 900 + 3_600 + 600
    market.at(job.terms["deliver_by"] + 1)
    with ape.reverts("escrow: too late to commit"):
        escrow.commit(job.terms, ROOT, 1, 0, MAX_UINT256, 1, sender=market.operator)


@pytest.mark.parametrize("end", ["decline", "settle", "expire", "convict"])
def test_refunds_go_to_the_balance_that_paid(
    market: Market, escrow: Contract, keeper: Account, thief: Account, end: str
) -> None:
    """iExec PoCo, issue 77: the refund of a sponsored deal went to the requester and not to the sponsor who paid."""
    # A contract's balance pays, filled by one person and used by another.
    payer = market.admin.deploy(ape.project.MockBuyer, escrow)
    market.others = (*market.others, payer)
    offer = market.post(market.exact_offer())
    escrow.deposit(3_600_000, payer, sender=market.buyer)
    order = market.exact_order()
    receipt = payer.hire(offer, [order], sender=thief)
    job = market.record(offer, order, payer.address, receipt)
    assert market.balance(payer) == 0
    market.at(job.terms["matched_at"] + 60)
    if end == "decline":
        escrow.decline(job.terms, False, sender=market.operator)
        back = job.escrowed
    elif end == "expire":
        market.at(job.terms["deliver_by"] + 1)
        escrow.expire(job.terms, sender=keeper)
        back = job.escrowed + job.escrowed // 5
    else:
        market.commit(job)
        if end == "convict":
            market.hold(job)
            market.arbiter.convict(job.terms, job.commitment, 0, sender=keeper)
            back = job.escrowed + min(job.escrowed, COLLATERAL * 35 // 100)
        else:
            market.at(market.window_end(job))
            escrow.settle(job.terms, job.commitment, sender=keeper)
            back = 0  # EXACT earns the whole price
    assert market.status(job) == {"decline": DECLINED, "expire": EXPIRED, "convict": CONVICTED, "settle": SETTLED}[end]
    assert market.balance(payer) == back
    assert market.balance(thief) == market.balance(keeper) == 0
    assert market.balance(market.buyer) == BALANCE


def test_a_part_of_the_price_goes_back_to_the_balance_that_paid(market: Market, escrow: Contract, offer: Any) -> None:
    """iExec PoCo, issue 77, where a part only was earned."""
    payer = market.admin.deploy(ape.project.MockBuyer, escrow)
    market.others = (*market.others, payer)
    escrow.deposit(3_600_000, payer, sender=market.buyer)
    order = market.order()
    receipt = payer.hire(offer, [order], sender=market.operator)
    job = market.record(offer, order, payer.address, receipt)
    market.at(job.terms["matched_at"] + 600)
    market.commit(job, seconds_used=600)
    market.at(market.window_end(job))
    escrow.settle(job.terms, job.commitment, sender=market.operator)
    assert market.balance(payer) == 3_600_000 - PAY
    assert market.balance(market.operator) == 0


def test_a_cancelled_request_pays_its_buyer(market: Market, escrow: Contract, keeper: Account) -> None:
    """iExec PoCo, issue 77, for a request that anyone cancels after its expiry."""
    request = market.request()
    market.post_request(request)
    market.at(request["expiry"])
    escrow.cancel_request(request, sender=keeper)
    assert (market.balance(market.buyer), market.balance(keeper)) == (BALANCE, 0)


@pytest.mark.parametrize("state", ["ACTIVE", "COMMITTED", "DISPUTED", "DISPUTED on BASIC"])
def test_no_stake_stays_locked_after_a_time_out(market: Market, escrow: Contract, keeper: Account, state: str) -> None:
    """iexec-worker, issue 244: a worker's stake was still locked after its task had timed out."""
    offer = market.post(market.exact_offer())
    job = market.hire(offer) if state == "DISPUTED on BASIC" else market.hire_exact(offer)
    if state == "ACTIVE":
        market.at(job.terms["deliver_by"] + 1)
        escrow.expire(job.terms, sender=keeper)
        kept = STAKE - COLLATERAL
    else:
        market.commit(job)
        due = market.window_end(job)
        if state != "COMMITTED":
            market.hold(job)
            due += DISPUTE_TIMEOUT if job.terms["tier"] == BASIC else EXACT_DISPUTE_TIMEOUT
        market.at(due)
        escrow.settle(job.terms, job.commitment, sender=keeper)
        kept = STAKE
    assert market.locked() == 0
    market.staking.allow(escrow, 0, 0, sender=market.owner)
    market.staking.withdraw(kept, sender=market.owner)
    assert stake_of(market) == 0


def test_everything_but_a_match_works_while_paused(
    market: Market, escrow: Contract, demands: Contract, keeper: Account, receiver: Account
) -> None:
    """Livepeer: the pause of its contracts stopped withdrawals as well."""
    offer = market.post(market.exact_offer(count=9))
    data_offer = market.post(market.offer(arbiter=demands.address))
    declined, expired, released, convicted, timely = (market.hire_exact(offer) for _ in range(5))
    withheld = market.hire(data_offer)
    request, waiting = market.request(), market.request()
    market.post_request(waiting)
    escrow.set_paused(True, sender=market.admin)

    with ape.reverts("escrow: new jobs are paused"):
        escrow.hire(offer, market.exact_order(), sender=market.buyer)
    with ape.reverts("escrow: new jobs are paused"):
        escrow.accept(waiting, market.bid(), sender=market.operator)

    escrow.decline(declined.terms, False, sender=market.operator)
    for job in (released, convicted, timely, withheld):
        market.commit(job, seconds_used=1)
    market.hold(released)
    market.arbiter.release(released.terms, sender=keeper)
    market.hold(convicted)
    market.arbiter.convict(convicted.terms, convicted.commitment, 0, sender=keeper)
    demands.demand(withheld.terms, withheld.commitment, [0], sender=market.buyer)
    escrow.settle(released.terms, released.commitment, sender=market.buyer)
    escrow.settle_many([{"terms": timely.terms, "commitment": timely.commitment}], sender=market.buyer)
    market.at(demands.demand_of(withheld.id, 0).answer_by + 1)
    demands.expire(withheld.terms, withheld.commitment, 0, sender=keeper)
    demands.collect(market.buyer, sender=keeper)
    escrow.expire(expired.terms, sender=keeper)
    market.post_request(request | {"expiry": market.now + 100})
    escrow.cancel_request(waiting, sender=market.buyer)
    escrow.cancel_request(market.requests[-1], sender=market.buyer)
    assert [market.status(job) for job in market.jobs] == [DECLINED, EXPIRED, SETTLED, CONVICTED, SETTLED, EXPIRED]

    escrow.close_offer(offer, sender=market.operator)
    market.post(market.offer(count=1))
    escrow.approve_arbiter(market.arbiter, False, sender=market.owner)
    escrow.deposit(1, sender=market.buyer)
    escrow.withdraw(market.balance(market.buyer), receiver, sender=market.buyer)
    escrow.withdraw(market.balance(market.owner), receiver, sender=market.owner)
    if market.staking.owed_to(escrow):
        escrow.collect_slashes(sender=keeper)
    escrow.collect_fees([market.owner], receiver, sender=market.admin)
    market.staking.stake(1, sender=market.owner)
    market.staking.allow(escrow, 0, 0, sender=market.owner)
    market.staking.withdraw(stake_of(market), receiver, sender=market.owner)
    assert market.token.balanceOf(escrow) == 0
    assert stake_of(market) == market.locked() == 0
    assert escrow.is_paused()


def test_a_pause_ends_where_it_began(market: Market, escrow: Contract, offer: Any) -> None:
    """Livepeer: the pause of its contracts stopped withdrawals as well; here jobs run as if there were none."""
    before, after = market.request(), market.request()
    market.post_request(before)
    escrow.set_paused(True, sender=market.admin)
    market.post_request(after)
    escrow.set_paused(False, sender=market.admin)
    job = market.accept(before)
    assert market.request_status(after) == OPEN
    assert market.status(job) == market.status(market.hire(offer)) == ACTIVE
    assert market.locked() == 2 * COLLATERAL <= ALLOWED


def test_a_commitment_cannot_be_replaced(market: Market, escrow: Contract, committed: Job, rival: Account) -> None:
    """Ritual: whoever copied a pending delivery and sent it first was paid for it; nor can a second one undo one."""
    for sender in (market.operator, market.owner, rival):
        with ape.reverts("escrow: wrong state"):
            escrow.commit(committed.terms, b"\x77" * 32, 1, 0, 3_600, 1, sender=sender)
    assert market.status(committed) == COMMITTED != DISPUTED
    escrow.settle(committed.terms, committed.commitment, sender=market.buyer)
    assert market.balance(market.owner) == PAY - FEE
