# SPDX-License-Identifier: Apache-2.0
"""The contracts as plain Python, written from docs/TECH_SPEC.md and not from their source.

Amounts are base units, durations seconds, times Unix seconds. Structs are dicts with the fields of the ABI. A call that
the specification refuses raises `Refused` and is taken back. Only hashes come from elsewhere
(tests/unit/reference.py).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from tests.unit import reference

from .books import Book, Journal

Struct = dict[str, Any]

ZERO = "0x" + "00" * 20
EMPTY = bytes(32)
DAY = 86_400

NONE, OPEN, ACTIVE, COMMITTED, SETTLED = 0, 1, 2, 4, 8
CANCELLED, DECLINED, EXPIRED, DISPUTED, CONVICTED = 16, 32, 64, 128, 256
BASIC, REPLICATED, EXACT, ATTESTED = 1, 2, 4, 8

MAX_ALLOWANCE = 2**85 - 1
MAX_PRICE = 2**128 - 1
MAX_TASKS = 2**32 - 1
MAX_CHUNKS = 2**32
MAX_FEE_BPS = 500
DISPUTE_TIMEOUT, EXACT_DISPUTE_TIMEOUT = 7 * DAY, 90 * DAY
ANSWER_WINDOW = DAY
LANES = 8
CHUNK_BYTES = 4096


class Refused(Exception):
    """The call reverts; `reason` is empty where the token itself fails without words."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def require(condition: bool, reason: str) -> None:
    """Refuses unless the condition holds."""
    if not condition:
        raise Refused(reason)


class Allowance(NamedTuple):
    """What an owner allows a locker."""

    total: int = 0
    per_job: int = 0
    locked: int = 0

    @property
    def allocated(self) -> int:
        """What no other locker can count on."""
        return max(self.total, self.locked)


class Job(NamedTuple):
    """What state keeps of a job or request."""

    status: int = NONE
    block: int = 0
    digest: int = 0


class Place(NamedTuple):
    """What state keeps of an offer; `epoch` is the one in which it was posted last."""

    is_open: bool = False
    taken: int = 0
    epoch: int = 0


class Arbiter(NamedTuple):
    """What a provider's owner said about an arbiter, or about none: the zero address."""

    approved: bool = False
    epoch: int = 0


class Token:
    """An ERC-20 that can be switched to misbehave. A fee is destroyed."""

    def __init__(self, journal: Journal) -> None:
        self.balances = Book(journal, "token")
        self.fee_bps = 0
        self.returns_false = False
        self.blocked: set[str] = set()

    def move(self, sender: str, receiver: str, amount: int) -> bool:
        """A transfer; whether the token says that it succeeded."""
        if self.returns_false:
            return False
        require(sender not in self.blocked and receiver not in self.blocked, "token: account is blocked")
        require(amount * self.fee_bps < 2**256, "")
        require(self.balances[sender] >= amount, "")
        self.balances[sender] -= amount
        self.balances[receiver] += amount - amount * self.fee_bps // 10_000
        return True


