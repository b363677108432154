# SPDX-License-Identifier: Apache-2.0
"""Many jobs settled at once: those that can be, each exactly as `settle` would, and the others passed over."""

from __future__ import annotations

from typing import Any

import ape
import pytest

from ..market import BALANCE, COLLATERAL, Account, Contract, Job, Market, logs
from ..reference import ACTIVE, COMMITTED, DISPUTE_TIMEOUT, DISPUTED, EXACT_DISPUTE_TIMEOUT, SETTLED, fee

MAX_SETTLEMENTS = 32


def item(job: Job, **changes: Any) -> dict[str, Any]:
    """What the caller shows of a job; `changes` are of its commitment."""
    return {"terms": job.terms, "commitment": job.commitment | changes}


def result(job: Job) -> tuple[str, dict[str, Any]]:
    """The event of the job's settlement, by the reference."""
    pay = job.commitment["pay"]
    kept = fee(job.terms, pay)
    return "JobSettled", {"job": job.id, "to_provider": pay - kept, "fee": kept, "refund": job.escrowed - pay}


def state_of(market: Market, jobs: list[Job]) -> tuple[Any, ...]:
    """All that a settlement changes."""
    return (
        [market.status(job) for job in jobs],
        market.balance(market.owner),
        market.balance(market.buyer),
        market.escrow.fees_of(market.owner),
        market.locked(),
    )


@pytest.fixture
def jobs(market: Market, offer: dict[str, Any]) -> list[Job]:
    """Three committed jobs of different pay: by the second, a bag, and a failed run."""
    by_second = market.hire(offer)
    failed = market.hire(offer)
    request = market.request()
    market.post_request(request)
    bag = market.accept(request)
    market.at(bag.terms["matched_at"] + 601)
    market.commit(by_second, seconds_used=599)
    market.commit(bag, tasks_done=7)
    market.commit(failed, exit_status=3)
    assert len({job.commitment["pay"] for job in (by_second, bag, failed)}) == 3
    return [by_second, bag, failed]


def test_each_pays_exactly_as_settle_would(market: Market, escrow: Contract, jobs: list[Job], keeper: Account) -> None:
    end = max(map(market.window_end, jobs))
    snapshot = market.chain.snapshot()
    market.at(end)
    singly = []
    for job in jobs:
        singly += logs(escrow.settle(job.terms, job.commitment, sender=keeper), escrow)
    expected = state_of(market, jobs)
    market.chain.restore(snapshot)

    market.at(end)
    receipt = escrow.settle_many([item(job) for job in jobs], sender=keeper)
    assert logs(receipt, escrow) == singly == [result(job) for job in jobs]
    assert state_of(market, jobs) == expected
    assert market.balance(keeper) == 0
    assert logs(receipt, market.token) == []


def test_by_the_buyer_at_once(market: Market, escrow: Contract, jobs: list[Job]) -> None:
    receipt = escrow.settle_many([item(job) for job in jobs], sender=market.buyer)
    assert receipt.timestamp < min(map(market.window_end, jobs))
    assert logs(receipt, escrow) == [result(job) for job in jobs]
    assert market.balance(market.buyer) == BALANCE - sum(job.commitment["pay"] for job in jobs)
    assert market.locked() == 0


@pytest.mark.parametrize("role", ["owner", "operator", "keeper", "thief", "admin"])
def test_by_others_in_the_window(
    market: Market, escrow: Contract, jobs: list[Job], role: str, request: pytest.FixtureRequest
) -> None:
    market.at(min(map(market.window_end, jobs)) - 1)
    before = state_of(market, jobs)
    receipt = escrow.settle_many([item(job) for job in jobs], sender=request.getfixturevalue(role))
    assert logs(receipt, escrow) == []
    assert state_of(market, jobs) == before


