# SPDX-License-Identifier: Apache-2.0
"""Random calls by random actors: mostly plausible, often at the edge of a deadline or an amount, sometimes absurd."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from tests.unit import reference

from . import model as spec
from .bundles import Bundle, bundle
from .harness import USD, Episode, Made, new_offer, new_order, new_request
from .model import DAY, EMPTY, EXACT, ZERO, Struct

T = TypeVar("T")

HUGE = (2**256 - 1, 2**255, 2**128, 2**128 - 1, 2**85, 2**85 - 1, 2**64)


class Actions:
    """Chooses and makes one call after another."""

    def __init__(self, episode: Episode) -> None:
        self.episode = episode
        self.random = episode.random
        self.call = episode.call
        self.world = episode.world
        people = episode.world.people
        self.people = list(people.values())
        self.owners = [people[f"owner{number}"] for number in (1, 2, 3)]
        self.operators = [people[f"operator{number}"] for number in (1, 2, 3)]
        self.buyers = [people[f"buyer{number}"] for number in (1, 2, 3)]
        self.thief, self.keeper = people["thief"], people["keeper"]
        escrow, demands, staking = (episode.targets[name][0].address for name in ("escrow", "demands", "staking"))
        self.contracts = [escrow, demands, staking, episode.world.arbiter, episode.world.locker.address]
        self.escrow_address, self.demands_address, self.staking_address = escrow, demands, staking
        self.table: list[tuple[Callable[[], Any], int]] = [
            (self.pass_time, 55),
            (self.register, 3),
            (self.set_operator, 6),
            (self.set_endpoint, 2),
            (self.stake, 12),
            (self.unstake, 10),
            (self.allow, 14),
            (self.lock, 14),
            (self.unlock, 7),
            (self.slash, 8),
            (self.locker_collect, 3),
            (self.lock_as_nobody, 3),
            (self.deposit, 18),
            (self.withdraw, 14),
            (self.collect_slashes, 3),
            (self.collect_fees, 4),
            (self.approve_arbiter, 8),
            (self.revoke_offers, 3),
            (self.post_offer, 22),
            (self.close_offer, 6),
            (self.hire, 64),
            (self.hire_many, 8),
            (self.post_request, 34),
            (self.cancel_request, 12),
            (self.accept, 50),
            (self.decline, 12),
            (self.decline_many, 5),
            (self.commit, 70),
            (self.commit_many, 9),
            (self.settle, 40),
            (self.settle_many, 12),
            (self.expire, 14),
            (self.hold, 24),
            (self.release, 8),
            (self.convict, 20),
            (self.set_paused, 4),
            (self.set_fee, 5),
            (self.hand_over, 3),
            (self.demand, 40),
            (self.answer, 28),
            (self.expire_demand, 14),
            (self.reclaim, 8),
            (self.collect_claimable, 10),
            (self.misbehave, 5),
            (self.donate, 3),
        ]
        self.functions = [move for move, _ in self.table]
        self.weights = [weight for _, weight in self.table]

    def step(self) -> None:
        """One move; a token that misbehaves is soon mended."""
        token = self.episode.token
        if (token.fee_bps or token.returns_false or token.blocked) and self.chance(0.12):
            self.episode.heal_token()
        if self.episode.escrow.config["paused"] and self.chance(0.15):
            self.call("escrow", "set_paused", self.episode.escrow.config["owner"], False)
        self.random.choices(self.functions, self.weights)[0]()

    # Chance.

    def chance(self, likelihood: float) -> bool:
        return self.random.random() < likelihood

    def pick(self, options: Sequence[T]) -> T:
        return self.random.choice(options)

    def anyone(self) -> str:
        return self.pick(self.people)

    def any_address(self) -> str:
        return self.pick([*self.people, *self.contracts, ZERO])

    def sender(self, right: str) -> str:
        """Who should call; sometimes somebody else does."""
        return right if self.chance(0.93) else self.anyone()

    def staff(self, provider: str) -> str:
        """Owner or operator of a provider; sometimes somebody else."""
        operator = self.episode.staking.operators[provider]
        return self.sender(self.pick([provider, operator if operator != ZERO else provider]))

    def amount(self, limit: int) -> int:
        """An amount of at most `limit` mostly, often at the edge."""
        if self.chance(0.04):
            return self.pick((0, *HUGE))
        if self.chance(0.3):
            return min(max(0, limit + self.pick([-1, 0, 0, 1])), 2**256 - 1)
        return self.random.randint(1, max(1, self.pick([limit, limit // 3, limit // 20])))

    def altered(self, struct: Struct, likelihood: float = 0.05) -> Struct:
        """The same struct, or one with another value in one field."""
        if not self.chance(likelihood):
            return struct
        field = self.pick(list(struct))
        value = struct[field]
        if field in ("tier", "tiers"):
            changed: Any = self.random.randrange(16)
        elif isinstance(value, int):
            changed = self.pick([0, 1, value + 1, max(0, value - 1), *HUGE[:2]]) % 2**256
        elif isinstance(value, str):
            changed = self.any_address()
        else:
            changed = self.pick([EMPTY, self.random.randbytes(32)])
        return struct | {field: changed}

    def jobs(self, *statuses: int) -> list[Made]:
        """Jobs in these states."""
        states = self.episode.escrow.jobs
        return [made for made in self.episode.jobs if states[made.id].status in statuses]

    def some_job(self, *statuses: int, arbiter: str | None = None) -> Made | None:
        """A job in one of these states if there is one, now and then any other."""
        known = self.jobs(*statuses) if self.chance(0.93) else self.episode.jobs
        if arbiter is not None and self.chance(0.95):
            known = [made for made in known if made.terms["arbiter"] == arbiter]
        if not known:
            return None
        return self.pick(known[-8:] if self.chance(0.7) else known)

    # Time.

    def pass_time(self) -> None:
        """Some seconds, or to a deadline or a second beside it."""
        episode = self.episode
        if self.chance(0.55):
            episode.travel(self.pick([1, 12, 60, 61, 600]))
            return
        # Seldom farther than some hours: a long time ends everything that waits.
        reach = self.pick([120, 1_000, 8_000, 8_000, 2 * DAY]) if self.chance(0.985) else 500 * DAY
        ahead = [moment for moment in self.deadlines() if 0 <= moment - episode.now <= reach]
        if not ahead:
            episode.travel(self.pick([12, 60]))
            return
        moment = self.pick(ahead)
        episode.travel(max(0, moment + self.pick([-1, 0, 0, 1, 1]) - episode.now))

    def deadlines(self) -> list[int]:
        """Moments at which something becomes possible or impossible."""
        found = []
        for made in self.jobs(spec.ACTIVE, spec.COMMITTED, spec.DISPUTED):
            status = self.episode.escrow.jobs[made.id].status
            if status == spec.ACTIVE:
                found += [made.terms["acknowledge_by"], made.terms["deliver_by"]]
            elif made.commitment is not None:
                end = made.commitment["committed_at"] + made.terms["challenge_window"]
                found.append(end)
                if status == spec.DISPUTED:
                    found.append(end + spec.time_out(made.terms))
                    found += [answer_by for _, answer_by in self.episode.demands.lanes[made.id].values()]
        found += [request["expiry"] for request in self.episode.requests[-5:]]
        found += [offer["expiry"] for offer in self.episode.offers[-3:]]
        return found

    # Staking.

    def prepare(self) -> None:
        """Providers with stake and buyers with money, so that an episode has something to do."""
        arbiters = (self.world.arbiter, self.demands_address)
        for owner, operator in zip(self.owners, self.operators, strict=True):
            self.call("staking", "register", owner, operator, "http://127.0.0.1:1")
            wealth = self.episode.token.balances[owner] // 2
            self.call("staking", "stake", owner, wealth, owner)
            total = min(wealth, spec.MAX_ALLOWANCE)
            self.call("staking", "allow", owner, self.escrow_address, total // 2, total // self.pick([2, 50]))
            rogue = self.pick([wealth // 4, 7])
            self.call("staking", "allow", owner, self.world.locker.address, rogue, rogue // self.pick([1, 3]))
            for arbiter in arbiters:
                if self.chance(0.9):
                    self.call("escrow", "approve_arbiter", owner, arbiter, True)
        for buyer in self.buyers:
            self.call("escrow", "deposit", buyer, self.episode.token.balances[buyer] // 3, buyer)

    def register(self) -> None:
        self.call("staking", "register", self.anyone(), self.any_address(), "")

    def set_operator(self) -> None:
        owner = self.pick(self.owners)
        usual = self.operators[self.owners.index(owner)]
        operator = self.pick([usual, usual, self.thief, self.any_address()])
        self.call("staking", "set_operator", self.sender(owner), operator)

    def set_endpoint(self) -> None:
        owner = self.pick(self.owners)
        self.call("staking", "set_endpoint", self.staff(owner), owner, "http://127.0.0.1:2")

    def stake(self) -> None:
        payer = self.sender(self.pick(self.owners))
        target = payer if self.chance(0.8) else self.any_address()
        self.call("staking", "stake", payer, self.amount(self.episode.token.balances[payer]), target)

    def unstake(self) -> None:
        owner = self.sender(self.pick(self.owners))
        receiver = owner if self.chance(0.7) else self.any_address()
        # A tenth mostly, so that stake is left to work with.
        free = self.episode.staking.free[owner]
        amount = self.amount(free if self.chance(0.2) else free // 10)
        self.call("staking", "withdraw", owner, amount, receiver)

    def allow(self) -> None:
        owner = self.sender(self.pick(self.owners))
        locker = self.pick([self.escrow_address] * 3 + [self.world.locker.address] * 2 + [self.any_address()])
        old = self.episode.staking.allowances[owner, locker]
        most = min(self.episode.staking.free[owner] + old.allocated, spec.MAX_ALLOWANCE)
        total = self.pick([most // 2, most // 3, self.amount(most), old.locked, max(0, old.locked - 1)])
        per_job = self.pick([total, total // 2, total // 2, self.amount(total)])
        self.call("staking", "allow", owner, locker, total, per_job)

    def lock(self) -> None:
        owner = self.pick(self.owners)
        kept = self.episode.staking.allowances[owner, self.world.locker.address]
        limit = min(kept.per_job, max(0, kept.total - kept.locked)) if self.chance(0.7) else kept.total - kept.locked
        self.episode.locker_call("lock", owner, self.amount(max(0, limit)))

    def unlock(self) -> None:
        owner = self.pick(self.owners)
        self.episode.locker_call("unlock", owner, self.amount(self._locked(owner)))

    def slash(self) -> None:
        owner = self.pick(self.owners)
        amount = self.amount(self._locked(owner))
        shares = self.amount(amount), self.amount(amount)
        if self.chance(0.8):
            shares = amount // self.pick([2, 3]), amount // self.pick([2, 5])
        self.episode.locker_call("slash", owner, self.random.randbytes(32), amount, *shares)

    def _locked(self, owner: str) -> int:
        return int(self.episode.staking.allowances[owner, self.world.locker.address].locked)

    def locker_collect(self) -> None:
        self.episode.locker_call("collect")

    def lock_as_nobody(self) -> None:
        """A person calls what lockers call."""
        owner, caller = self.pick(self.owners), self.anyone()
        amount = self.pick([0, 1, USD, *HUGE])
        name, args = self.pick([("lock", ()), ("unlock", ()), ("slash", (0, self.pick([0, 1])))])
        if name == "slash":
            self.call("staking", "slash", caller, owner, EMPTY, amount, *args)
        else:
            self.call("staking", name, caller, owner, amount)
        if self.chance(0.3):
            self.call("staking", "collect", caller)

    # Money in the escrow.

    def deposit(self) -> None:
        payer = self.sender(self.pick(self.buyers))
        amount = self.amount(self.episode.token.balances[payer] // self.pick([1, 3, 3, 3]))
        if self.chance(0.2):
            self.call("escrow", "deposit_with_permit", payer, amount, self.episode.now, 27, EMPTY, EMPTY)
            return
        account = payer if self.chance(0.85) else self.any_address()
        self.call("escrow", "deposit", payer, amount, account)

    def withdraw(self) -> None:
        account = self.pick([*self.people, *self.owners, *self.buyers, self.world.arbiter])
        receiver = account if self.chance(0.75) else self.any_address()
        balance = self.episode.escrow.balances[account]
        buys = account in self.buyers and self.chance(0.85)
        self.call("escrow", "withdraw", account, self.amount(balance // 10 if buys else balance), receiver)

    def collect_slashes(self) -> None:
        self.call("escrow", "collect_slashes", self.anyone())

    def collect_fees(self) -> None:
        providers = [self.pick(self.owners) for _ in range(self.random.randrange(4))]
        receiver = self.keeper if self.chance(0.8) else self.any_address()
        self.call("escrow", "collect_fees", self.sender(self._admin()), providers, receiver)

    def _admin(self) -> str:
        return str(self.episode.escrow.config["owner"])

    def set_paused(self) -> None:
        self.call("escrow", "set_paused", self.sender(self._admin()), self.chance(0.6))

    def set_fee(self) -> None:
        self.call(
            "escrow", "set_fee", self.sender(self._admin()), self.pick([0, 1, 249, 250, 250, 499, 500, 501, HUGE[0]])
        )

    def hand_over(self) -> None:
        people = self.world.people
        if self.chance(0.5):
            heir = self.pick([people["heir"], people["admin"], ZERO])
            self.call("escrow", "transfer_ownership", self.sender(self._admin()), heir)
        else:
            heir = self.episode.escrow.config["pending"]
            self.call("escrow", "accept_ownership", self.sender(heir) if heir != ZERO else self.anyone())

    # Matching.

    def approve_arbiter(self) -> None:
        arbiter = self.pick([self.world.arbiter, self.demands_address] * 3 + [self.any_address()])
        self.call("escrow", "approve_arbiter", self.sender(self.pick(self.owners)), arbiter, self.chance(0.8))

    def revoke_offers(self) -> None:
        arbiter = self.pick([ZERO, self.world.arbiter, self.demands_address, self.any_address()])
        self.call("escrow", "revoke_offers", self.sender(self.pick(self.owners)), arbiter)

    def post_offer(self) -> None:
        episode = self.episode
        if episode.offers and self.chance(0.2):
            offer = self.altered(self.pick(episode.offers))
        else:
            offer = self.altered(self._rich(new_offer(episode, self.pick(self.owners))), 0.25)
        made, _ = self.call("escrow", "post_offer", self.staff(offer["provider"]), offer)
        if made and offer not in episode.offers:
            episode.offers.append(offer)

    def _rich(self, ask: Struct) -> Struct:
        """Now and then sums as large as they may be."""
        if self.chance(0.06):
            ask |= {"collateral": self.pick([2**84, 2**80 + 1])}
            highest = self.pick([2**126, 2**127 - 1, 2**128 - 1, 2**128])
            if ask.get("price"):
                ask |= {"price": highest}
            else:
                ask |= {"price_per_second": highest // self.pick([1, ask["longest_run"]])}
        return ask

    def close_offer(self) -> None:
        if self.episode.offers:
            offer = self.altered(self.pick(self.episode.offers))
            self.call("escrow", "close_offer", self.staff(offer["provider"]), offer)

    def _offer_to_hire(self) -> Struct | None:
        episode = self.episode
        usable = [offer for offer in episode.offers if offer["expiry"] > episode.now]
        usable = [offer for offer in usable if episode.escrow.offers[episode.escrow.offer_id(offer)].is_open]
        if not usable or self.chance(0.08):
            usable = episode.offers
        return self.altered(self.pick(usable), 0.03) if usable else None

    def _hired(self, offer: Struct, order: Struct, buyer: str, fee: int, job: bytes) -> None:
        episode = self.episode
        offer_id = episode.escrow.offer_id(offer)
        terms = reference.terms_of(offer, order, offer_id=offer_id, buyer=buyer, fee_bps=fee, matched_at=episode.now)
        episode.made_job(terms, job)

    def hire(self) -> None:
        offer = self._offer_to_hire()
        if offer is None:
            return
        order = self.altered(new_order(self.episode, offer), 0.12)
        buyer, fee = self.sender(self.pick(self.buyers)), self.episode.escrow.config["fee_bps"]
        for _ in range(2 if self.chance(0.03) else 1):  # twice the same within a second
            hired, job = self.call("escrow", "hire", buyer, offer, order)
            if hired:
                self._hired(offer, order, buyer, fee, job)

    def hire_many(self) -> None:
        offer = self._offer_to_hire()
        if offer is None:
            return
        number = self.pick([0, 1, 2, 2, 3, 4, 5, 32])
        orders = [self.altered(new_order(self.episode, offer), 0.03) for _ in range(number)]
        if number > 1 and self.chance(0.08):
            orders[-1] = orders[0]
        buyer, fee = self.sender(self.pick(self.buyers)), self.episode.escrow.config["fee_bps"]
        hired, jobs = self.call("escrow", "hire_many", buyer, offer, orders)
        if hired:
            for order, job in zip(orders, jobs, strict=True):
                self._hired(offer, order, buyer, fee, job)

    def post_request(self) -> None:
        episode = self.episode
        buyer = self.pick(self.buyers)
        if episode.requests and self.chance(0.05):
            request = self.pick(episode.requests)
        else:
            request = self.altered(self._rich(new_request(episode, buyer)), 0.25)
        posted, _ = self.call("escrow", "post_request", self.sender(request["buyer"]), request)
        if posted:
            episode.requests.append(request)

    def _open_request(self) -> Struct | None:
        episode = self.episode
        known = episode.requests
        if self.chance(0.9):
            known = episode.open_requests()
            if self.chance(0.85):
                known = [request for request in known if request["expiry"] > episode.now]
        return self.pick(known) if known else None

    def cancel_request(self) -> None:
        request = self._open_request()
        if request is not None:
            caller = request["buyer"] if self.chance(0.6) else self.anyone()
            self.call("escrow", "cancel_request", caller, self.altered(request))

    def accept(self) -> None:
        episode = self.episode
        request = self._open_request()
        if request is None:
            return
        request = self.altered(request)
        provider = request["provider"] if request["provider"] in self.owners else self.pick(self.owners)
        if self.chance(0.05):
            provider = self.pick(self.owners)
        highest = request["price"] or request["price_per_second"]
        fee = episode.escrow.config["fee_bps"]
        limit = max(0, fee - 1) if self.chance(0.04) else self.pick([500, fee])
        bid = {"provider": provider, "price": self.amount(highest), "max_fee_bps": limit}
        accepted, job = self.call("escrow", "accept", self.staff(provider), request, bid)
        if accepted:
            episode.made_job(
                reference.accepted_terms(
                    request, provider=provider, price=bid["price"], fee_bps=fee, matched_at=episode.now
                ),
                job,
            )

    # Running and paying.

    def decline(self) -> None:
        made = self.some_job(spec.ACTIVE)
        if made is not None:
            terms = self.altered(made.terms)
            self.call("escrow", "decline", self.staff(made.terms["provider"]), terms, self.chance(0.3))

    def decline_many(self) -> None:
        """Jobs of one provider mostly, since no other may give them back; some are over already."""
        known = self.jobs(spec.ACTIVE) if self.chance(0.8) else self.episode.jobs[-20:]
        if not known:
            return
        provider = self.pick(known).terms["provider"]
        if self.chance(0.95):
            known = [made for made in known if made.terms["provider"] == provider]
        chosen = [self.pick(known) for _ in range(self.pick([0, 1, 2, 3, 4]))]
        shown = [self.altered(made.terms, 0.02) for made in chosen]
        self.call("escrow", "decline_many", self.staff(provider), shown, self.chance(0.2))

    def _in_time(self) -> list[Made]:
        return [made for made in self.jobs(spec.ACTIVE) if made.terms["deliver_by"] >= self.episode.now]

    def _claim(self, made: Made) -> tuple[Struct, Bundle]:
        """What a provider commits to, as `commit_many` takes it, and the bundle behind it."""
        terms, now = self.altered(made.terms, 0.04), self.episode.now
        result = bundle(self.pick([1, 1, 2, 3, 5, 9]))
        root = EMPTY if self.chance(0.02) else result.root
        exact = terms["tier"] == EXACT
        lie = self.pick([0, 1, len(result.chunks) + 1, 2**32, 2**32 + 1, HUGE[0]])
        chunks = lie if self.chance(0.08) else 0 if exact else len(result.chunks)
        used = now - made.terms["matched_at"]
        seconds = self.pick([0, 1, used, used, used + 1, max(0, used - 1), terms["longest_run"], *HUGE[:2]])
        tasks = made.terms["tasks"]
        done = tasks if exact and self.chance(0.9) else self.pick([tasks, tasks, tasks, 0, 1, tasks - 1, tasks // 2])
        done = self.pick([tasks + 1, HUGE[0]]) if self.chance(0.02) else done
        status = 0 if exact and self.chance(0.95) else self.pick([0, 0, 0, 1, HUGE[0]])
        claim = {
            "terms": terms,
            "result_root": root,
            "chunks": chunks,
            "exit_status": status,
            "seconds_used": seconds,
            "tasks_done": done,
        }
        return claim, result

    def _committed(self, made: Made, claim: Struct, result: Bundle) -> None:
        _, *args = claim.values()
        made.commitment = self.episode.escrow.commitment(made.terms, *args)
        made.bundle = result

    def commit(self) -> None:
        made = self.some_job(spec.ACTIVE)
        in_time = self._in_time()
        if in_time and self.chance(0.85):
            made = self.pick(in_time)
        if made is None:
            return
        claim, result = self._claim(made)
        committed, _ = self.call("escrow", "commit", self.staff(made.terms["provider"]), *claim.values())
        if committed:
            self._committed(made, claim, result)

    def commit_many(self) -> None:
        """Jobs of one provider mostly, since no other may commit to them."""
        known = self._in_time() if self.chance(0.95) else self.jobs(spec.ACTIVE)
        if not known:
            return
        provider = self.pick(known).terms["provider"]
        if self.chance(0.95):
            known = [made for made in known if made.terms["provider"] == provider]
        chosen = self.random.sample(known, min(len(known), self.pick([0, 1, 2, 2, 3, 4])))
        if chosen and self.chance(0.05):
            chosen.append(chosen[0])
        claims = [self._claim(made) for made in chosen]
        committed, _ = self.call("escrow", "commit_many", self.staff(provider), [claim for claim, _ in claims])
        if committed:
            for made, (claim, result) in zip(chosen, claims, strict=True):
                self._committed(made, claim, result)

    def _commitment(self, made: Made, likelihood: float = 0.05) -> Struct:
        shown = made.commitment or {"result_root": EMPTY, "chunks": 1, "pay": 0, "committed_at": self.episode.now}
        return self.altered(shown, likelihood)

    def settle(self) -> None:
        made = self.some_job(spec.COMMITTED, *([spec.DISPUTED] if self.chance(0.3) else []))
        if made is not None:
            caller = made.terms["buyer"] if self.chance(0.35) else self.anyone()
            self.call("escrow", "settle", caller, self.altered(made.terms), self._commitment(made))

    def settle_many(self) -> None:
        known = self.jobs(spec.COMMITTED, spec.DISPUTED)[-20:]
        chosen = [self.pick(known or self.episode.jobs) for _ in range(self.random.randrange(6)) if self.episode.jobs]
        caller = chosen[0].terms["buyer"] if chosen and self.chance(0.4) else self.anyone()
        both = [(self.altered(made.terms), self._commitment(made)) for made in chosen]
        self.call("escrow", "settle_many", caller, both)

    def expire(self) -> None:
        late = [made for made in self.jobs(spec.ACTIVE) if made.terms["deliver_by"] <= self.episode.now]
        made = self.pick(late) if late and self.chance(0.9) else self.some_job(spec.ACTIVE)
        if made is not None:
            self.call("escrow", "expire", self.anyone(), self.altered(made.terms))

    def _decider(self, made: Made) -> str:
        """The arbiter of a job; where that is the demands contract, seldom: it may only do as its code says."""
        arbiter = made.terms["arbiter"]
        return arbiter if arbiter == self.world.arbiter and self.chance(0.95) else self.anyone()

    def hold(self) -> None:
        made = self.some_job(spec.COMMITTED, arbiter=self.world.arbiter)
        if made is not None:
            self.call("escrow", "hold", self._decider(made), self.altered(made.terms), self._commitment(made))

    def release(self) -> None:
        made = self.some_job(spec.DISPUTED, arbiter=self.world.arbiter)
        if made is not None:
            self.call("escrow", "release", self._decider(made), self.altered(made.terms))

    def convict(self) -> None:
        made = self.some_job(spec.DISPUTED, arbiter=self.world.arbiter)
        if made is None:
            return
        cap = made.terms["collateral"] * 1_500 // 10_000 if made.terms["tier"] == EXACT else 0
        share = cap if self.chance(0.4) else 0 if cap == 0 and self.chance(0.8) else self.amount(cap)
        terms = self.altered(made.terms)
        self.call("escrow", "convict", self._decider(made), terms, self._commitment(made), share)

    # Demands.

    def _demandable(self, *statuses: int) -> Made | None:
        return self.some_job(*statuses, arbiter=self.demands_address)

    def demand(self) -> None:
        made = self._demandable(spec.COMMITTED, spec.DISPUTED)
        if made is None:
            return
        commitment = self._commitment(made)
        count = min(commitment["chunks"], 2**32)
        number = self.pick([1, 1, 1, 2, 3, 8, 0])
        indexes = [self.random.randrange(count) if count else 0 for _ in range(number)]
        if indexes and self.chance(0.05):
            indexes[-1] = self.pick([count, commitment["chunks"], HUGE[0]])
        terms = self.altered(made.terms)
        self.call("demands", "demand", self.sender(made.terms["buyer"]), terms, commitment, indexes)

    def _with_demand(self) -> Made | None:
        waiting = [made for made in self.episode.jobs[-60:] if self.episode.demands.lanes[made.id]]
        return self.pick(waiting) if waiting and self.chance(0.95) else self._demandable(spec.DISPUTED)

    def _lane(self, made: Made) -> int:
        lanes = list(self.episode.demands.lanes[made.id])
        return self.pick(lanes) if lanes and self.chance(0.95) else self.pick([0, 1, 7, 8, HUGE[0]])

    def answer(self) -> None:
        made = self._with_demand()
        if made is None or made.bundle is None:
            return
        lane = self._lane(made)
        index = self.episode.demands.lanes[made.id].get(lane, (0, 0))[0]
        if index >= len(made.bundle.chunks) or self.chance(0.03):
            index = self.random.randrange(len(made.bundle.chunks))
        proof = made.bundle.proof(index)
        if self.chance(0.1):
            chunk, path, size = proof["chunk"], proof["path"], proof["bundle_size"]
            proof |= self.pick(
                [
                    {"chunk": self.pick([chunk[1:], b"", b"\xff" + chunk[1:]])},
                    {"path": self.pick([path[1:], [*path, EMPTY], path[::-1]])},
                    {"bundle_size": self.pick([size + 1, size + spec.CHUNK_BYTES, 0, 2**64 - 1])},
                    {"manifest_size": proof["manifest_size"] + 1},
                ]
            )
        terms, commitment = self.altered(made.terms, 0.04), self._commitment(made, 0.04)
        self.call("demands", "answer", self.anyone(), terms, commitment, lane, proof)

    def expire_demand(self) -> None:
        made = self._with_demand()
        if made is not None:
            terms, commitment = self.altered(made.terms), self._commitment(made)
            self.call("demands", "expire", self.anyone(), terms, commitment, self._lane(made))

    def reclaim(self) -> None:
        over = [
            made
            for made in self.episode.jobs
            if self.episode.demands.lanes[made.id] and self.episode.escrow.jobs[made.id].status != spec.DISPUTED
        ]
        made = self.pick(over) if over and self.chance(0.9) else self._with_demand()
        if made is not None:
            self.call("demands", "reclaim", self.anyone(), self.altered(made.terms))

    def collect_claimable(self) -> None:
        claims = self.episode.demands.claimable
        with_claim = [account for account in claims.values if claims[account]]
        account = self.pick(with_claim) if with_claim and self.chance(0.8) else self.anyone()
        self.call("demands", "collect", self.anyone(), account)

    # The token.

    def misbehave(self) -> None:
        """Switches one kind of misbehaviour on."""
        kind = self.random.randrange(3)
        if kind == 0:
            self.episode.set_token("set_fee_bps", self.pick([1, 100, 10_000]))
        elif kind == 1:
            self.episode.set_token("set_returns_false", True)
        else:
            self.episode.set_token("set_blocked", self.pick([*self.people, *self.contracts[:3]]), True)

    def donate(self) -> None:
        """Tokens sent without being asked for belong to nobody."""
        self.episode.donate(self.anyone(), self.pick(self.contracts[:3]), self.pick([1, USD]))
