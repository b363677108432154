# SPDX-License-Identifier: Apache-2.0
"""A deployed market with its people, and the books that must always balance."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import ape
from ape.api import AccountAPI, ReceiptAPI
from ape.contracts import ContractInstance
from eth_utils.address import to_checksum_address

from . import reference
from .reference import BASIC, EXACT

Account = AccountAPI
Contract = ContractInstance

ZERO = "0x" + "00" * 20
EMPTY = b"\0" * 32
USD = 10**6

DAY = 86_400
ROOT = b"\x11" * 32
SPEC = b"\x22" * 32
EXACT_TERMS = b"\x33" * 32

STAKE = 10_000 * USD
ALLOWED = 4_000 * USD
PER_JOB = 1_000 * USD
BALANCE = 50_000 * USD

PRICE = 1_000  # base units a second
LONGEST_RUN = 3_600
SHORTEST_RUN = 60
ACKNOWLEDGE_WINDOW = 900
DELIVERY_MARGIN = 600
CHALLENGE_WINDOW = 7_200
COLLATERAL = 50 * USD
FEE_BPS = 250
FAILURE_CAP_BPS = 1_000


@dataclass
class Job:
    """A hired job; `commitment` is empty until it has one."""

    id: bytes
    terms: dict[str, Any]
    receipt: ReceiptAPI
    commitment: dict[str, Any] = field(default_factory=dict)

    @property
    def escrowed(self) -> int:
        return reference.escrowed(self.terms)


@dataclass
class Market:
    """Contracts and people. Every job hired through it enters its books."""

    chain: Any
    token: ContractInstance
    staking: ContractInstance
    escrow: ContractInstance
    arbiter: ContractInstance
    books: ContractInstance
    admin: AccountAPI
    owner: AccountAPI
    operator: AccountAPI
    buyer: AccountAPI
    others: tuple[Any, ...] = ()
    lockers: tuple[Any, ...] = ()  # beside the escrow
    jobs: list[Job] = field(default_factory=list)
    requests: list[dict[str, Any]] = field(default_factory=list)
    _salts: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    # Times.

    def at(self, timestamp: int) -> None:
        """Makes the next transaction's block carry this time (Unix seconds)."""
        self.chain.pending_timestamp = timestamp

    @property
    def now(self) -> int:
        """Time of the latest block."""
        return int(self.chain.blocks.head.timestamp)

    # Structs.

    def offer(self, **changes: Any) -> dict[str, Any]:
        """An offer of the provider on BASIC, with changes."""
        return {
            "provider": self.owner.address,
            "resource_class": b"cpu-sim".ljust(32, b"\0"),
            "count": 4,
            "tiers": BASIC,
            "price_per_second": PRICE,
            "shortest_run": SHORTEST_RUN,
            "longest_run": LONGEST_RUN,
            "acknowledge_window": ACKNOWLEDGE_WINDOW,
            "delivery_margin": DELIVERY_MARGIN,
            "challenge_window": CHALLENGE_WINDOW,
            "failure_cap_bps": FAILURE_CAP_BPS,
            "max_fee_bps": 500,
            "collateral": COLLATERAL,
            "expiry": 2**63,
            "arbiter": ZERO,
        } | changes

    def exact_offer(self, **changes: Any) -> dict[str, Any]:
        """An offer of the provider on BASIC and EXACT, with changes."""
        return self.offer(**{"tiers": BASIC | EXACT, "arbiter": self.arbiter.address} | changes)

    def order(self, **changes: Any) -> dict[str, Any]:
        """An order of one hour on BASIC with a fresh salt, with changes."""
        return {
            "spec_hash": SPEC,
            "tier": BASIC,
            "tasks": 1,
            "longest_run": LONGEST_RUN,
            "exact_terms": EMPTY,
            "audit_fee": 0,
            "audit_seal": EMPTY,
            "group": EMPTY,
            "salt": next(self._salts).to_bytes(32, "big"),
        } | changes

    def exact_order(self, **changes: Any) -> dict[str, Any]:
        """An order on EXACT with a fresh salt, with changes."""
        return self.order(**{"tier": EXACT, "exact_terms": EXACT_TERMS} | changes)

    def request(self, **changes: Any) -> dict[str, Any]:
        """A request for ten tasks at a fixed price on BASIC with a fresh salt, with changes."""
        return {
            "buyer": self.buyer.address,
            "provider": ZERO,
            "resource_class": b"cpu-sim".ljust(32, b"\0"),
            "spec_hash": SPEC,
            "tier": BASIC,
            "tasks": 10,
            "price": 4 * USD,
            "price_per_second": 0,
            "longest_run": LONGEST_RUN,
            "acknowledge_window": ACKNOWLEDGE_WINDOW,
            "delivery_margin": DELIVERY_MARGIN,
            "challenge_window": CHALLENGE_WINDOW,
            "failure_cap_bps": FAILURE_CAP_BPS,
            "collateral": COLLATERAL,
            "expiry": self.now + DAY,
            "arbiter": ZERO,
            "exact_terms": EMPTY,
            "audit_fee": 0,
            "audit_seal": EMPTY,
            "group": EMPTY,
            "salt": next(self._salts).to_bytes(32, "big"),
        } | changes

    def bid(self, **changes: Any) -> dict[str, Any]:
        """A bid of the provider at four fifths of the default request's price, with changes."""
        return {"provider": self.owner.address, "price": 3_200_000, "max_fee_bps": 500} | changes

    # Steps that tests need before the one they test.

    def post(self, offer: dict[str, Any]) -> dict[str, Any]:
        self.escrow.post_offer(offer, sender=self.operator)
        return offer

    def offer_id(self, offer: dict[str, Any]) -> bytes:
        return reference.offer_id(self.chain.chain_id, self.escrow.address, offer)

    def hire(self, offer: dict[str, Any], buyer: AccountAPI | None = None, **order: Any) -> Job:
        """Hires on an open offer; `order` changes the default order."""
        shown = self.order(**order)
        receipt = self.escrow.hire(offer, shown, sender=buyer or self.buyer)
        return self.record(offer, shown, (buyer or self.buyer).address, receipt)

    def hire_exact(self, offer: dict[str, Any], buyer: AccountAPI | None = None, **order: Any) -> Job:
        """Hires on EXACT."""
        return self.hire(offer, buyer, **{"tier": EXACT, "exact_terms": EXACT_TERMS} | order)

    def record(self, offer: dict[str, Any], order: dict[str, Any], buyer: str, receipt: ReceiptAPI) -> Job:
        """Enters a job in the books with the terms that the specification gives it."""
        terms = reference.terms_of(
            offer,
            order,
            offer_id=self.offer_id(offer),
            buyer=buyer,
            fee_bps=self.escrow.fee_bps(),
            matched_at=receipt.timestamp,
        )
        job = Job(self.job_id(terms), terms, receipt)
        self.jobs.append(job)
        return job

    def post_request(self, request: dict[str, Any], buyer: AccountAPI | None = None) -> ReceiptAPI:
        """Posts a request and enters it in the books."""
        receipt = self.escrow.post_request(request, sender=buyer or self.buyer)
        self.requests.append(request)
        return receipt

    def accept(self, request: dict[str, Any], sender: AccountAPI | None = None, **bid: Any) -> Job:
        """Accepts a request; `bid` changes the default bid. The job enters the books."""
        shown = self.bid(**bid)
        receipt = self.escrow.accept(request, shown, sender=sender or self.operator)
        terms = reference.accepted_terms(
            request,
            provider=shown["provider"],
            price=shown["price"],
            fee_bps=self.escrow.fee_bps(),
            matched_at=receipt.timestamp,
        )
        job = Job(self.job_id(terms), terms, receipt)
        self.jobs.append(job)
        return job

    def request_id(self, request: dict[str, Any]) -> bytes:
        return reference.request_id(self.chain.chain_id, self.escrow.address, request)

    def request_status(self, request: dict[str, Any]) -> int:
        return int(self.escrow.request_slot(self.request_id(request)) & 0xFFFF)

    def open_requests(self) -> list[dict[str, Any]]:
        """Those of the books that nobody has accepted or cancelled."""
        return [request for request in self.requests if self.request_status(request) == reference.OPEN]

    def job_id(self, terms: dict[str, Any]) -> bytes:
        return reference.job_id(self.chain.chain_id, self.escrow.address, terms)

    def commit(
        self,
        job: Job,
        *,
        sender: AccountAPI | None = None,
        root: bytes = ROOT,
        chunks: int | None = None,
        exit_status: int = 0,
        seconds_used: int = LONGEST_RUN,
        tasks_done: int | None = None,
    ) -> ReceiptAPI:
        """Commits to a root for a job and keeps its commitment, computed by the reference."""
        chunks = (0 if job.terms["tier"] == EXACT else 1) if chunks is None else chunks
        tasks_done = job.terms["tasks"] if tasks_done is None else tasks_done
        receipt = self.escrow.commit(
            job.terms, root, chunks, exit_status, seconds_used, tasks_done, sender=sender or self.operator
        )
        job.commitment = {
            "result_root": root,
            "chunks": chunks,
            "pay": reference.pay(
                job.terms,
                now=receipt.timestamp,
                exit_status=exit_status,
                seconds_used=seconds_used,
                tasks_done=tasks_done,
            ),
            "committed_at": receipt.timestamp,
        }
        return receipt

    def hold(self, job: Job) -> ReceiptAPI:
        return self.arbiter.hold(job.terms, job.commitment, sender=self.buyer)

    def window_end(self, job: Job) -> int:
        return int(job.commitment["committed_at"] + job.terms["challenge_window"])

    # Reads.

    def status(self, job: Job) -> int:
        return int(self.escrow.job_slot(job.id) & 0xFFFF)

    def balance(self, account: Any) -> int:
        return int(self.escrow.balance_of(account))

    def accounts(self) -> tuple[Any, ...]:
        """Everyone who may be owed something."""
        people = (self.admin, self.owner, self.operator, self.buyer, self.arbiter, *self.others)
        return (*people, self.token, self.escrow, self.staking)

    def locked(self) -> int:
        return int(self.staking.allowance(self.owner, self.escrow).locked)

    def stake(self, provider: Any = None) -> int:
        """All that a provider has at stake (the owner's, unless told): free, or allocated to a locker."""
        provider = provider or self.owner
        allowances = (self.staking.allowance(provider, locker) for locker in (self.escrow, *self.lockers))
        return int(self.staking.free_stake_of(provider) + sum(max(each.total, each.locked) for each in allowances))

    def burned(self) -> int:
        """What the escrow's slashes took out of use."""
        return int(self.staking.burned_by(self.escrow))

    def owed(self) -> int:
        """What the escrow may collect from staking."""
        return int(self.staking.owed_to(self.escrow))

    def fees(self, provider: Any = None) -> int:
        """Fees on what a provider (the owner, unless told) earned, not collected yet."""
        return int(self.escrow.fees_of(provider or self.owner))

    def is_open(self, offer: dict[str, Any]) -> bool:
        return bool(self.escrow.offer_slot(self.offer_id(offer)) >> 255)

    def places(self, offer: dict[str, Any]) -> int:
        """Places of an offer that are taken."""
        return int(self.escrow.offer_slot(self.offer_id(offer)) & (2**128 - 1))

    def check_books(self) -> None:
        """Both contracts hold or are owed exactly what they owe, and locks are exactly those of live jobs."""
        figures = self.books.read(
            self.escrow,
            self.staking,
            [self.escrow, *self.lockers],
            list(self.accounts()),
            [job.id for job in self.jobs],
        )
        live = [job for job, status in zip(self.jobs, figures.statuses, strict=True) if status & reference.LIVE]
        escrowed = sum(job.escrowed for job in live) + sum(map(reference.highest_price, self.open_requests()))
        assert figures.escrow_holds + figures.owed_to_escrow == figures.balances + escrowed + figures.fees
        assert figures.staking_holds == figures.stakes + figures.owed + figures.burned
        assert figures.locked == sum(job.terms["collateral"] for job in live)