def test_returns_how_many(market: Market, escrow: Contract, jobs: list[Job], keeper: Account) -> None:
    shown = [item(job) for job in jobs]
    assert escrow.settle_many.call(shown, sender=market.buyer) == 3
    assert escrow.settle_many.call(shown, sender=keeper) == 0
    assert escrow.settle_many.call([shown[0], shown[0], shown[1]], sender=market.buyer) == 2
    assert escrow.settle_many.call([], sender=keeper) == 0


def test_a_mixed_list_settles_exactly_the_good_ones(
    market: Market, escrow: Contract, arbiter: Contract, keeper: Account
) -> None:
    offer = market.post(market.exact_offer(count=20))
    names = "settled good disputed wrong_pay wrong_root wrong_chunks backdated wrong_terms unknown running good_exact"
    by_name = {name: market.hire_exact(offer) if name == "good_exact" else market.hire(offer) for name in names.split()}
    for name, job in by_name.items():
        if name != "running":
            market.commit(job, seconds_used=60)
    escrow.settle(by_name["settled"].terms, by_name["settled"].commitment, sender=market.buyer)
    market.hold(by_name["disputed"])
    end = max(market.window_end(job) for name, job in by_name.items() if name != "running")
    market.at(end)
    late = market.hire(offer)
    market.commit(late, seconds_used=1)
    by_name["window_open"] = late

    changes: dict[str, dict[str, Any]] = {
        "wrong_pay": {"pay": by_name["wrong_pay"].commitment["pay"] + 1},
        "wrong_root": {"result_root": b"\xaa" * 32},
        "wrong_chunks": {"chunks": 2},
        "backdated": {"committed_at": 0},
    }
    shown = {name: item(job, **changes.get(name, {})) for name, job in by_name.items() if name != "running"}
    shown["wrong_terms"] = {**shown["wrong_terms"], "terms": by_name["wrong_terms"].terms | {"fee_bps": 0}}
    shown["unknown"] = {**shown["unknown"], "terms": by_name["unknown"].terms | {"salt": b"\xab" * 32}}
    shown["running"] = {"terms": by_name["running"].terms, "commitment": by_name["good"].commitment}

    before = {name: market.status(job) for name, job in by_name.items()}
    owner_before, locked_before = market.balance(market.owner), market.locked()
    receipt = escrow.settle_many(list(shown.values()), sender=keeper)
    good = [by_name["good"], by_name["good_exact"]]
    assert logs(receipt, escrow) == [result(job) for job in good]
    after = {name: market.status(job) for name, job in by_name.items()}
    assert after == before | {"good": SETTLED, "good_exact": SETTLED}
    assert (before["running"], before["disputed"], before["window_open"]) == (ACTIVE, DISPUTED, COMMITTED)
    earned = sum(job.commitment["pay"] - fee(job.terms, job.commitment["pay"]) for job in good)
    assert market.balance(market.owner) == owner_before + earned
    assert market.locked() == locked_before - 2 * COLLATERAL


def test_the_same_job_twice_in_one_list(market: Market, escrow: Contract, jobs: list[Job]) -> None:
    receipt = escrow.settle_many([item(jobs[0])] * MAX_SETTLEMENTS, sender=market.buyer)
    assert logs(receipt, escrow) == [result(jobs[0])]
    assert market.balance(market.buyer) == BALANCE - jobs[1].escrowed - jobs[2].escrowed - jobs[0].commitment["pay"]


def test_the_same_list_twice(market: Market, escrow: Contract, jobs: list[Job]) -> None:
    shown = [item(job) for job in jobs]
    escrow.settle_many(shown, sender=market.buyer)
    before = state_of(market, jobs)
    assert logs(escrow.settle_many(shown, sender=market.buyer), escrow) == []
    assert state_of(market, jobs) == before


def test_a_rival_who_settles_first_stops_nobody(
    market: Market, escrow: Contract, jobs: list[Job], keeper: Account, thief: Account
) -> None:
    market.at(max(map(market.window_end, jobs)))
    escrow.settle(jobs[1].terms, jobs[1].commitment, sender=thief)
    receipt = escrow.settle_many([item(job) for job in jobs], sender=keeper)
    assert logs(receipt, escrow) == [result(jobs[0]), result(jobs[2])]


