# SPDX-License-Identifier: Apache-2.0
"""A deployed market whose people do what users do; each step gives the gas of its transaction."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.gas_chain import START, Artifact, Chain, Contract, account, digest, event, events

USD = 10**6  # base units
DAY = 86_400

BASIC, EXACT = 1, 4
ZERO = "0x" + "00" * 20
EMPTY = bytes(32)
RESOURCE_CLASS = b"nvidia-h100-80gb-sxm".ljust(32, b"\0")
ENDPOINT = "https://gpu-17.provider.example:8443"

FAUCET = 1_000_000 * USD
STAKE = 400_000 * USD
BALANCE = 400_000 * USD
PRICE = 1_000  # base units a second: 3.60 USD an hour
COLLATERAL = 50 * USD
FEE_BPS = 250
ANSWER_FEE = USD // 10
EXPIRY = 2 * START  # no offer expires while its gas is measured

ACKNOWLEDGE_WINDOW = 900
CHALLENGE_WINDOW = 7_200
LONGEST_RUN = 3_600
USED_SECONDS = 1_800  # half of what is escrowed comes back
CHUNKS = 256  # 1 MiB of results


@dataclass(frozen=True)
class Provider:
    """Owner and operator of a registered provider."""

    owner: str
    operator: str


@dataclass
class Job:
    """A matched job: its terms, what was committed, and the gas of each step so far."""

    terms: dict[str, Any]
    operator: str
    gas: dict[str, int]
    commitment: dict[str, Any] = field(default_factory=dict)

    @property
    def total(self) -> int:
        return sum(self.gas.values())


class Market:
    """All contracts, deployed in a fixed order by a fixed account, with a protocol fee."""

    def __init__(self, chain: Chain, artifacts: Mapping[str, Artifact]) -> None:
        self.chain = chain
        self.admin = account("admin")
        self.keeper = account("keeper")
        self.deployment: dict[str, int] = {}
        self._artifacts = artifacts
        self._numbers: Iterator[int] = itertools.count(1)
        self.token = self._deploy("TestToken")
        self.staking = self._deploy("ProviderStaking", self.token)
        self.escrow = self._deploy("JobEscrow", self.token, self.staking, FEE_BPS)
        self.views = self._deploy("JobEscrowViews", self.escrow)
        self.demands = self._deploy("DataDemands", self.escrow, ANSWER_FEE)
        self.locker = self._deploy("MockLocker", self.staking)

    def _deploy(self, name: str, *arguments: Any) -> Contract:
        contract, receipt = self.chain.deploy(self.admin, self._artifacts[name], *arguments)
        self.deployment[name] = receipt.gas
        return contract

    # People.

    def fund(self, who: str, *spenders: Contract) -> dict[str, int]:
        """Give an account tokens, and contracts its approval; returns the gas of each approval."""
        self.chain.send(self.admin, self.token, "faucet", FAUCET, who)
        return {
            f"approve {spender.artifact.name}": self.chain.send(who, self.token, "approve", spender, 2**256 - 1).gas
            for spender in spenders
        }

    def join(self, provider: Provider) -> dict[str, int]:
        """Register an owner who has tokens and approvals, up to its first offer; returns the gas of each step."""
        owner, send = provider.owner, self.chain.send
        return {
            "register": send(owner, self.staking, "register", provider.operator, ENDPOINT).gas,
            "stake": send(owner, self.staking, "stake", STAKE).gas,
            "allow": send(owner, self.staking, "allow", self.escrow, STAKE // 2, STAKE // 20).gas,
            "first post_offer": self.post(provider, self.offer(provider)),
        }

    # Structs.

    def offer(self, provider: Provider, **changes: Any) -> dict[str, Any]:
        """An offer on BASIC, without an arbiter."""
        return {
            "provider": provider.owner,
            "resource_class": RESOURCE_CLASS,
            "count": 64,
            "tiers": BASIC,
            "price_per_second": PRICE,
            "shortest_run": 60,
            "longest_run": DAY,
            "acknowledge_window": ACKNOWLEDGE_WINDOW,
            "delivery_margin": 600,
            "challenge_window": CHALLENGE_WINDOW,
            "failure_cap_bps": 1_000,
            "max_fee_bps": 500,
            "collateral": COLLATERAL,
            "expiry": EXPIRY + next(self._numbers),
            "arbiter": ZERO,
        } | changes

    def order(self, **changes: Any) -> dict[str, Any]:
        """An order of an hour on BASIC."""
        number = next(self._numbers)
        return {
            "spec_hash": digest(f"specification {number}"),
            "tier": BASIC,
            "tasks": 1,
            "longest_run": LONGEST_RUN,
            "exact_terms": EMPTY,
            "audit_fee": 0,
            "audit_seal": EMPTY,
            "group": EMPTY,
            "salt": digest(f"salt {number}"),
        } | changes

    def request(self, buyer: str, **changes: Any) -> dict[str, Any]:
        """A request at a fixed price that any provider may accept for a month."""
        return (
            self.order()
            | {
                "buyer": buyer,
                "provider": ZERO,
                "resource_class": RESOURCE_CLASS,
                "price": 5 * USD,
                "price_per_second": 0,
                "acknowledge_window": ACKNOWLEDGE_WINDOW,
                "delivery_margin": 600,
                "challenge_window": CHALLENGE_WINDOW,
                "failure_cap_bps": 1_000,
                "collateral": COLLATERAL,
                "expiry": self.chain.now() + 30 * DAY,
                "arbiter": ZERO,
            }
            | changes
        )

    # Steps of a job.

    def post(self, provider: Provider, offer: Mapping[str, Any]) -> int:
        return self.chain.send(provider.operator, self.escrow, "post_offer", offer).gas

    def hire(self, provider: Provider, offer: Mapping[str, Any], buyer: str, **order: Any) -> Job:
        receipt = self.chain.send(buyer, self.escrow, "hire", offer, self.order(**order))
        terms = event(self.escrow, "JobMatched", receipt)["terms"]
        return Job(terms, provider.operator, {"hire": receipt.gas})

    def hire_many(self, provider: Provider, offer: Mapping[str, Any], buyer: str, count: int) -> tuple[list[Job], int]:
        """So many jobs hired at once; returns them, and the gas of all together."""
        orders = [self.order() for _ in range(count)]
        receipt = self.chain.send(buyer, self.escrow, "hire_many", offer, orders)
        matched = events(self.escrow, "JobMatched", receipt)
        return [Job(each["terms"], provider.operator, {}) for each in matched], receipt.gas

    def post_and_accept(self, provider: Provider, buyer: str, *, price: int = 4 * USD, **request: Any) -> Job:
        """A job by a request; the bid is below the request's price unless said otherwise."""
        wanted = self.request(buyer, **request)
        posted = self.chain.send(buyer, self.escrow, "post_request", wanted)
        bid = {"provider": provider.owner, "price": price, "max_fee_bps": 500}
        accepted = self.chain.send(provider.operator, self.escrow, "accept", wanted, bid)
        terms = event(self.escrow, "JobMatched", accepted)["terms"]
        return Job(terms, provider.operator, {"post_request": posted.gas, "accept": accepted.gas})

    def commit(
        self,
        job: Job,
        *,
        seconds: int = USED_SECONDS,
        tasks_done: int | None = None,
        root: bytes | None = None,
    ) -> int:
        """Commit when so many seconds have passed since the match."""
        exact = job.terms["tier"] == EXACT
        done = job.terms["tasks"] if tasks_done is None else tasks_done
        root = root or digest(f"result {next(self._numbers)}")
        self.chain.at(max(job.terms["matched_at"] + seconds, self.chain.now() + 1))
        receipt = self.chain.send(
            job.operator, self.escrow, "commit", job.terms, root, 0 if exact else CHUNKS, 0, seconds, done
        )
        job.commitment = event(self.escrow, "JobCommitted", receipt)["commitment"]
        job.gas["commit"] = receipt.gas
        return receipt.gas

    def commit_many(self, jobs: Sequence[Job], *, seconds: int = USED_SECONDS) -> int:
        """Commit to all at once, when so many seconds have passed since the last match."""
        results = [
            {
                "terms": job.terms,
                "result_root": digest(f"result {next(self._numbers)}"),
                "chunks": CHUNKS,
                "exit_status": 0,
                "seconds_used": seconds,
                "tasks_done": job.terms["tasks"],
            }
            for job in jobs
        ]
        self.wait_for(max(job.terms["matched_at"] for job in jobs) + seconds)
        receipt = self.chain.send(jobs[0].operator, self.escrow, "commit_many", results)
        for job, committed in zip(jobs, events(self.escrow, "JobCommitted", receipt), strict=True):
            job.commitment = committed["commitment"]
        return receipt.gas

    def settle(self, job: Job, by: str | None = None) -> int:
        """Settle: by the buyer at once, or by another when the challenge window is over."""
        sender = job.terms["buyer"] if by is None else by
        if sender != job.terms["buyer"]:
            self.wait_for(self.window_end(job))
        job.gas["settle"] = self.chain.send(sender, self.escrow, "settle", job.terms, job.commitment).gas
        return job.gas["settle"]

    def settle_many(self, jobs: Sequence[Job], by: str) -> int:
        """Settle all in one transaction, when their challenge windows are over."""
        self.wait_for(max(self.window_end(job) for job in jobs))
        items = [{"terms": job.terms, "commitment": job.commitment} for job in jobs]
        return self.chain.send(by, self.escrow, "settle_many", items).gas

    def expire(self, job: Job) -> int:
        self.wait_for(job.terms["deliver_by"] + 1)
        return self.chain.send(self.keeper, self.escrow, "expire", job.terms).gas

    # Times.

    def window_end(self, job: Job) -> int:
        return int(job.commitment["committed_at"] + job.terms["challenge_window"])

    def wait_for(self, timestamp: int) -> None:
        """The next transaction comes at this time, or later if it has passed."""
        if timestamp > self.chain.now():
            self.chain.at(timestamp)
