# SPDX-License-Identifier: Apache-2.0
"""The ledger of a provider: what each job brought and cost, from the local index and the outbox.

Nothing is scanned: the index has the events that ended a job, the outbox what the worker's transactions cost.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from enum import StrEnum

from gpubond.chain.index import JobRecord, MarketIndex
from gpubond.chain.market import Status


class Standing(StrEnum):
    """How a job stands in the ledger."""

    RUNNING = "running"  # hired, and there is time to deliver
    LATE = "late"  # hired and not delivered in time: whoever expires it takes the collateral
    DELIVERED = "delivered"  # committed; the challenge window is open
    DUE = "due"  # the window is over, and the payment is not fetched yet
    DISPUTED = "disputed"
    PAID = "paid"
    DECLINED = "declined"
    EXPIRED = "expired"
    CONVICTED = "convicted"


# standing -> what it means for the provider's money.
MEANINGS: dict[Standing, str] = {
    Standing.RUNNING: "hired, to be delivered; the collateral is locked",
    Standing.LATE: "not delivered in time: whoever expires it takes the collateral",
    Standing.DELIVERED: "committed; paid when the buyer releases it or the challenge window ends",
    Standing.DUE: "the challenge window is over; the worker is about to fetch the payment",
    Standing.DISPUTED: "an arbiter holds it; payment and collateral wait for its decision",
    Standing.PAID: "settled; the pay less the fee is in the escrow balance",
    Standing.DECLINED: "given back in time; no pay and no penalty",
    Standing.EXPIRED: "not delivered; the collateral is lost",
    Standing.CONVICTED: "an arbiter convicted it; the collateral is lost",
}

_BY_STATUS = {
    Status.SETTLED: Standing.PAID,
    Status.DECLINED: Standing.DECLINED,
    Status.EXPIRED: Standing.EXPIRED,
    Status.CONVICTED: Standing.CONVICTED,
    Status.DISPUTED: Standing.DISPUTED,
}
_LOST = (Standing.EXPIRED, Standing.CONVICTED)


@dataclass(frozen=True)
class Amounts:
    """Base units of the token, and wei. `pending` is the pay (fee not taken off) that a commitment asks for."""

    to_provider: int = 0
    fee: int = 0
    pending: int = 0
    collateral_locked: int = 0
    collateral_lost: int = 0
    gas_wei: int = 0

    def __add__(self, other: Amounts) -> Amounts:
        return Amounts(*(getattr(self, item.name) + getattr(other, item.name) for item in fields(self)))


@dataclass(frozen=True)
class Entry:
    """One job. `seconds` is what was claimed with the commitment, `exit_status` what the run ended with."""

    job: str
    buyer: str
    hired_at: int
    standing: Standing
    seconds: int | None
    exit_status: int | None
    amounts: Amounts
    final_tx: str | None


@dataclass(frozen=True)
class Ledger:
    """All jobs of a provider, oldest first. `other_gas_wei` is what transactions cost that belong to no job."""

    entries: tuple[Entry, ...]
    other_gas_wei: int

    def sums(self) -> dict[Standing, tuple[int, Amounts]]:
        """Number of jobs and amounts of each standing that occurs."""
        found: dict[Standing, tuple[int, Amounts]] = {}
        for standing in Standing:
            amounts = [entry.amounts for entry in self.entries if entry.standing is standing]
            if amounts:
                found[standing] = (len(amounts), _sum(amounts))
        return found

    @property
    def total(self) -> Amounts:
        """All jobs together."""
        return _sum(entry.amounts for entry in self.entries)


def ledger(index: MarketIndex, gas: Iterable[tuple[str, int]], provider: str, now: int) -> Ledger:
    """The ledger of a provider.

    Args:
        index: as of its last synchronisation.
        gas: purposes and costs in wei, as `chain.outbox.gas_costs` gives them.
        now: the chain's time (Unix seconds), which tells what is late.
    """
    jobs = index.jobs(provider=provider)
    known = {record.job for record in jobs}
    by_job: dict[str, int] = {}
    other = 0
    for purpose, wei in gas:
        # `commit:<job>`, `settle:<job>`, and whatever else names a job in its second part; `#` follows what was tried
        # in vain.
        named = purpose.split("#")[0].split(":")[1] if ":" in purpose else ""
        if named in known:
            by_job[named] = by_job.get(named, 0) + wei
        else:
            other += wei
    return Ledger(tuple(_entry(record, now, by_job.get(record.job, 0)) for record in jobs), other)


def _entry(record: JobRecord, now: int, gas_wei: int) -> Entry:
    standing = _standing(record, now)
    outcome, report = record.outcome or {}, record.report or {}
    live = standing not in (*_LOST, Standing.PAID, Standing.DECLINED)
    amounts = Amounts(
        to_provider=outcome.get("to_provider", 0),
        fee=outcome.get("fee", 0),
        pending=record.commitment.pay if live and record.commitment is not None else 0,
        collateral_locked=record.terms.collateral if live else 0,
        collateral_lost=record.terms.collateral if standing in _LOST else 0,
        gas_wei=gas_wei,
    )
    return Entry(
        job=record.job,
        buyer=record.terms.buyer,
        hired_at=record.terms.matched_at,
        standing=standing,
        seconds=report.get("seconds_used"),
        exit_status=report.get("exit_status"),
        amounts=amounts,
        final_tx=record.final_tx,
    )


def _standing(record: JobRecord, now: int) -> Standing:
    if record.status in _BY_STATUS:
        return _BY_STATUS[record.status]
    if record.commitment is not None and record.status == Status.COMMITTED:
        over = now >= record.commitment.committed_at + record.terms.challenge_window
        return Standing.DUE if over else Standing.DELIVERED
    return Standing.LATE if now > record.terms.deliver_by else Standing.RUNNING


def _sum(amounts: Iterable[Amounts]) -> Amounts:
    total = Amounts()
    for item in amounts:
        total += item
    return total
