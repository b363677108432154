# SPDX-License-Identifier: Apache-2.0
"""Hundreds of cheap games against a provider that computed right, which is killed at random while base fees rise
fiftyfold: no clock is lost, and it is not out of pocket. Real processes, a real chain."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gpubond.chain.development import advance_time
from gpubond.chain.market import Status
from gpubond.chain.session import open_session
from gpubond.devnet import Devnet, find_anvil, free_port
from tests.disputes.cheap_games import BUYER, OPERATOR, OWNER, WINDOW, Crowd, check_net
from tests.exact.conftest import Counted
from tests.exact_contracts.operations import drawing
from tests.integration.exact_market import exact_provider
from tests.integration.marketplace import Marketplace

ROOT = Path(__file__).resolve().parents[2]
SEED = 20261130
GAMES = 500
JOBS = 6


@pytest.fixture
def market(tmp_path: Path) -> Iterator[Marketplace]:
    devnet = Devnet(tmp_path / "chain", free_port(), anvil=find_anvil(ROOT / ".cache" / "anvil"))
    devnet.up()
    market = Marketplace(tmp_path, devnet, devnet.deploy(ROOT))
    try:
        yield market
    finally:
        market.close()


@pytest.mark.extended
@pytest.mark.timeout(3600)
def test_five_hundred_cheap_games(market: Marketplace, counted: Counted) -> None:
    provider = exact_provider(market, "provider", OWNER, OPERATOR)
    with open_session(market.buyer("buyer", BUYER)) as session:
        crowd = Crowd(market, provider, session, drawing(SEED))
        crowd.prepare(JOBS)
        check_net(crowd, GAMES)
        assert crowd.done["kills"] > 20 and crowd.done["spikes"] > 10, crowd.done
        counted(crowd.done["games"], SEED)
        # It is paid for its work besides.
        advance_time(market.node, WINDOW)
        for job, _ in crowd.jobs:
            assert job.commitment is not None
            session.send(session.contracts.settle(job.terms, job.commitment), f"settle:{job.job}")
            assert market.contracts.job_status(job.job_id) == Status.SETTLED
