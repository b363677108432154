# SPDX-License-Identifier: Apache-2.0
"""People, contracts and books for the unit tests. One chain a session; Ape takes each test back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import ape
import pytest
from ape.api import AccountAPI, ReceiptAPI
from ape.contracts import ContractInstance

from .market import BALANCE, STAKE, USD, Job, Market, install


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-gas", action="store_true", help="Rewrite tests/gas_snapshot.json with what was measured."
    )


@pytest.fixture(scope="session", autouse=True)
def no_debug_logs() -> Iterator[None]:
    """Ape runs every transaction once more to find what contracts print; ours print nothing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ReceiptAPI, "show_debug_logs", lambda receipt: None)
        yield


@pytest.fixture(scope="session")
def admin(accounts: Any) -> AccountAPI:
    return accounts[0]


@pytest.fixture(scope="session")
def owner(accounts: Any) -> AccountAPI:
    return accounts[1]


@pytest.fixture(scope="session")
def operator(accounts: Any) -> AccountAPI:
    return accounts[2]


@pytest.fixture(scope="session")
def buyer(accounts: Any) -> AccountAPI:
    return accounts[3]


@pytest.fixture(scope="session")
def thief(accounts: Any) -> AccountAPI:
    return accounts[4]


@pytest.fixture(scope="session")
def keeper(accounts: Any) -> AccountAPI:
    return accounts[5]


@pytest.fixture(scope="session")
def newcomer(accounts: Any) -> AccountAPI:
    """Has tokens and approvals, and no account anywhere yet."""
    return accounts[6]


@pytest.fixture(scope="session")
def receiver(accounts: Any) -> AccountAPI:
    """Only ever receives."""
    return accounts[7]


@dataclass(frozen=True)
class Installed:
    """All that the session shares."""

    market: Market
    rogue_market: Market
    silent_market: Market
    locker: ContractInstance
    views: ContractInstance
    harness: ContractInstance


@pytest.fixture(scope="session")
def installed(
    chain: Any,
    admin: AccountAPI,
    owner: AccountAPI,
    operator: AccountAPI,
    buyer: AccountAPI,
    thief: AccountAPI,
    keeper: AccountAPI,
    newcomer: AccountAPI,
) -> Installed:
    # Everything is deployed at once: a session fixture that came up later would make Ape take the chain back
    # and deploy again.
    def install_on(token: ContractInstance, give: Callable[[int, AccountAPI], Any]) -> Market:
        give(STAKE, owner)
        give(BALANCE, buyer)
        market = install(
            chain,
            token,
            admin=admin,
            owner=owner,
            operator=operator,
            buyer=buyer,
            others=(thief, keeper, newcomer),
        )
        for person in (owner, buyer, thief, newcomer):
            give(100_000 * USD, person)
            token.approve(market.staking, 2**256 - 1, sender=person)
            token.approve(market.escrow, 2**256 - 1, sender=person)
        return market

    token = admin.deploy(ape.project.TestToken)
    rogue = admin.deploy(ape.project.MisbehavingToken)
    silent = admin.deploy(ape.project.SilentToken)
    market = install_on(token, lambda amount, person: token.faucet(amount, person, sender=admin))
    locker = admin.deploy(ape.project.MockLocker, market.staking)
    return Installed(
        market=replace(market, lockers=(locker,)),
        rogue_market=install_on(rogue, lambda amount, person: rogue.mint(person, amount, sender=admin)),
        silent_market=install_on(silent, lambda amount, person: silent.mint(person, amount, sender=admin)),
        locker=locker,
        views=admin.deploy(ape.project.JobEscrowViews, market.escrow),
        harness=admin.deploy(ape.project.TermsHarness),
    )


@pytest.fixture
def market(installed: Installed) -> Iterator[Market]:
    """The market of the session with empty books, which must balance when the test is over."""
    market = replace(installed.market, jobs=[], requests=[])
    yield market
    market.check_books()


@pytest.fixture
def rogue_market(installed: Installed) -> Iterator[Market]:
    """A market on a token that can be switched to any misbehaviour; its books must balance all the same."""
    market = replace(installed.rogue_market, jobs=[], requests=[])
    yield market
    market.check_books()


@pytest.fixture
def silent_market(installed: Installed) -> Iterator[Market]:
    """A market on a token whose transfers return nothing."""
    market = replace(installed.silent_market, jobs=[], requests=[])
    yield market
    market.check_books()


@pytest.fixture
def token(market: Market) -> ContractInstance:
    return market.token


@pytest.fixture
def staking(market: Market) -> ContractInstance:
    return market.staking


@pytest.fixture
def escrow(market: Market) -> ContractInstance:
    return market.escrow


@pytest.fixture
def arbiter(market: Market) -> ContractInstance:
    return market.arbiter


@pytest.fixture
def locker(installed: Installed) -> ContractInstance:
    """A contract that locks and slashes whatever it is told; nobody has allowed it yet."""
    return installed.locker


@pytest.fixture
def views(installed: Installed) -> ContractInstance:
    return installed.views


@pytest.fixture
def harness(installed: Installed) -> ContractInstance:
    """The functions of modules/terms.vy, one by one."""
    return installed.harness


@pytest.fixture
def offer(market: Market) -> dict[str, Any]:
    """An open offer on BASIC."""
    return market.post(market.offer())


@pytest.fixture
def exact_offer(market: Market) -> dict[str, Any]:
    """An open offer on BASIC and EXACT."""
    return market.post(market.exact_offer())


@pytest.fixture
def job(market: Market, offer: dict[str, Any]) -> Job:
    """An active job on BASIC."""
    return market.hire(offer)


@pytest.fixture
def committed(market: Market, job: Job) -> Job:
    """A job on BASIC, committed to after ten minutes of run."""
    market.at(job.terms["matched_at"] + 600)
    market.commit(job, seconds_used=600)
    return job


@pytest.fixture
def exact_job(market: Market, exact_offer: dict[str, Any]) -> Job:
    """A committed job on EXACT."""
    job = market.hire_exact(exact_offer)
    market.at(job.terms["matched_at"] + 600)
    market.commit(job)
    return job


@pytest.fixture
def disputed(market: Market, exact_job: Job) -> Job:
    """A job on EXACT that its arbiter holds."""
    market.hold(exact_job)
    return exact_job
