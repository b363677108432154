# SPDX-License-Identifier: Apache-2.0
"""Gas money on a real chain: how long it lasts, and a warning that is sparing."""

from __future__ import annotations

import logging

import pytest

from gpubond.chain.fees import market_fees
from gpubond.provider.gas_money import JOB_GAS, LOOK_EVERY, WARN_EVERY, GasWatch, gas_money

from ..conftest import Anvil

OPERATOR = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"


def give(anvil: Anvil, jobs: int) -> None:
    anvil.rpc("anvil_setBalance", OPERATOR, hex(jobs * JOB_GAS * market_fees(anvil.node).max_fee))


@pytest.mark.parametrize("jobs", [0, 1, 7])
def test_jobs_that_it_lasts_for(anvil: Anvil, jobs: int) -> None:
    give(anvil, jobs)
    money = gas_money(anvil.node, OPERATOR)
    assert money.jobs == jobs
    assert money.jobs_text == f"{jobs} {'job' if jobs == 1 else 'jobs'}"


def test_the_warning_comes_at_once_then_hourly_and_when_the_money_is_gone(
    anvil: Anvil, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "gpubond.provider.gas_money")
    now = 0.0
    watch = GasWatch(anvil.node, OPERATOR, 20, lambda: now)

    def said() -> list[str]:
        messages = [record.getMessage() for record in caplog.records]
        caplog.clear()
        return messages

    give(anvil, 20)
    watch.look()
    assert said() == []
    give(anvil, 5)
    watch.look()
    assert said() == [], "asked again before the time has come"
    now += LOOK_EVERY
    watch.look()
    first = said()
    assert len(first) == 1 and OPERATOR in first[0] and "5 jobs" in first[0]
    now += LOOK_EVERY
    watch.look()
    assert said() == [], "repeated too early"
    now += WARN_EVERY
    watch.look()
    assert len(said()) == 1
    give(anvil, 0)
    now += LOOK_EVERY
    watch.look()
    assert "0 jobs" in said()[0]
    now += LOOK_EVERY
    watch.look()
    assert said() == []
    give(anvil, 100)
    now += LOOK_EVERY
    watch.look()
    assert "enough again" in said()[0]
