# SPDX-License-Identifier: Apache-2.0
"""A market on the fast chain whose whole state is known after each step.

A step names what it changes and every event. At the end of a scenario all that can be seen is read: what no
step has named must be as it was.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from eth_utils.crypto import keccak

from tests.unit import reference
from tests.unit.reference import BASIC, EXACT

from .chain import Chain, Deployed, Event, Program, Receipt

ZERO = "0x" + "00" * 20
EMPTY = bytes(32)
USD = 10**6
DAY = 86_400
ROOT = b"\x11" * 32
SPEC = b"\x22" * 32
EXACT_TERMS = b"\x33" * 32
CLASS = b"cpu-sim".ljust(32, b"\0")

STAKE = 10_000 * USD
ALLOWED = 400 * USD
PER_JOB = 100 * USD
BALANCE = 50_000 * USD
TOKENS = 70_000 * USD
FEE_BPS = 250
ANSWER_FEE = 30_000

# Programs that a world is made of; the first five are what mutants change.
TARGETS = ("ProviderStaking", "JobEscrow", "DataDemands", "JobEscrowViews")
MOCKS = ("mocks/MisbehavingToken", "mocks/TestToken", "mocks/SilentToken", "mocks/MockLocker", "mocks/MockArbiter")

PEOPLE = ("admin", "owner", "operator", "buyer", "thief", "keeper", "rival", "receiver")

Struct = dict[str, Any]
Key = tuple[str, ...]


def person(name: str) -> str:
    """The address of a person."""
    return "0x" + keccak(text=name)[12:].hex()


class World:
    """Contracts, people, and what everyone is known to have."""

    def __init__(
        self,
        programs: Mapping[str, Program],
        abis: Mapping[str, Program],
        coin: str = "mocks/MisbehavingToken",
        chain_id: int = 1,
    ) -> None:
        self.programs = programs
        self.abis = abis
        self.chain = Chain(chain_id)
        self.people = {name: person(name) for name in PEOPLE}
        self.token = self.deploy("token", coin)
        self.staking = self.deploy("staking", "ProviderStaking", self.token.address)
        self.escrow = self.deploy("escrow", "JobEscrow", self.token.address, self.staking.address, FEE_BPS)
        self.arbiter = self.deploy("arbiter", "mocks/MockArbiter", self.escrow.address)
        self.locker = self.deploy("locker", "mocks/MockLocker", self.staking.address)
        self.demands = self.deploy("demands", "DataDemands", self.escrow.address, ANSWER_FEE)
        self.views = self.deploy("views", "JobEscrowViews", self.escrow.address)
        self._salts = itertools.count(1)
        self.accounts = self.people | {
            contract.name: contract.address
            for contract in (self.token, self.staking, self.escrow, self.arbiter, self.locker, self.demands)
        }
        self.jobs: dict[str, bytes] = {}
        self.offers: dict[str, bytes] = {}
        self.requests: dict[str, bytes] = {}
        self.demanded: list[str] = []
        self.known: dict[Key, Any] = {}

    def deploy(self, label: str, program: str, *args: Any, sender: str = "admin") -> Deployed:
        """Deploys one of the programs under a label."""
        return self.chain.deploy(label, self.programs[program], self.abis[program].abi, person(sender), *args)

    def __getitem__(self, name: str) -> str:
        return self.accounts[name]

    @property
    def now(self) -> int:
        return self.chain.now

    def at(self, timestamp: int) -> None:
        """From now on it is this time (Unix seconds)."""
        self.chain.now = timestamp

    # What can be seen.

    def read(self, contract: Deployed, view: str, *args: Any) -> Any:
        return self.chain.read(contract, view, *args)

    def seen(self, key: Key) -> Any:  # noqa: PLR0911, PLR0912  # one line for each kind
        """Reads what one key stands for from the chain."""
        kind, *names = key
        who = [self.accounts.get(name, ZERO) for name in names]
        match kind:
            case "tokens":
                return self.read(self.token, "balanceOf", *who)
            case "balance":
                return self.read(self.escrow, "balance_of", *who)
            case "fees":
                return self.read(self.escrow, "fees_of", *who)
            case "declines":
                return self.read(self.escrow, "declines", *who)
            case "approved":
                return self.read(self.escrow, "is_arbiter_approved", *who)
            case "job":
                return self.read(self.escrow, "job_slot", self.jobs[names[0]])
            case "offer":
                return self.read(self.escrow, "offer_slot", self.offers[names[0]])
            case "request":
                return self.read(self.escrow, "request_slot", self.requests[names[0]])
            case "config":
                return tuple(
                    self.read(self.escrow, view) for view in ("fee_bps", "is_paused", "owner", "pending_owner")
                )
            case "free":
                return self.read(self.staking, "free_stake_of", *who)
            case "operator":
                return self.read(self.staking, "operator_of", *who)
            case "allowance":
                allowance = self.read(self.staking, "allowance", *who)
                return allowance["total"], allowance["per_job"], allowance["locked"]
            case "owed":
                return self.read(self.staking, "owed_to", *who)
            case "burned":
                return self.read(self.staking, "burned_by", *who)
            case "claimable":
                return self.read(self.demands, "claimable", *who)
            case "demand":
                demand = self.read(self.demands, "demand_of", self.jobs[names[0]], int(names[1]))
                return demand["is_open"], demand["index"], demand["answer_by"]
        raise KeyError(key)

    def keys(self) -> Iterator[Key]:
        """All that can be seen."""
        yield ("config",)
        for name in self.accounts:
            for kind in ("tokens", "balance"):
                yield kind, name
        for name in ("owner", "rival", "thief", "buyer"):
            for kind in ("fees", "free", "operator"):
                yield kind, name
        for name in ("owner", "rival"):
            yield "declines", name
            yield "approved", name, "arbiter"
            yield "approved", name, "demands"
            for locker in ("escrow", "locker"):
                yield "allowance", name, locker
        for locker in ("escrow", "locker"):
            yield "owed", locker
            yield "burned", locker
        for name in ("owner", "buyer"):
            yield "claimable", name
        yield from (("job", name) for name in self.jobs)
        yield from (("offer", name) for name in self.offers)
        yield from (("request", name) for name in self.requests)
        yield from (("demand", name, str(lane)) for name in self.demanded for lane in range(9))

    def look(self) -> None:
        """Takes what is there for what is known."""
        self.known = {key: self.seen(key) for key in self.keys()}

    def check(self) -> None:
        """All that can be seen is what the steps have named."""
        for key in self.keys():
            seen, known = self.seen(key), self.known.get(key)
            if known is None:
                known = (False, 0, 0) if key[0] == "demand" else 0
            assert seen == known, (key, seen, known)

    # Steps.

    def step(
        self,
        contract: Deployed,
        function: str,
        *args: Any,
        by: str,
        moves: Mapping[Any, int] | None = None,
        sets: Mapping[Any, Any] | None = None,
        events: Sequence[tuple[Deployed, str, Struct]] | None = None,
        returns: Any = None,
    ) -> Receipt:
        """A transaction that must go through: amounts that move, values that are set, all events of our contracts."""
        receipt = self.chain.call(contract, function, *args, sender=self.accounts[by])
        assert receipt.ok, (contract.name, function, receipt.reason)
        assert returns is None or receipt.value == returns, (function, receipt.value, returns)
        if events is not None:
            expected = [Event(source.name, name, fields) for source, name, fields in events]
            got = [event for event in receipt.events if event.contract != "token"]
            assert got == expected, (function, got, expected)
        for key, change in (moves or {}).items():
            self.known[key] = self.known.get(key, 0) + change
        self.known.update(sets or {})
        for key in (*(moves or {}), *(sets or {})):
            seen = self.seen(key)
            assert seen == self.known[key], (function, key, seen, self.known[key])
        return receipt

    def refused(self, reason: str, contract: Deployed, function: str, *args: Any, by: str) -> None:
        """A transaction that must revert for this reason, with all else in order."""
        with self.chain.branch():
            receipt = self.chain.call(contract, function, *args, sender=self.accounts[by])
        assert not receipt.ok, (contract.name, function, "went through, expected", reason)
        assert receipt.reason == reason, (contract.name, function, receipt.reason, reason)

    def accepted(self, contract: Deployed, function: str, *args: Any, by: str) -> Receipt:
        """A transaction that must go through; it is taken back."""
        with self.chain.branch():
            receipt = self.chain.call(contract, function, *args, sender=self.accounts[by])
        assert receipt.ok, (contract.name, function, receipt.reason)
        return receipt

    @contextmanager
    def branch(self) -> Iterator[None]:
        """What happens inside is taken back at its end, on the chain and in the books."""
        kept = dict(self.known), dict(self.jobs), dict(self.offers), dict(self.requests), list(self.demanded)
        with self.chain.branch():
            yield
        self.known, self.jobs, self.offers, self.requests, self.demanded = kept

    def gift(self, name: str) -> tuple[str, bytes]:
        """What a token calls back to give an account more than was sent."""
        return self["token"], self.token.functions["mint", 2].call_data([self[name], 3])

    # Structs.

    def salt(self) -> bytes:
        return next(self._salts).to_bytes(32, "big")

    def offer(self, **changes: Any) -> Struct:
        """An offer of the provider on BASIC and EXACT, each field another number."""
        return {
            "provider": self["owner"],
            "resource_class": CLASS,
            "count": 3,
            "tiers": BASIC | EXACT,
            "price_per_second": 1_003,
            "shortest_run": 61,
            "longest_run": 3_601,
            "acknowledge_window": 901,
            "delivery_margin": 602,
            "challenge_window": 7_207,
            "failure_cap_bps": 1_009,
            "max_fee_bps": 499,
            "collateral": 50 * USD + 7,
            "expiry": self.now + 50 * DAY,
            "arbiter": self["arbiter"],
        } | changes

    def order(self, **changes: Any) -> Struct:
        """An order on BASIC with a fresh salt."""
        return {
            "spec_hash": SPEC,
            "tier": BASIC,
            "tasks": 7,
            "longest_run": 3_001,
            "exact_terms": EMPTY,
            "audit_fee": 0,
            "audit_seal": EMPTY,
            "group": b"\x44" * 32,
            "salt": self.salt(),
        } | changes

    def request(self, **changes: Any) -> Struct:
        """A request at a fixed price on BASIC with a fresh salt."""
        return {
            "buyer": self["buyer"],
            "provider": ZERO,
            "resource_class": CLASS,
            "spec_hash": SPEC,
            "tier": BASIC,
            "tasks": 10,
            "price": 4_000_001,
            "price_per_second": 0,
            "longest_run": 3_607,
            "acknowledge_window": 907,
            "delivery_margin": 608,
            "challenge_window": 7_211,
            "failure_cap_bps": 2_003,
            "collateral": 60 * USD + 1,
            "expiry": self.now + DAY,
            "arbiter": self["arbiter"],
            "exact_terms": EMPTY,
            "audit_fee": 0,
            "audit_seal": EMPTY,
            "group": b"\x55" * 32,
            "salt": self.salt(),
        } | changes

    def bid(self, **changes: Any) -> Struct:
        return {"provider": self["owner"], "price": 3_200_003, "max_fee_bps": 500} | changes

    # Ids, and slots as the specification packs them.

    def offer_id(self, offer: Struct) -> bytes:
        return reference.offer_id(self.chain.chain_id, self.escrow.address, offer)

    def job_id(self, terms: Struct) -> bytes:
        return reference.job_id(self.chain.chain_id, self.escrow.address, terms)

    def request_id(self, request: Struct) -> bytes:
        return reference.request_id(self.chain.chain_id, self.escrow.address, request)

    # Steps that many scenarios share, with all they do.

    def post(self, name: str, offer: Struct, by: str = "operator") -> Struct:
        """Posts an offer."""
        offer_id = self.offers[name] = self.offer_id(offer)
        taken = self.known.get(("offer", name), 0)
        fields = {"offer_id": offer_id, "provider": offer["provider"], "resource_class": offer["resource_class"]}
        self.step(
            self.escrow, "post_offer", offer, by=by, returns=offer_id,
            sets={("offer", name): (1 << 255) | taken},
            events=[(self.escrow, "OfferPosted", {**fields, "offer": offer})],
        )  # fmt: skip
        return offer

    def hire(self, name: str, offer: Struct, on: str, by: str = "buyer", **changes: Any) -> Struct:
        """Hires on the offer named `on` and returns the job's terms."""
        order = self.order(**changes)
        terms = reference.terms_of(
            offer, order, offer_id=self.offer_id(offer), buyer=self[by], fee_bps=self.known["config",][0],
            matched_at=self.now,
        )  # fmt: skip
        job = self.jobs[name] = self.job_id(terms)
        total, per_job, locked = self.known["allowance", "owner", "escrow"]
        self.step(
            self.escrow, "hire", offer, order, by=by, returns=job,
            moves={("balance", by): -reference.escrowed(terms), ("offer", on): 1},
            sets={
                ("job", name): ((self.chain.block + 1) << 16) | reference.ACTIVE,
                ("allowance", "owner", "escrow"): (total, per_job, locked + terms["collateral"]),
            },
            events=[(self.escrow, "JobMatched", self._matched(job, terms))],
        )  # fmt: skip
        return terms

    def _matched(self, job: bytes, terms: Struct) -> Struct:
        return {"job": job, "buyer": terms["buyer"], "provider": terms["provider"], "terms": terms}

    def post_request(self, name: str, request: Struct) -> Struct:
        """Posts a request of the buyer."""
        request_id = self.requests[name] = self.request_id(request)
        fields = {"request_id": request_id, "buyer": request["buyer"], "resource_class": request["resource_class"]}
        self.step(
            self.escrow, "post_request", request, by="buyer", returns=request_id,
            moves={("balance", "buyer"): -reference.highest_price(request)},
            sets={("request", name): ((self.chain.block + 1) << 16) | reference.OPEN},
            events=[(self.escrow, "RequestPosted", {**fields, "request": request})],
        )  # fmt: skip
        return request

    def accept(self, name: str, request: Struct, of: str, by: str = "operator", **changes: Any) -> Struct:
        """Accepts the request named `of` and returns the job's terms."""
        bid = self.bid(**changes)
        terms = reference.accepted_terms(
            request, provider=bid["provider"], price=bid["price"], fee_bps=self.known["config",][0],
            matched_at=self.now,
        )  # fmt: skip
        job = self.jobs[name] = self.job_id(terms)
        total, per_job, locked = self.known["allowance", "owner", "escrow"]
        accepted = {"request_id": self.requests[of], "job": job}
        self.step(
            self.escrow, "accept", request, bid, by=by, returns=job,
            moves={
                ("balance", "buyer"): reference.highest_price(request) - reference.escrowed(terms),
                ("request", of): reference.ACTIVE - reference.OPEN,
            },
            sets={
                ("job", name): ((self.chain.block + 1) << 16) | reference.ACTIVE,
                ("allowance", "owner", "escrow"): (total, per_job, locked + terms["collateral"]),
            },
            events=[
                (self.escrow, "JobMatched", self._matched(job, terms)),
                (self.escrow, "RequestAccepted", accepted),
            ],
        )  # fmt: skip
        return terms

    def commit(
        self,
        name: str,
        terms: Struct,
        *,
        on: str = "",
        by: str = "operator",
        root: bytes = ROOT,
        chunks: int = 5,
        exit_status: int = 0,
        seconds_used: int = 10**6,
        tasks_done: int | None = None,
    ) -> Struct:
        """Commits to a result and returns the commitment. `on` names the offer that the job came from."""
        chunks = 0 if terms["tier"] == EXACT else chunks
        done = terms["tasks"] if tasks_done is None else tasks_done
        pay = reference.pay(terms, now=self.now, exit_status=exit_status, seconds_used=seconds_used, tasks_done=done)
        commitment = {"result_root": root, "chunks": chunks, "pay": pay, "committed_at": self.now}
        fields = {
            "job": self.jobs[name],
            "provider": terms["provider"],
            "commitment": commitment,
            "exit_status": exit_status,
            "seconds_used": seconds_used,
            "tasks_done": done,
        }
        slot = self.known["job", name] - reference.ACTIVE + reference.COMMITTED
        self.step(
            self.escrow, "commit", terms, root, chunks, exit_status, seconds_used, done, by=by,
            moves={("offer", on): -1} if on else {},
            sets={("job", name): slot | (reference.digest(commitment) << 56)},
            events=[(self.escrow, "JobCommitted", fields)],
        )  # fmt: skip
        return commitment

    def settled(self, name: str, terms: Struct, commitment: Struct) -> tuple[dict[Key, int], dict[Key, Any], Struct]:
        """What settling moves and sets, and its event."""
        pay, escrowed = commitment["pay"], reference.escrowed(terms)
        fee = reference.fee(terms, pay)
        total, per_job, locked = self.known["allowance", "owner", "escrow"]
        status = self.known["job", name] & 0xFFFF
        moves: dict[Key, int] = {
            ("balance", "owner"): pay - fee,
            ("fees", "owner"): fee,
            ("balance", "buyer"): escrowed - pay,
            ("job", name): reference.SETTLED - status,
        }
        sets: dict[Key, Any] = {("allowance", "owner", "escrow"): (total, per_job, locked - terms["collateral"])}
        fields = {"job": self.jobs[name], "to_provider": pay - fee, "fee": fee, "refund": escrowed - pay}
        return moves, sets, fields

    def settle(self, name: str, terms: Struct, commitment: Struct, by: str) -> None:
        moves, sets, fields = self.settled(name, terms, commitment)
        self.step(
            self.escrow, "settle", terms, commitment, by=by, moves=moves, sets=sets,
            events=[(self.escrow, "JobSettled", fields)],
        )  # fmt: skip

    def slashed(
        self, name: str, terms: Struct, *, to_buyer: int, to_arbiter: int, status: int
    ) -> tuple[dict[Key, int], dict[Key, Any], Struct]:
        """What taking a job's collateral moves and sets, and the event of the staking contract."""
        total, per_job, locked = self.known["allowance", "owner", "escrow"]
        collateral = terms["collateral"]
        burned = collateral - to_buyer - to_arbiter
        moves: dict[Key, int] = {
            ("owed", "escrow"): to_buyer + to_arbiter,
            ("burned", "escrow"): burned,
            ("balance", "buyer"): reference.escrowed(terms) + to_buyer,
            ("job", name): status - (self.known["job", name] & 0xFFFF),
        }
        if to_arbiter:
            moves["balance", "arbiter"] = to_arbiter
        allowance = (total - min(total, collateral), per_job, locked - collateral)
        fields = {
            "provider": terms["provider"],
            "locker": self["escrow"],
            "job": self.jobs[name],
            "to_buyer": to_buyer,
            "to_challenger": to_arbiter,
            "burned": burned,
        }
        return moves, {("allowance", "owner", "escrow"): allowance}, fields

    def expired(self, name: str, terms: Struct) -> tuple[dict[Key, int], dict[Key, Any], list[Any]]:
        """What expiring moves and sets, and its events."""
        compensation = reference.compensation(terms)
        moves, sets, slashed = self.slashed(name, terms, to_buyer=compensation, to_arbiter=0, status=reference.EXPIRED)
        fields = {"job": self.jobs[name], "refund": reference.escrowed(terms), "compensation": compensation}
        return moves, sets, [(self.staking, "Slashed", slashed), (self.escrow, "JobExpired", fields)]

    def hold(self, name: str, terms: Struct, commitment: Struct) -> None:
        self.step(
            self.arbiter, "hold", terms, commitment, by="keeper",
            moves={("job", name): reference.DISPUTED - reference.COMMITTED},
            events=[(self.escrow, "JobDisputed", {"job": self.jobs[name], "arbiter": self["arbiter"]})],
        )  # fmt: skip


