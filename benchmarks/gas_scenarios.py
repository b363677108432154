# SPDX-License-Identifier: Apache-2.0
"""What whole jobs cost, what joining costs, and that neither grows with what the market already holds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.gas_chain import Artifact, Call, account, digest, event, start_chain
from benchmarks.gas_functions import Rounds
from benchmarks.gas_market import (
    BALANCE,
    COLLATERAL,
    FEE_BPS,
    LONGEST_RUN,
    USD,
    USED_SECONDS,
    Job,
    Market,
    Provider,
)

BATCH = 10
TASKS = 100
TASKS_DONE = 97

# A zero byte of calldata costs 4 gas and another one 16. Ids, hashes and times differ from job to job, so the
# same call differs by the zero bytes in them; ten more or less are allowed, growing storage would cost thousands.
SCALING_TOLERANCE = 120
SCALED = ("post_offer", "hire", "commit", "settle", "expire")

# A third of the other jobs each is left running, is left committed, and is settled.
_STAGES = 3


def measure(
    artifacts: Mapping[str, Artifact],
    anvil: Path,
    directory: Path,
    hardfork: str,
    steps: Sequence[int],
    progress: Callable[[str], None],
) -> tuple[str, dict[str, Any]]:
    """All figures under one hardfork's rules, on a chain of their own.

    Args:
        artifacts: the compiled contracts.
        anvil: the node's binary.
        directory: for the node's files.
        hardfork: by anvil's names.
        steps: how many other jobs there are when the growth is measured, ascending.
        progress: told what is done now.

    Returns:
        The node's version, and the figures in gas.
    """
    with start_chain(directory, anvil, hardfork) as chain:
        market = Market(chain, artifacts)
        provider, buyer = Provider(account("owner"), account("operator")), account("buyer")
        progress(f"{hardfork}: every function")
        functions = Rounds(market, provider, buyer).run()
        chain.send(market.admin, market.token, "approve", market.escrow, 2**256 - 1)
        chain.send(market.admin, market.token, "approve", market.staking, 2**256 - 1)
        _pay_in(market, buyer)
        progress(f"{hardfork}: whole jobs")
        figures = {
            "deployment": market.deployment,
            "lifecycle": _lifecycles(market, provider, buyer),
            "bag_task": _bag_task(market, provider, buyer),
            "expire": _expire(market, provider, buyer),
            "onboarding": _onboarding(market),
            "functions": functions,
            "scaling": _scaling(market, provider, buyer, steps, lambda text: progress(f"{hardfork}: {text}")),
        }
        return chain.version, figures


def _pay_in(market: Market, who: str, amount: int = BALANCE) -> None:
    """The admin fills a balance for another."""
    market.chain.send(market.admin, market.token, "faucet", amount, market.admin)
    market.chain.send(market.admin, market.escrow, "deposit", amount, who)


def _lifecycles(market: Market, provider: Provider, buyer: str) -> dict[str, dict[str, int]]:
    """Whole jobs between a provider and a buyer who have dealt before; the first one is the dearest of an offer."""
    demands = market.demands.address
    guarded, plain = market.offer(provider, arbiter=demands), market.offer(provider)
    for offer in (guarded, plain):
        market.post(provider, offer)

    def hired(offer: Mapping[str, Any] = guarded) -> Job:
        return market.hire(provider, offer, buyer)

    found = {
        "fee_and_refund": _whole(market, hired()),
        "no_arbiter": _whole(market, hired(plain)),
        "settled_by_provider": _whole(market, hired(), provider.operator),
        "settled_by_keeper": _whole(market, hired(), market.keeper),
        "no_refund": _whole(market, hired(), seconds=LONGEST_RUN),
        "fixed_price_request": _whole(market, market.post_and_accept(provider, buyer, arbiter=demands)),
        "fixed_price_request_at_its_price": _whole(
            market, market.post_and_accept(provider, buyer, price=5 * USD, arbiter=demands)
        ),
    }
    # Dearest of all: a job whose money comes for it alone and leaves at once.
    deposited = market.chain.send(buyer, market.escrow, "deposit", 4 * USD).gas
    parts = _whole(market, hired())
    withdrawn = market.chain.send(provider.owner, market.escrow, "withdraw", USD).gas
    parts["total"] += deposited + withdrawn
    found["with_deposit_and_withdrawal"] = {"deposit": deposited, **parts, "withdraw": withdrawn}

    batch, hire = market.hire_many(provider, guarded, buyer, BATCH)
    commit = market.commit_many(batch)
    settle = market.settle_many(batch, provider.operator)
    steps = {"hire": hire, "commit": commit, "settle": settle, "total": hire + commit + settle}
    found["batch_of_10_at_once"] = {step: _share(gas, BATCH) for step, gas in steps.items()}

    batch = [hired() for _ in range(BATCH)]
    for job in batch:
        market.commit(job)
    found["batch_of_10"] = _shares(batch, market.settle_many(batch, provider.operator))

    # Each buyer of the second batch has a balance already, as a regular customer has.
    buyers = [account(f"customer {number}") for number in range(BATCH)]
    for customer in buyers:
        _pay_in(market, customer, 100 * USD)
    batch = [market.hire(provider, guarded, customer) for customer in buyers]
    for job in batch:
        market.commit(job)
    found["batch_of_10_buyers"] = _shares(batch, market.settle_many(batch, provider.operator))

    market.chain.send(market.admin, market.escrow, "set_fee", 0)
    found["fee_zero"] = _whole(market, hired())
    found["fee_zero_no_refund"] = _whole(market, hired(), seconds=LONGEST_RUN)
    market.chain.send(market.admin, market.escrow, "set_fee", FEE_BPS)
    return found


def _whole(market: Market, job: Job, by: str | None = None, *, seconds: int = USED_SECONDS) -> dict[str, int]:
    market.commit(job, seconds=seconds)
    market.settle(job, by)
    return job.gas | {"total": job.total}


def _shares(batch: Sequence[Job], settled: int) -> dict[str, int]:
    """What one job of a batch costs, rounded up."""
    parts = {step: _share(sum(job.gas[step] for job in batch), len(batch)) for step in ("hire", "commit")}
    total = _share(sum(job.total for job in batch) + settled, len(batch))
    return parts | {"settle": _share(settled, len(batch)), "total": total}


def _share(gas: int, parts: int) -> int:
    return -(-gas // parts)


def _bag_task(market: Market, provider: Provider, buyer: str) -> dict[str, int]:
    """A task of a job of 100, of which 97 were done; rounded up."""
    demands = market.demands.address
    offer = market.offer(provider, arbiter=demands)
    market.post(provider, offer)
    bags = {
        "by_offer": market.hire(provider, offer, buyer, tasks=TASKS),
        "by_request": market.post_and_accept(provider, buyer, tasks=TASKS, arbiter=demands),
    }
    figures = {}
    for way, job in bags.items():
        market.commit(job, tasks_done=TASKS_DONE)
        market.settle(job)
        figures[way] = _share(job.total, TASKS)
    return figures


def _expire(market: Market, provider: Provider, buyer: str) -> int:
    offer = market.offer(provider, arbiter=market.demands.address)
    market.post(provider, offer)
    return market.expire(market.hire(provider, offer, buyer))


def _onboarding(market: Market) -> dict[str, dict[str, int]]:
    """What a newcomer pays before its first job, when it has nothing but tokens."""
    provider, buyer = Provider(account("new owner"), account("new operator")), account("new buyer")
    approvals = market.fund(provider.owner, market.staking)
    joined = market.join(provider)
    total = sum(joined.values())
    as_provider = joined | {"total": total} | approvals | {"total_with_approvals": total + sum(approvals.values())}

    paid = market.fund(buyer, market.escrow)
    paid["first deposit"] = market.chain.send(buyer, market.escrow, "deposit", BALANCE // 10).gas
    return {"provider": as_provider, "buyer": paid | {"total": sum(paid.values())}}


def _scaling(
    market: Market, provider: Provider, buyer: str, steps: Sequence[int], progress: Callable[[str], None]
) -> dict[str, Any]:
    """Gas of five functions after others have posted as many offers and made as many jobs."""
    shared = market.offer(provider, count=2**32, arbiter=market.demands.address)
    market.post(provider, shared)
    gas: dict[str, list[int]] = {name: [] for name in SCALED}
    others = 0
    for step in steps:
        progress(f"growth, {step} other jobs")
        if others < step:
            _add_others(market, range(others, step), provider, shared)
            others = step
        offer = market.offer(provider, arbiter=market.demands.address)
        gas["post_offer"].append(market.post(provider, offer))
        job = market.hire(provider, shared, buyer)
        gas["hire"].append(job.gas["hire"])
        gas["commit"].append(market.commit(job))
        gas["settle"].append(market.settle(job))
        gas["expire"].append(market.expire(market.hire(provider, shared, buyer)))
    deviation = {name: max(values) - min(values) for name, values in gas.items()}
    return {
        "others": list(steps),
        "gas": gas,
        "deviation": deviation,
        "largest_deviation": max(deviation.values()),
        "tolerance": SCALING_TOLERANCE,
    }


def _add_others(market: Market, numbers: Sequence[int], provider: Provider, shared: Mapping[str, Any]) -> None:
    """For each number a provider with an offer, a buyer, and a job of that offer or of the measured provider's."""
    send, escrow, staking = market.chain.send_all, market.escrow, market.staking
    providers = [Provider(account(f"other owner {number}"), account(f"other operator {number}")) for number in numbers]
    buyers = [account(f"other buyer {number}") for number in numbers]
    each = list(zip(numbers, providers, buyers, strict=True))

    count, stake, balance = len(each), 2 * COLLATERAL, 100 * USD
    market.chain.send(market.admin, market.token, "faucet", count * (stake + balance), market.admin)
    send([Call(market.admin, escrow, "deposit", (balance, buyer)) for buyer in buyers])
    send([Call(market.admin, staking, "stake", (stake, other.owner)) for other in providers])
    send([Call(other.owner, staking, "register", (other.operator, "")) for other in providers])
    send([Call(other.owner, staking, "allow", (escrow, stake, COLLATERAL)) for other in providers])
    offers = [market.offer(other) for other in providers]
    send([Call(other.operator, escrow, "post_offer", (offer,)) for other, offer in zip(providers, offers, strict=True)])
    hired = [offer if number % 2 else shared for number, offer in zip(numbers, offers, strict=True)]
    receipts = send(
        [Call(buyer, escrow, "hire", (offer, market.order())) for buyer, offer in zip(buyers, hired, strict=True)]
    )
    jobs = [
        Job(event(escrow, "JobMatched", receipt)["terms"], (other if number % 2 else provider).operator, {})
        for (number, other, _), receipt in zip(each, receipts, strict=True)
    ]
    done = [job for number, job in zip(numbers, jobs, strict=True) if number % _STAGES]
    receipts = send(
        [
            Call(job.operator, escrow, "commit", (job.terms, digest(f"result {place}"), 1, 0, 1, 1))
            for place, job in enumerate(done)
        ]
    )
    for job, receipt in zip(done, receipts, strict=True):
        job.commitment = event(escrow, "JobCommitted", receipt)["commitment"]
    send([Call(job.terms["buyer"], escrow, "settle", (job.terms, job.commitment)) for job in done[::2]])