def test_jobs_of_two_buyers(
    market: Market, escrow: Contract, offer: dict[str, Any], jobs: list[Job], newcomer: Account
) -> None:
    # In the window each buyer releases its own only.
    escrow.deposit(3_600_000, sender=newcomer)
    theirs = market.hire(offer, newcomer)
    market.commit(theirs, seconds_used=1)
    receipt = escrow.settle_many([item(jobs[0]), item(theirs)], sender=newcomer)
    assert logs(receipt, escrow) == [result(theirs)]
    assert market.status(jobs[0]) == COMMITTED
    assert market.balance(newcomer) == 3_600_000 - theirs.commitment["pay"]


@pytest.mark.parametrize("early", [0, 1])
def test_a_dispute_that_timed_out(market: Market, escrow: Contract, disputed: Job, keeper: Account, early: int) -> None:
    market.at(market.window_end(disputed) + EXACT_DISPUTE_TIMEOUT - early)
    receipt = escrow.settle_many([item(disputed)], sender=keeper)
    assert logs(receipt, escrow) == ([] if early else [result(disputed)])
    assert market.status(disputed) == (DISPUTED if early else SETTLED)


@pytest.mark.parametrize("early", [0, 1])
def test_a_dispute_on_basic_that_timed_out(market: Market, escrow: Contract, keeper: Account, early: int) -> None:
    offer = market.post(market.exact_offer())
    job = market.hire(offer)
    market.commit(job, seconds_used=1)
    market.hold(job)
    market.at(market.window_end(job) + DISPUTE_TIMEOUT - early)
    receipt = escrow.settle_many([item(job)], sender=keeper)
    assert logs(receipt, escrow) == ([] if early else [result(job)])


def test_made_up_numbers_cannot_make_the_others_fail(
    market: Market, escrow: Contract, jobs: list[Job], thief: Account
) -> None:
    # Sums of these would overflow, were they taken before the digest is compared.
    huge = 2**256 - 1
    forged = item(jobs[1], committed_at=huge, pay=huge, chunks=huge)
    unknown = {
        "terms": jobs[1].terms | {"challenge_window": huge, "price": huge, "longest_run": huge, "collateral": huge},
        "commitment": forged["commitment"],
    }
    market.at(max(map(market.window_end, jobs)))
    receipt = escrow.settle_many([forged, unknown, item(jobs[0])], sender=thief)
    assert logs(receipt, escrow) == [result(jobs[0])]


def test_nothing(market: Market, escrow: Contract, keeper: Account) -> None:
    assert logs(escrow.settle_many([], sender=keeper), escrow) == []


def test_while_paused(market: Market, escrow: Contract, jobs: list[Job]) -> None:
    escrow.set_paused(True, sender=market.admin)
    escrow.settle_many([item(job) for job in jobs], sender=market.buyer)
    assert [market.status(job) for job in jobs] == [SETTLED] * 3


def test_thirty_two(market: Market, escrow: Contract, keeper: Account) -> None:
    offer = market.post(market.offer(count=MAX_SETTLEMENTS))
    many = [market.hire(offer) for _ in range(MAX_SETTLEMENTS)]
    for number, job in enumerate(many):
        market.commit(job, seconds_used=number)
    market.at(max(map(market.window_end, many)))
    receipt = escrow.settle_many([item(job) for job in many], sender=keeper)
    assert logs(receipt, escrow) == [result(job) for job in many]
    assert market.locked() == 0


def test_thirty_three_are_refused(market: Market, escrow: Contract, jobs: list[Job]) -> None:
    with ape.reverts():
        escrow.settle_many([item(jobs[0])] * (MAX_SETTLEMENTS + 1), sender=market.buyer)
    assert market.status(jobs[0]) == COMMITTED