def install(
    chain: Any,
    token: ContractInstance,
    *,
    admin: AccountAPI,
    owner: AccountAPI,
    operator: AccountAPI,
    buyer: AccountAPI,
    others: tuple[Any, ...] = (),
) -> Market:
    """Deploys a market on a token: a staked provider and a buyer with a balance. Nobody else has any."""
    project = ape.project
    staking = admin.deploy(project.ProviderStaking, token)
    escrow = admin.deploy(project.JobEscrow, token, staking, FEE_BPS)
    arbiter = admin.deploy(project.MockArbiter, escrow)
    books = admin.deploy(project.Books)

    token.approve(staking, STAKE, sender=owner)
    staking.register(operator, "https://gateway.example:8443", sender=owner)
    staking.stake(STAKE, sender=owner)
    staking.allow(escrow, ALLOWED, PER_JOB, sender=owner)
    escrow.approve_arbiter(arbiter, True, sender=owner)
    token.approve(escrow, BALANCE, sender=buyer)
    escrow.deposit(BALANCE, sender=buyer)
    return Market(chain, token, staking, escrow, arbiter, books, admin, owner, operator, buyer, others)


def _plain(abi: Any, value: Any) -> Any:
    """A field of an event, a struct as a dict: Ape leaves the values of structs in events raw."""
    if abi.components:
        return {part.name: _plain(part, item) for part, item in zip(abi.components, value, strict=True)}
    if abi.type == "address":
        return to_checksum_address(value)
    return bytes(value) if isinstance(value, bytes) else value


def logs(receipt: ReceiptAPI, contract: ContractInstance) -> list[tuple[str, dict[str, Any]]]:
    """Every event of a contract in a transaction, in order: its name and all its fields."""
    return [
        (log.event_name, {abi.name: _plain(abi, log.event_arguments[abi.name]) for abi in log.abi.inputs})
        for log in receipt.events
        if log.contract_address == contract.address
    ]