class Staking:
    """ProviderStaking."""

    def __init__(self, journal: Journal, token: Token, address: str) -> None:
        self.token, self.address = token, address
        self.operators = Book(journal, "operators", ZERO)
        self.free = Book(journal, "free")
        self.allowances = Book(journal, "allowances", Allowance())
        self.owed = Book(journal, "owed")
        self.burned = Book(journal, "burned")
        self.contracts: set[str] = set()

    def is_operator(self, provider: str, account: str) -> bool:
        """Registered, and the owner or its operator."""
        operator = self.operators[provider]
        return operator != ZERO and account in (operator, provider)

    def register(self, caller: str, operator: str, endpoint: str) -> None:
        require(self.operators[caller] == ZERO, "staking: already registered")
        require(operator != ZERO, "staking: operator is zero")
        self.operators[caller] = operator

    def set_operator(self, caller: str, operator: str) -> None:
        require(self.operators[caller] != ZERO, "staking: not registered")
        require(operator != ZERO, "staking: operator is zero")
        self.operators[caller] = operator

    def set_endpoint(self, caller: str, provider: str, endpoint: str) -> None:
        require(self.is_operator(provider, caller), "staking: not owner or operator")

    def stake(self, caller: str, amount: int, provider: str) -> None:
        require(amount != 0, "staking: amount is zero")
        require(provider != ZERO, "staking: provider is zero")
        require(provider != self.address, "staking: provider is the staking contract")
        before = self.token.balances[self.address]
        require(self.token.move(caller, self.address, amount), "staking: transfer failed")
        require(self.token.balances[self.address] - before == amount, "staking: token takes a fee")
        self.free[provider] += amount

    def withdraw(self, caller: str, amount: int, receiver: str) -> None:
        require(amount != 0, "staking: amount is zero")
        require(receiver != ZERO, "staking: receiver is zero")
        require(receiver != self.address, "staking: receiver is the staking contract")
        require(amount <= self.free[caller], "staking: not enough free stake")
        self.free[caller] -= amount
        require(self.token.move(self.address, receiver, amount), "staking: transfer failed")

    def allow(self, caller: str, locker: str, total: int, per_job: int) -> None:
        require(locker in self.contracts or total == 0, "staking: locker is no contract")
        require(per_job <= total, "staking: per job above total")
        require(total <= MAX_ALLOWANCE, "staking: amount too large")
        old = self.allowances[caller, locker]
        new = Allowance(total, per_job, old.locked)
        free = self.free[caller] + old.allocated - new.allocated
        require(free >= 0, "staking: not enough free stake")
        self.free[caller] = free
        self.allowances[caller, locker] = new

    def lock(self, caller: str, provider: str, amount: int) -> None:
        require(amount != 0, "staking: amount is zero")
        old = self.allowances[provider, caller]
        require(amount <= old.per_job, "staking: above allowance per job")
        require(old.locked + amount <= old.total, "staking: above allowance")
        self.allowances[provider, caller] = old._replace(locked=old.locked + amount)

    def unlock(self, caller: str, provider: str, amount: int) -> None:
        old = self.allowances[provider, caller]
        require(amount <= old.locked, "staking: not locked")
        new = old._replace(locked=old.locked - amount)
        self.allowances[provider, caller] = new
        self.free[provider] += old.allocated - new.allocated

    def slash(self, caller: str, provider: str, job: bytes, amount: int, to_buyer: int, to_challenger: int) -> None:
        require(amount != 0, "staking: amount is zero")
        old = self.allowances[provider, caller]
        require(amount <= old.locked, "staking: not locked")
        require(to_buyer + to_challenger <= amount, "staking: shares above lock")
        self.allowances[provider, caller] = old._replace(
            total=old.total - min(old.total, amount), locked=old.locked - amount
        )
        self.owed[caller] += to_buyer + to_challenger
        self.burned[caller] += amount - to_buyer - to_challenger

    def collect(self, caller: str) -> int:
        owed: int = self.owed[caller]
        require(owed != 0, "staking: nothing owed")
        self.owed[caller] = 0
        require(self.token.move(self.address, caller, owed), "staking: transfer failed")
        return owed


