# SPDX-License-Identifier: Apache-2.0
"""The ledger from the index's own tables: every standing told apart, sums that add up."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gpubond.chain.events import Event
from gpubond.chain.index import MarketIndex
from gpubond.chain.market import Commitment, JobTerms, Tier
from gpubond.provider.earnings import MEANINGS, Amounts, Standing, ledger
from gpubond.store.database import Database

PROVIDER = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
STRANGER = "0x90F79bf6EB2c4f870365E785982E1f101E93b906"
BUYER = "0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC"
HIRED, WINDOW, DUE = 1000, 100, 2000
TERMS = JobTerms(
    buyer=BUYER,
    provider=PROVIDER,
    offer=b"\x01" * 32,
    spec_hash=b"\x02" * 32,
    tier=Tier.BASIC,
    tasks=1,
    price=0,
    price_per_second=3,
    longest_run=60,
    collateral=500,
    fee_bps=0,
    failure_cap_bps=1000,
    matched_at=HIRED,
    acknowledge_by=HIRED + 60,
    deliver_by=DUE,
    challenge_window=WINDOW,
    arbiter="0x" + "00" * 20,
    exact_terms=b"\0" * 32,
    audit_fee=0,
    audit_seal=b"\0" * 32,
    group=b"\0" * 32,
    salt=b"\0" * 32,
)


class Chain:
    """Writes events into an index as the watcher would."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.index = MarketIndex(database)
        self._number = 0

    def event(self, name: str, job: str, **args: Any) -> None:
        self._number += 1
        event = Event(self._number, "0x", 0, f"0x{self._number:064x}", "0x", name, {"job": job, **args})
        with self._database.transaction() as tx:
            self.index.apply(tx, [event])

    def hired(self, number: int, provider: str = PROVIDER) -> str:
        job = f"0x{number:064x}"
        self.event("JobMatched", job, terms=replace(TERMS, provider=provider).to_json())
        return job

    def committed(self, number: int, at: int = HIRED + 50, pay: int = 90) -> str:
        job = self.hired(number)
        commitment = Commitment(b"\x07" * 32, 1, pay, at)
        self.event("JobCommitted", job, commitment=commitment.to_json(), exit_status=0, seconds_used=30, tasks_done=1)
        return job


@pytest.fixture
def chain(tmp_path: Path) -> Iterator[Chain]:
    with Database(tmp_path / "store.sqlite") as database:
        yield Chain(database)


def test_every_standing_is_told_apart(chain: Chain) -> None:
    jobs: dict[Standing, str] = {}
    now = DUE + 1  # one second too late for what was hired and not delivered
    jobs[Standing.LATE] = chain.hired(1)
    jobs[Standing.DELIVERED] = chain.committed(2, at=now - WINDOW + 1)
    jobs[Standing.DUE] = chain.committed(3, at=now - WINDOW)
    jobs[Standing.DISPUTED] = chain.committed(4)
    chain.event("JobDisputed", jobs[Standing.DISPUTED])
    jobs[Standing.PAID] = chain.committed(5)
    chain.event("JobSettled", jobs[Standing.PAID], to_provider=88, fee=2, refund=90)
    jobs[Standing.DECLINED] = chain.hired(6)
    chain.event("JobDeclined", jobs[Standing.DECLINED])
    jobs[Standing.EXPIRED] = chain.hired(7)
    chain.event("JobExpired", jobs[Standing.EXPIRED], refund=180, compensation=36)
    jobs[Standing.CONVICTED] = chain.committed(8)
    chain.event("JobDisputed", jobs[Standing.CONVICTED])
    chain.event("JobConvicted", jobs[Standing.CONVICTED], refund=180, to_buyer=10, to_arbiter=5)
    chain.hired(9, provider=STRANGER)

    gas = [(f"commit:{jobs[Standing.PAID]}", 10), (f"settle:{jobs[Standing.PAID]}", 7)]
    gas += [(f"decline:{jobs[Standing.DECLINED]}", 5), ("join:ab12:0", 100), ("withdraw:cd", 1), ("oddly named", 1)]
    found = ledger(chain.index, gas, PROVIDER, now)
    assert {entry.standing: entry.job for entry in found.entries} == jobs
    of = {entry.standing: entry.amounts for entry in found.entries}
    assert of[Standing.PAID] == Amounts(to_provider=88, fee=2, gas_wei=17)
    assert of[Standing.DECLINED] == Amounts(gas_wei=5)
    assert of[Standing.EXPIRED] == of[Standing.CONVICTED] == Amounts(collateral_lost=500)
    assert of[Standing.LATE] == Amounts(collateral_locked=500)
    for standing in (Standing.DELIVERED, Standing.DUE, Standing.DISPUTED):
        assert of[standing] == Amounts(pending=90, collateral_locked=500), standing
    assert found.other_gas_wei == 102

    total = found.total
    assert total == Amounts(88, 2, 270, 2000, 1000, 22)
    sums = found.sums()
    assert sum(count for count, _ in sums.values()) == len(found.entries) == 8
    again = Amounts()
    for _, amounts in sums.values():
        again += amounts
    assert again == total


def test_a_job_in_time_is_running_up_to_its_last_second(chain: Chain) -> None:
    chain.hired(1)
    at = {now: ledger(chain.index, [], PROVIDER, now).entries[0].standing for now in (HIRED, DUE, DUE + 1)}
    assert at == {HIRED: Standing.RUNNING, DUE: Standing.RUNNING, DUE + 1: Standing.LATE}


def test_no_job_is_an_empty_ledger(chain: Chain) -> None:
    found = ledger(chain.index, [], PROVIDER, HIRED)
    assert (found.entries, found.sums(), found.total) == ((), {}, Amounts())


def test_every_standing_has_its_meaning() -> None:
    assert set(MEANINGS) == set(Standing)