def furnish(world: World) -> None:
    """Gives the people their tokens, the provider its stake and the buyer its balance."""
    give = "mint" if ("mint", 2) in world.token.functions else "faucet"
    for name in ("owner", "buyer", "rival", "thief"):
        args = (world[name], TOKENS) if give == "mint" else (10**12 // 15, world[name])
        for _ in range(1 if give == "mint" else 2):
            assert world.chain.call(world.token, give, *args, sender=world["admin"]).ok
        for spender in (world.staking, world.escrow, world.demands):
            receipt = world.chain.call(world.token, "approve", spender.address, 2**256 - 1, sender=world[name])
            assert receipt.ok
    calls: list[tuple[Deployed, str, tuple[Any, ...], str]] = [
        (world.staking, "register", (world["operator"], "https://gateway.example"), "owner"),
        (world.staking, "stake", (STAKE,), "owner"),
        (world.staking, "allow", (world["escrow"], ALLOWED, PER_JOB), "owner"),
        (world.escrow, "approve_arbiter", (world["arbiter"], True), "owner"),
        (world.escrow, "approve_arbiter", (world["demands"], True), "owner"),
        (world.escrow, "deposit", (BALANCE,), "buyer"),
    ]
    for contract, function, args, by in calls:
        receipt = world.chain.call(contract, function, *args, sender=world[by])
        assert receipt.ok, (function, receipt.reason)
    world.look()