class Escrow:
    """JobEscrow."""

    def __init__(self, journal: Journal, token: Token, staking: Staking, address: str, chain_id: int) -> None:
        self.token, self.staking, self.address, self.chain_id = token, staking, address, chain_id
        self.balances = Book(journal, "balances")
        self.fees = Book(journal, "fees")
        self.declines = Book(journal, "declines")
        self.arbiters = Book(journal, "arbiters", Arbiter())
        self.offers = Book(journal, "offers", Place())
        self.requests = Book(journal, "requests", Job())
        self.jobs = Book(journal, "jobs", Job())
        self.config = Book(journal, "config")
        self.now = 0
        self.block = 0
        self.contracts = staking.contracts
        self.ids: dict[tuple[Any, ...], bytes] = {}

    # Ids.

    def offer_id(self, offer: Struct) -> bytes:
        return self._id(reference.OFFER_FIELDS, reference.offer_id, offer)

    def request_id(self, request: Struct) -> bytes:
        return self._id(reference.REQUEST_FIELDS, reference.request_id, request)

    def job_id(self, terms: Struct) -> bytes:
        return self._id(reference.TERMS_FIELDS, reference.job_id, terms)

    def _id(self, fields: Iterable[str], hashed: Callable[[int, str, Struct], bytes], struct: Struct) -> bytes:
        """An id, kept: the same structs come again and again."""
        key = (hashed.__name__, *(struct[name] for name in fields))
        if key not in self.ids:
            self.ids[key] = hashed(self.chain_id, self.address, struct)
        return self.ids[key]

    # Balances.

    def deposit(self, caller: str, amount: int, account: str) -> None:
        require(amount != 0, "escrow: amount is zero")
        require(account != ZERO, "escrow: account is zero")
        require(account != self.address, "escrow: account is the escrow")
        before = self.token.balances[self.address]
        require(self.token.move(caller, self.address, amount), "escrow: transfer failed")
        require(self.token.balances[self.address] - before == amount, "escrow: token takes a fee")
        self.balances[account] += amount

    def deposit_with_permit(self, caller: str, amount: int, deadline: int, v: int, r: bytes, s: bytes) -> None:
        # The token has no permit; that it fails is ignored.
        self.deposit(caller, amount, caller)

    def withdraw(self, caller: str, amount: int, receiver: str) -> None:
        require(amount != 0, "escrow: amount is zero")
        self._receiver(receiver)
        self._take(caller, amount)
        self._send(receiver, amount)

    def collect_slashes(self, caller: str) -> int:
        before = self.token.balances[self.address]
        owed = self.staking.collect(self.address)
        require(self.token.balances[self.address] - before == owed, "escrow: token takes a fee")
        return owed

    def collect_fees(self, caller: str, providers: Sequence[str], receiver: str) -> int:
        self._admin(caller)
        self._receiver(receiver)
        amount = 0
        for provider in providers:
            amount += self.fees[provider]
            self.fees[provider] = 0
        require(amount != 0, "escrow: no fees")
        self._send(receiver, amount)
        return amount

    def _receiver(self, receiver: str) -> None:
        require(receiver != ZERO, "escrow: receiver is zero")
        require(receiver != self.address, "escrow: receiver is the escrow")

    def _take(self, account: str, amount: int) -> None:
        require(amount <= self.balances[account], "escrow: not enough balance")
        self.balances[account] -= amount

    def _send(self, receiver: str, amount: int) -> None:
        if self.token.balances[self.address] < amount:
            self.collect_slashes(self.address)
        require(self.token.move(self.address, receiver, amount), "escrow: transfer failed")

    # Admin.

    def _admin(self, caller: str) -> None:
        require(caller == self.config["owner"], "ownable: caller is not the owner")

    def set_paused(self, caller: str, paused: bool) -> None:
        self._admin(caller)
        self.config["paused"] = int(paused)

    def set_fee(self, caller: str, fee_bps: int) -> None:
        self._admin(caller)
        require(fee_bps <= MAX_FEE_BPS, "escrow: fee above cap")
        self.config["fee_bps"] = fee_bps

    def transfer_ownership(self, caller: str, heir: str) -> None:
        self._admin(caller)
        self.config["pending"] = heir

    def accept_ownership(self, caller: str) -> None:
        require(self.config["pending"] == caller, "ownable_2step: caller is not the new owner")
        self.config["pending"] = ZERO
        self.config["owner"] = caller

    # Matching.

    def _bounds(self, ask: Struct) -> None:
        require(ask["longest_run"] != 0, "escrow: longest run is zero")
        require(ask["longest_run"] <= 366 * DAY, "escrow: longest run too long")
        require(ask["acknowledge_window"] >= 60, "escrow: window too short")
        require(
            ask["acknowledge_window"] <= DAY
            and ask["delivery_margin"] <= 90 * DAY
            and ask["challenge_window"] <= 90 * DAY,
            "escrow: window too long",
        )
        require(ask["failure_cap_bps"] <= 10_000, "escrow: failure cap too high")
        require(ask["collateral"] != 0, "escrow: collateral is zero")
        highest = ask["price_per_second"] * ask["longest_run"] + ask.get("price", 0)
        require(highest <= MAX_PRICE and ask["price_per_second"] <= MAX_PRICE, "escrow: price too high")

    def _works_for(self, provider: str, caller: str) -> None:
        require(self.staking.is_operator(provider, caller), "escrow: not owner or operator")

    def approve_arbiter(self, caller: str, arbiter: str, approved: bool) -> None:
        require(arbiter in self.contracts or not approved, "escrow: arbiter is no contract")
        self.arbiters[caller, arbiter] = self.arbiters[caller, arbiter]._replace(approved=approved)

    def revoke_offers(self, caller: str, arbiter: str) -> None:
        said = self.arbiters[caller, arbiter]
        self.arbiters[caller, arbiter] = said._replace(epoch=said.epoch + 1)

    def post_offer(self, caller: str, offer: Struct) -> bytes:
        self._works_for(offer["provider"], caller)
        require(offer["resource_class"] != EMPTY, "escrow: class is empty")
        require(offer["count"] != 0, "escrow: count is zero")
        require(offer["price_per_second"] != 0, "escrow: price is zero")
        require(offer["shortest_run"] <= offer["longest_run"], "escrow: shortest above longest")
        require(offer["expiry"] > self.now, "escrow: offer has expired")
        self._bounds(offer)
        require(offer["tiers"] != 0, "escrow: no tier")
        require(offer["tiers"] & (REPLICATED | ATTESTED) == 0, "escrow: tier not open yet")
        if offer["arbiter"] != ZERO:
            require(self.arbiters[offer["provider"], offer["arbiter"]].approved, "escrow: arbiter not approved")
            require(offer["challenge_window"] != 0, "escrow: no challenge window")
        else:
            require(offer["tiers"] & EXACT == 0, "escrow: EXACT without arbiter")
        offer_id = self.offer_id(offer)
        place = self.offers[offer_id]
        epoch = self.arbiters[offer["provider"], offer["arbiter"]].epoch
        require((place.is_open, place.epoch) != (True, epoch), "escrow: offer already open")
        self.offers[offer_id] = place._replace(is_open=True, epoch=epoch)
        return offer_id

    def close_offer(self, caller: str, offer: Struct) -> None:
        self._works_for(offer["provider"], caller)
        offer_id = self.offer_id(offer)
        require(self.offers[offer_id].is_open, "escrow: offer not open")
        self.offers[offer_id] = self.offers[offer_id]._replace(is_open=False)

    def _terms(self, ask: Struct, **changes: Any) -> Struct:
        acknowledge_by = self.now + ask["acknowledge_window"]
        terms = {
            "collateral": ask["collateral"],
            "fee_bps": self.config["fee_bps"],
            "failure_cap_bps": ask["failure_cap_bps"],
            "matched_at": self.now,
            "acknowledge_by": acknowledge_by,
            "deliver_by": acknowledge_by + changes["longest_run"] + ask["delivery_margin"],
            "challenge_window": ask["challenge_window"],
            "arbiter": ask["arbiter"],
        } | changes
        return {name: terms[name] for name in reference.TERMS_FIELDS}

    def _admit(self, offer: Struct) -> None:
        """What an offer must fulfil, whatever the order."""
        require(not self.config["paused"], "escrow: new jobs are paused")
        require(self.now < offer["expiry"], "escrow: offer has expired")
        require(self.config["fee_bps"] <= offer["max_fee_bps"], "escrow: fee above offer's limit")
        if offer["arbiter"] != ZERO:
            require(self.arbiters[offer["provider"], offer["arbiter"]].approved, "escrow: arbiter not approved")

    def hire(self, caller: str, offer: Struct, order: Struct) -> bytes:
        self._admit(offer)
        return self._hire(caller, offer, order)

    def hire_many(self, caller: str, offer: Struct, orders: Iterable[Struct]) -> tuple[bytes, ...]:
        self._admit(offer)
        return tuple(self._hire(caller, offer, order) for order in orders)

    def _hire(self, caller: str, offer: Struct, order: Struct) -> bytes:
        require(order["spec_hash"] != EMPTY, "escrow: spec hash is empty")
        require(order["longest_run"] != 0, "escrow: longest run is zero")
        require(order["longest_run"] >= offer["shortest_run"], "escrow: run below offer")
        require(order["longest_run"] <= offer["longest_run"], "escrow: longest run beyond offer")
        require(order["tasks"] != 0, "escrow: no tasks")
        require(order["tasks"] <= MAX_TASKS, "escrow: too many tasks")
        require(order["audit_fee"] == 0 and order["audit_seal"] == EMPTY, "escrow: audits not open yet")
        tier = order["tier"]
        require(tier in (BASIC, EXACT) and tier & offer["tiers"] != 0, "escrow: tier not offered")
        require((tier == EXACT) == (order["exact_terms"] != EMPTY), "escrow: exact terms and tier")
        require(tier != EXACT or order["tasks"] == 1, "escrow: EXACT is one run")
        offer_id = self.offer_id(offer)
        place = self.offers[offer_id]
        epoch = self.arbiters[offer["provider"], offer["arbiter"]].epoch
        require(place.is_open and place.epoch == epoch, "escrow: offer not open")
        require(place.taken < offer["count"], "escrow: offer fully used")
        self.offers[offer_id] = place._replace(taken=place.taken + 1)
        kept = ("spec_hash", "tier", "tasks", "longest_run", "exact_terms", "audit_fee", "audit_seal", "group", "salt")
        terms = self._terms(
            offer,
            **{name: order[name] for name in kept},
            buyer=caller,
            provider=offer["provider"],
            offer=offer_id,
            price=0,
            price_per_second=offer["price_per_second"],
        )
        self._take(caller, escrowed(terms))
        return self._match(terms)

    def post_request(self, caller: str, request: Struct) -> bytes:
        require(request["buyer"] == caller, "escrow: not the buyer")
        require(request["resource_class"] != EMPTY, "escrow: class is empty")
        require(request["spec_hash"] != EMPTY, "escrow: spec hash is empty")
        require(request["tasks"] != 0, "escrow: no tasks")
        require(request["tasks"] <= MAX_TASKS, "escrow: too many tasks")
        require((request["price"] == 0) != (request["price_per_second"] == 0), "escrow: not one price")
        require(request["expiry"] > self.now, "escrow: request has expired")
        require(request["expiry"] <= self.now + 90 * DAY, "escrow: expiry too late")
        require(request["audit_fee"] == 0 and request["audit_seal"] == EMPTY, "escrow: audits not open yet")
        require(request["tier"] in (BASIC, EXACT), "escrow: tier not open yet")
        require((request["tier"] == EXACT) == (request["exact_terms"] != EMPTY), "escrow: exact terms and tier")
        require(request["tier"] != EXACT or request["tasks"] == 1, "escrow: EXACT is one run")
        if request["arbiter"] != ZERO:
            require(request["challenge_window"] != 0, "escrow: no challenge window")
        else:
            require(request["tier"] != EXACT, "escrow: EXACT without arbiter")
        self._bounds(request)
        request_id = self.request_id(request)
        require(self.requests[request_id].status == NONE, "escrow: request exists")
        self.requests[request_id] = Job(OPEN, self.block)
        self._take(caller, escrowed(request))
        return request_id

    def cancel_request(self, caller: str, request: Struct) -> None:
        request_id = self.request_id(request)
        self._close_request(request_id, CANCELLED)
        require(caller == request["buyer"] or self.now >= request["expiry"], "escrow: not the buyer")
        self.balances[request["buyer"]] += escrowed(request)

    def _close_request(self, request_id: bytes, status: int) -> None:
        kept = self.requests[request_id]
        require(kept.status == OPEN, "escrow: request not open")
        self.requests[request_id] = kept._replace(status=status)

    def accept(self, caller: str, request: Struct, bid: Struct) -> bytes:
        require(not self.config["paused"], "escrow: new jobs are paused")
        self._works_for(bid["provider"], caller)
        require(request["provider"] in (ZERO, bid["provider"]), "escrow: not for this provider")
        require(self.now < request["expiry"], "escrow: request has expired")
        require(self.config["fee_bps"] <= bid["max_fee_bps"], "escrow: fee above bid's limit")
        require(bid["price"] != 0, "escrow: price is zero")
        if request["arbiter"] != ZERO:
            require(self.arbiters[bid["provider"], request["arbiter"]].approved, "escrow: arbiter not approved")
        field = "price" if request["price"] else "price_per_second"
        require(bid["price"] <= request[field], "escrow: price above request")
        self._close_request(self.request_id(request), ACTIVE)
        kept = ("buyer", "spec_hash", "tier", "tasks", "longest_run")
        rest = ("exact_terms", "audit_fee", "audit_seal", "group", "salt")
        terms = self._terms(
            request,
            **{name: request[name] for name in (*kept, *rest)},
            **({"price": 0, "price_per_second": 0} | {field: bid["price"]}),
            provider=bid["provider"],
            offer=EMPTY,
        )
        self.balances[request["buyer"]] += escrowed(request) - escrowed(terms)
        return self._match(terms)

    def _match(self, terms: Struct) -> bytes:
        job = self.job_id(terms)
        require(self.jobs[job].status == NONE, "escrow: job exists")
        self.jobs[job] = Job(ACTIVE, self.block)
        self.staking.lock(self.address, terms["provider"], terms["collateral"])
        return job

    # Running and paying.

    def _in_state(self, terms: Struct, status: int) -> tuple[bytes, Job]:
        job = self.job_id(terms)
        require(self.jobs[job].status == status, "escrow: wrong state")
        return job, self.jobs[job]

    def _give_back(self, terms: Struct) -> None:
        if terms["offer"] != EMPTY:
            place = self.offers[terms["offer"]]
            self.offers[terms["offer"]] = place._replace(taken=place.taken - 1)

    def decline(self, caller: str, terms: Struct, close_offer: bool) -> None:
        job, kept = self._in_state(terms, ACTIVE)
        self._works_for(terms["provider"], caller)
        require(self.now <= terms["acknowledge_by"], "escrow: too late to decline")
        self.jobs[job] = kept._replace(status=DECLINED)
        self.declines[terms["provider"]] += 1
        self._give_back(terms)
        if close_offer and terms["offer"] != EMPTY:
            self.offers[terms["offer"]] = self.offers[terms["offer"]]._replace(is_open=False)
        self.balances[terms["buyer"]] += escrowed(terms)
        self.staking.unlock(self.address, terms["provider"], terms["collateral"])

    def decline_many(self, caller: str, jobs: Iterable[Struct], close_offer: bool) -> int:
        declined = 0
        for terms in jobs:
            if self.jobs[self.job_id(terms)].status == ACTIVE and self.now <= terms["acknowledge_by"]:
                self.decline(caller, terms, close_offer)
                declined += 1
        return declined

    def commit(
        self, caller: str, terms: Struct, root: bytes, chunks: int, exit_status: int, seconds: int, tasks_done: int
    ) -> None:
        job, kept = self._in_state(terms, ACTIVE)
        self._works_for(terms["provider"], caller)
        require(self.now <= terms["deliver_by"], "escrow: too late to commit")
        require(root != EMPTY, "escrow: result root is empty")
        require(tasks_done <= terms["tasks"], "escrow: more done than hired")
        if terms["tier"] == EXACT:
            require(exit_status == 0 and tasks_done == terms["tasks"], "escrow: an exact job cannot fail")
            require(chunks == 0, "escrow: chunks on EXACT")
        else:
            require(chunks != 0, "escrow: no chunks")
            require(chunks <= MAX_CHUNKS, "escrow: too many chunks")
        commitment = self.commitment(terms, root, chunks, exit_status, seconds, tasks_done)
        self.jobs[job] = Job(COMMITTED, kept.block, reference.digest(commitment))
        self._give_back(terms)

    def commit_many(self, caller: str, results: Iterable[Struct]) -> None:
        for result in results:
            claim = ("result_root", "chunks", "exit_status", "seconds_used", "tasks_done")
            self.commit(caller, result["terms"], *(result[name] for name in claim))

    def commitment(
        self, terms: Struct, root: bytes, chunks: int, exit_status: int, seconds: int, tasks_done: int
    ) -> Struct:
        """What a commitment at this moment holds."""
        pay = earned(terms, self.now, exit_status, seconds, tasks_done)
        return {"result_root": root, "chunks": chunks, "pay": pay, "committed_at": self.now}

    def _obstacle(self, caller: str, terms: Struct, commitment: Struct) -> str:
        kept = self.jobs[self.job_id(terms)]
        if kept.status not in (COMMITTED, DISPUTED):
            return "escrow: wrong state"
        if kept.digest != reference.digest(commitment):
            return "escrow: not what was committed"
        end = commitment["committed_at"] + terms["challenge_window"]
        if kept.status == DISPUTED:
            return "" if self.now >= end + time_out(terms) else "escrow: job is disputed"
        return "" if caller == terms["buyer"] or self.now >= end else "escrow: challenge window is open"

    def settle(self, caller: str, terms: Struct, commitment: Struct) -> None:
        obstacle = self._obstacle(caller, terms, commitment)
        require(obstacle == "", obstacle)
        job = self.job_id(terms)
        self.jobs[job] = self.jobs[job]._replace(status=SETTLED)
        pay = commitment["pay"]
        fee = pay * terms["fee_bps"] // 10_000
        self.balances[terms["provider"]] += pay - fee
        self.fees[terms["provider"]] += fee
        self.balances[terms["buyer"]] += escrowed(terms) - pay
        self.staking.unlock(self.address, terms["provider"], terms["collateral"])

    def settle_many(self, caller: str, settlements: Iterable[tuple[Struct, Struct]]) -> int:
        settled = 0
        for terms, commitment in settlements:
            if self._obstacle(caller, terms, commitment) == "":
                self.settle(caller, terms, commitment)
                settled += 1
        return settled

    def expire(self, caller: str, terms: Struct) -> None:
        job, _ = self._in_state(terms, ACTIVE)
        require(self.now > terms["deliver_by"], "escrow: not due yet")
        self._default(job, terms)

    def _default(self, job: bytes, terms: Struct) -> None:
        self.jobs[job] = self.jobs[job]._replace(status=EXPIRED)
        share = min(terms["collateral"], escrowed(terms)) * 2_000 // 10_000
        self.staking.slash(self.address, terms["provider"], job, terms["collateral"], share, 0)
        self.balances[terms["buyer"]] += escrowed(terms) + share

    def _arbiter(self, caller: str, terms: Struct) -> None:
        require(caller == terms["arbiter"], "escrow: not the arbiter")

    def _committed_to(self, kept: Job, commitment: Struct) -> None:
        require(kept.digest == reference.digest(commitment), "escrow: not what was committed")

    def hold(self, caller: str, terms: Struct, commitment: Struct) -> None:
        job, kept = self._in_state(terms, COMMITTED)
        self._arbiter(caller, terms)
        self._committed_to(kept, commitment)
        end = commitment["committed_at"] + terms["challenge_window"]
        require(self.now < end, "escrow: challenge window is over")
        self.jobs[job] = kept._replace(status=DISPUTED)

    def release(self, caller: str, terms: Struct) -> None:
        job, kept = self._in_state(terms, DISPUTED)
        self._arbiter(caller, terms)
        self.jobs[job] = kept._replace(status=COMMITTED)

    def convict(self, caller: str, terms: Struct, commitment: Struct, to_arbiter: int) -> None:
        job, kept = self._in_state(terms, DISPUTED)
        self._arbiter(caller, terms)
        self._committed_to(kept, commitment)
        end = commitment["committed_at"] + terms["challenge_window"]
        require(self.now < end + time_out(terms), "escrow: dispute has timed out")
        if terms["tier"] != EXACT:
            require(to_arbiter == 0, "escrow: share above cap")
            self._default(job, terms)
            return
        require(to_arbiter <= terms["collateral"] * 1_500 // 10_000, "escrow: share above cap")
        self.jobs[job] = kept._replace(status=CONVICTED)
        share = min(escrowed(terms), terms["collateral"] * 3_500 // 10_000)
        self.staking.slash(self.address, terms["provider"], job, terms["collateral"], share, to_arbiter)
        self.balances[terms["buyer"]] += escrowed(terms) + share
        self.balances[caller] += to_arbiter


class Demands:
    """DataDemands."""

    def __init__(self, journal: Journal, escrow: Escrow, address: str, answer_fee: int) -> None:
        self.escrow, self.address, self.fee = escrow, address, answer_fee
        self.token = escrow.token
        self.claimable = Book(journal, "claimable")
        # job -> lane -> (index, answer_by) of the demands that wait
        self.lanes = Book(journal, "lanes", {})

    def _held(self, job: bytes, commitment: Struct) -> None:
        kept = self.escrow.jobs[job]
        require(kept.status == DISPUTED, "demands: job is not held")
        require(kept.digest == reference.digest(commitment), "demands: not what was committed")

    def demand(self, caller: str, terms: Struct, commitment: Struct, indexes: Sequence[int]) -> None:
        require(caller == terms["buyer"], "demands: not the buyer")
        require(terms["tier"] == BASIC, "demands: not on this tier")
        require(len(indexes) != 0, "demands: nothing demanded")
        job = self.escrow.job_id(terms)
        if self.lanes[job]:
            self._held(job, commitment)
            end = commitment["committed_at"] + terms["challenge_window"]
            require(self.escrow.now < end, "demands: challenge window is over")
        else:
            self.escrow.hold(self.address, terms, commitment)
        lanes = dict(self.lanes[job])
        for index in indexes:
            require(index < commitment["chunks"], "demands: no such chunk")
            free = [lane for lane in range(LANES) if lane not in lanes]
            require(bool(free), "demands: too many demands")
            lanes[free[0]] = (index, self.escrow.now + ANSWER_WINDOW)
        self.lanes[job] = lanes
        amount = len(indexes) * self.fee
        before = self.token.balances[self.address]
        require(self.token.move(caller, self.address, amount), "demands: transfer failed")
        require(self.token.balances[self.address] - before == amount, "demands: token takes a fee")

    def _waiting(self, job: bytes, lane: int) -> tuple[int, int]:
        require(lane in self.lanes[job], "demands: no such demand")
        index, answer_by = self.lanes[job][lane]
        return index, answer_by

    def answer(self, caller: str, terms: Struct, commitment: Struct, lane: int, proof: Struct) -> None:
        job = self.escrow.job_id(terms)
        index, answer_by = self._waiting(job, lane)
        self._held(job, commitment)
        require(self.escrow.now <= answer_by, "demands: too late to answer")
        check_proof(commitment, index, proof)
        self.lanes[job] = {other: kept for other, kept in self.lanes[job].items() if other != lane}
        self.claimable[terms["provider"]] += self.fee
        if not self.lanes[job]:
            self.escrow.release(self.address, terms)

    def expire(self, caller: str, terms: Struct, commitment: Struct, lane: int) -> None:
        job = self.escrow.job_id(terms)
        _, answer_by = self._waiting(job, lane)
        require(self.escrow.now > answer_by, "demands: not due yet")
        self._give_back(job, terms["buyer"])
        self.escrow.convict(self.address, terms, commitment, 0)

    def reclaim(self, caller: str, terms: Struct) -> None:
        job = self.escrow.job_id(terms)
        require(bool(self.lanes[job]), "demands: no such demand")
        require(self.escrow.jobs[job].status != DISPUTED, "demands: job is not over")
        self._give_back(job, terms["buyer"])

    def _give_back(self, job: bytes, buyer: str) -> None:
        self.claimable[buyer] += len(self.lanes[job]) * self.fee
        self.lanes[job] = {}

    def collect(self, caller: str, account: str) -> None:
        amount = self.claimable[account]
        require(amount != 0, "demands: nothing to collect")
        self.claimable[account] = 0
        self.escrow.deposit(self.address, amount, account)


def escrowed(struct: Struct) -> int:
    """The highest price of a job or request."""
    return int(struct["price"] + struct["price_per_second"] * struct["longest_run"])


def time_out(terms: Struct) -> int:
    """Seconds after the challenge window from which a dispute is over."""
    return EXACT_DISPUTE_TIMEOUT if terms["tier"] == EXACT else DISPUTE_TIMEOUT


def earned(terms: Struct, now: int, exit_status: int, seconds: int, tasks_done: int) -> int:
    """What a commitment pays, fee included."""
    whole = escrowed(terms)
    if terms["tier"] == EXACT:
        return whole
    by_tasks = whole * tasks_done // terms["tasks"]
    if terms["price_per_second"] == 0:
        pay = by_tasks
    else:
        paid_seconds = min(seconds, now - terms["matched_at"], terms["longest_run"])
        by_time = int(paid_seconds * terms["price_per_second"])
        pay = min(by_time, by_tasks) if exit_status == 0 else by_time
    if exit_status != 0:
        pay = min(pay, whole * terms["failure_cap_bps"] // 10_000)
    return int(pay)


def check_proof(commitment: Struct, index: int, proof: Struct) -> None:
    """Refuses a proof that does not lead from the chunk to the committed root."""
    require(len(proof["chunk"]) == CHUNK_BYTES, "demands: chunk is not 4096 bytes")
    count = commitment["chunks"]
    require(-(-proof["bundle_size"] // CHUNK_BYTES) == count, "demands: bundle of another size")
    depth = (count - 1).bit_length()
    require(len(proof["path"]) == depth, "demands: path of another length")
    node = hashlib.sha256(b"\x00" + proof["chunk"]).digest()
    for level, sibling in enumerate(proof["path"]):
        pair = sibling + node if index >> level & 1 else node + sibling
        node = hashlib.sha256(b"\x01" + pair).digest()
    sizes = proof["bundle_size"].to_bytes(8, "big") + proof["manifest_size"].to_bytes(8, "big")
    root = hashlib.sha256(b"GPUBOND-RESULT-1" + sizes + node).digest()
    require(root == commitment["result_root"], "demands: chunk is not of the result")
