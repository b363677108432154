# SPDX-License-Identifier: Apache-2.0
"""Episodes of random calls: after each one contract and model must agree on success, reason, result and state.

Everything follows from one seed. The actors are owners with operators, buyers, a thief who holds a stolen operator key,
an admin, an arbiter, and strangers; the token is switched to misbehave now and then.
"""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boa
from boa.contracts.vyper.vyper_contract import VyperContract

from tests.unit import reference

from . import model as spec
from .books import Journal
from .bundles import Bundle
from .chain import CONTRACTS, Deployed, load
from .model import BASIC, DAY, EMPTY, EXACT, ZERO, Refused, Struct
from .quick import quicken

USD = 10**6
FEE_BPS = 250
ANSWER_FEE = 50_000
WEALTH = 100_000 * USD
CHAIN_ID = 1
FINAL = (spec.SETTLED, spec.CANCELLED, spec.DECLINED, spec.EXPIRED, spec.CONVICTED)
# The arrows of the state diagram.
STEPS = {
    "requests": {(spec.NONE, spec.OPEN), (spec.OPEN, spec.ACTIVE), (spec.OPEN, spec.CANCELLED)},
    "jobs": {
        (spec.NONE, spec.ACTIVE),
        (spec.ACTIVE, spec.COMMITTED),
        (spec.ACTIVE, spec.DECLINED),
        (spec.ACTIVE, spec.EXPIRED),
        (spec.COMMITTED, spec.SETTLED),
        (spec.COMMITTED, spec.DISPUTED),
        (spec.DISPUTED, spec.COMMITTED),
        (spec.DISPUTED, spec.CONVICTED),
        (spec.DISPUTED, spec.EXPIRED),
        (spec.DISPUTED, spec.SETTLED),
    },
}


class Mismatch(AssertionError):
    """Contract and model disagree."""


@dataclass
class Tally:
    """What the calls came to."""

    calls: Counter[str] = field(default_factory=Counter)
    succeeded: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    full_checks: int = 0
    episodes: int = 0
    jobs: int = 0
    paid: int = 0
    slashed: int = 0

    def add(self, other: Tally) -> None:
        """Takes in another's figures."""
        self.calls.update(other.calls)
        self.succeeded.update(other.succeeded)
        self.refused.update(other.refused)
        for name in ("full_checks", "episodes", "jobs", "paid", "slashed"):
            setattr(self, name, getattr(self, name) + getattr(other, name))


@dataclass
class Made:
    """A job that was made, what was committed to, and the bundle behind it."""

    id: bytes
    terms: Struct
    commitment: Struct | None = None
    bundle: Bundle | None = None


class World:
    """The contracts with their actors, deployed once; each episode starts from here."""

    def __init__(self, altered: Mapping[str, Path] | None = None, *, quick: bool = True) -> None:
        """`altered` names contracts that are taken from another copy of contracts/."""
        self.altered = altered or {}
        boa.env.evm.patch.chain_id = CHAIN_ID
        people = ["admin", "heir", "owner1", "owner2", "owner3", "operator1", "operator2", "operator3"]
        people += ["buyer1", "buyer2", "buyer3", "thief", "keeper"]
        self.people = {name: str(boa.env.generate_address(name)) for name in people}
        boa.env.eoa = self.people["admin"]
        self.token = Deployed(self._load("mocks/MisbehavingToken"))
        self.staking = Deployed(self._load("ProviderStaking", self.token.address))
        self.escrow = Deployed(self._load("JobEscrow", self.token.address, self.staking.address, FEE_BPS))
        self.demands = Deployed(self._load("DataDemands", self.escrow.address, ANSWER_FEE))
        self.locker = Deployed(self._load("mocks/MockLocker", self.staking.address))
        # A contract without functions, at which calls as an arbiter come from.
        self.arbiter = str(self._load("mocks/SilentToken").address)
        self.names = {address: name for name, address in self.people.items()}
        self.wealth = dict.fromkeys(self.names, WEALTH)
        # One provider and one buyer for sums near the contracts' bounds.
        self.wealth |= {self.people["owner3"]: 2**87, self.people["buyer3"]: 2**127 + 2**126}
        for person, wealth in self.wealth.items():
            self.token.functions["mint"](person, person, wealth)
            for spender in (self.staking, self.escrow, self.demands):
                self.token.functions["approve"](person, spender.address, 2**256 - 1)
        named = {"token": self.token, "staking": self.staking, "escrow": self.escrow, "demands": self.demands}
        self.names |= {item.address: name for name, item in (named | {"locker": self.locker}).items()}
        self.names |= {self.arbiter: "arbiter", ZERO: "0x0"}
        if quick:
            quicken()
        self.started = boa.env.evm.patch.timestamp
        self.started_block = boa.env.evm.patch.block_number

    def _load(self, name: str, *args: Any) -> VyperContract:
        return load(self.altered.get(name, CONTRACTS), name, *args)


class Episode:
    """One run of calls from the world's beginning."""

    def __init__(self, world: World, seed: int, tally: Tally) -> None:
        self.world, self.tally = world, tally
        self.random = random.Random(seed)  # noqa: S311 - reproducible on purpose
        self.history: deque[tuple[int, str, str, Any]] = deque(maxlen=30)
        self.now, self.block = world.started, world.started_block
        self.journal = Journal()
        self.token = spec.Token(self.journal)
        self.staking = spec.Staking(self.journal, self.token, world.staking.address)
        self.escrow = spec.Escrow(self.journal, self.token, self.staking, world.escrow.address, CHAIN_ID)
        self.demands = spec.Demands(self.journal, self.escrow, world.demands.address, ANSWER_FEE)
        contracts = {world.token, world.staking, world.escrow, world.demands, world.locker}
        self.staking.contracts |= {item.address for item in contracts} | {world.arbiter}
        for person, wealth in world.wealth.items():
            self.token.balances[person] = wealth
        for name, value in {"owner": world.people["admin"], "pending": ZERO, "fee_bps": FEE_BPS, "paused": 0}.items():
            self.escrow.config[name] = value
        self.journal.clear()
        self.offers: list[Struct] = []
        self.requests: list[Struct] = []
        self.jobs: list[Made] = []
        self.targets = {
            "token": (world.token, self.token),
            "staking": (world.staking, self.staking),
            "escrow": (world.escrow, self.escrow),
            "demands": (world.demands, self.demands),
        }
        self.terms: dict[bytes, Struct] = {}
        self.ended: set[bytes] = set()
        self.donated = {world.staking.address: 0, world.escrow.address: 0, world.demands.address: 0}
        self.salt = 0

    # The two sides of a call.

    def call(self, target: str, name: str, sender: str, *args: Any) -> tuple[bool, Any]:
        """Makes a call on both sides; whether it succeeded, and what it returned or why it was refused."""
        chain, model = self.targets[target]
        self.note(f"{target}.{name}", sender, args)
        outcome = self._both(
            f"{target}.{name}",
            lambda: chain.functions[name](sender, *args),
            lambda: getattr(model, name)(sender, *args),
        )
        if outcome[0] and name in ("withdraw", "collect_fees") and args[1] in self.donated:
            sent = args[0] if name == "withdraw" else outcome[1]
            self.donated[args[1]] += sent - sent * self.token.fee_bps // 10_000
        return outcome

    def locker_call(self, name: str, *args: Any) -> tuple[bool, Any]:
        """A call by a locker that is no escrow."""
        locker = self.world.locker
        self.note(f"locker.{name}", locker.address, args)
        return self._both(
            f"staking.{name}",
            lambda: locker.functions[name](self.world.people["thief"], *args),
            lambda: getattr(self.staking, name)(locker.address, *args),
        )

    def _both(self, label: str, chain: Callable[[], Any], model: Callable[[], Any]) -> tuple[bool, Any]:
        found = _outcome(chain)
        expected = _outcome(model)
        touched = self.journal.touched()
        if expected[0]:
            self.check_paid_once(label)
        else:
            self.journal.roll_back()
        self.journal.clear()
        if found != expected:
            raise Mismatch(f"{label}: contract {found}, model {expected}")
        for book, key in touched:
            self.compare(book, key)
        self.tally.calls[label] += 1
        if found[0]:
            self.tally.succeeded[label] += 1
        else:
            self.tally.refused[f"{label}: {found[1]}"] += 1
        return found

    def check_paid_once(self, label: str) -> None:
        """Each job and request moves along the specification's arrows only, and what leaves it is what was in it."""
        before = {(book.name, key): value for book, key, value in reversed(self.journal.entries)}
        freed = paid = 0
        for (name, key), old in before.items():
            if name in ("jobs", "requests"):
                new = (self.escrow.jobs if name == "jobs" else self.escrow.requests)[key].status
                if old.status != new:
                    if (old.status, new) not in STEPS[name]:
                        raise Mismatch(f"{label}: {name} {key!r} went from {old.status} to {new}")
                    if name == "jobs" and new in FINAL:
                        freed += spec.escrowed(self.terms[key])
                        paid += 1
                        if key in self.ended:
                            raise Mismatch(f"{label}: {key!r} ended twice")
                        self.ended.add(key)
        if paid:
            gained = sum(self.escrow.balances[key] - old for (name, key), old in before.items() if name == "balances")
            gained += sum(self.escrow.fees[key] - old for (name, key), old in before.items() if name == "fees")
            shares = sum(self.staking.owed[key] - old for (name, key), old in before.items() if name == "owed")
            if gained != freed + shares:
                raise Mismatch(f"{label}: {gained} paid out of {freed} and {shares} of collateral")

    def note(self, label: str, sender: str, args: Any) -> None:
        """Keeps a call for the report of a failure."""
        self.history.append((self.now - self.world.started, label, sender, args))

    def last_calls(self) -> str:
        """The last calls in words, with names for addresses."""
        return "\n  ".join(
            f"t={moment} {label} by {self._words(sender)}: {self._words(args)}"
            for moment, label, sender, args in self.history
        )

    def _words(self, value: Any) -> str:
        if isinstance(value, dict):
            return "{" + ", ".join(f"{name}={self._words(entry)}" for name, entry in value.items()) + "}"
        if isinstance(value, tuple | list):
            return "(" + ", ".join(map(self._words, value)) + ")"
        if isinstance(value, bytes):
            return "0x" + (
                value.strip(b"\0").hex() if len(value) <= 32 else f"{value[:4].hex()}… of {len(value)} bytes"
            )
        return self.world.names.get(value, str(value)) if isinstance(value, str) else str(value)

    def travel(self, seconds: int) -> None:
        """Lets time pass."""
        self.now += seconds
        self.block += max(1, min(seconds // 12, 2**20))
        self.sync_clock()

    def sync_clock(self) -> None:
        """Both sides see the same time and block."""
        boa.env.evm.patch.timestamp = self.now
        boa.env.evm.patch.block_number = self.block
        self.escrow.now, self.escrow.block = self.now, self.block

    # Comparison of state.

    def check_all(self) -> None:
        """Every entry of every book, and the invariants."""
        books = [
            *(self.token.balances, self.staking.operators, self.staking.free, self.staking.allowances),
            *(self.staking.owed, self.staking.burned, self.escrow.balances, self.escrow.fees, self.escrow.declines),
            *(self.escrow.arbiters, self.escrow.offers, self.escrow.requests, self.escrow.jobs, self.escrow.config),
            *(self.demands.claimable, self.demands.lanes),
        ]
        for book in books:
            for key in book.values:
                self.compare(book.name, key)
        self.tally.full_checks += 1
        self.check_invariants()

    def compare(self, book: str, key: Any) -> None:
        """One entry of the model with the contract's storage."""
        found, expected = self._pair(book, key)
        if found != expected:
            raise Mismatch(f"{book}[{key!r}]: contract {found}, model {expected}")

    def _pair(self, book: str, key: Any) -> tuple[Any, Any]:  # noqa: PLR0911, PLR0912 - one line a book
        token, staking, escrow, demands = (self.targets[name][0] for name in ("token", "staking", "escrow", "demands"))
        if book == "token":
            return token.slot("balanceOf", key), self.token.balances[key]
        if book == "operators":
            return staking.slot("_operators", key), int(self.staking.operators[key], 16)
        if book == "free":
            return staking.slot("free_stake_of", key), self.staking.free[key]
        if book == "allowances":
            kept = self.staking.allowances[key]
            return staking.slot("_allowances", *key), kept.total | kept.locked << 85 | kept.per_job << 170
        if book in ("owed", "burned"):
            return staking.slot("_slashed", key), self.staking.owed[key] | self.staking.burned[key] << 128
        if book in ("balances", "fees"):
            return escrow.slot("_accounts", key), self.escrow.balances[key] | self.escrow.fees[key] << 128
        if book == "declines":
            return escrow.slot("declines", key), self.escrow.declines[key]
        if book == "arbiters":
            said = self.escrow.arbiters[key]
            return escrow.slot("_arbiters", *key), said.epoch << 1 | int(said.approved)
        if book == "offers":
            place = self.escrow.offers[key]
            return escrow.slot("_states", key), int(place.is_open) << 255 | place.epoch << 128 | place.taken
        if book in ("jobs", "requests"):
            kept = (self.escrow.jobs if book == "jobs" else self.escrow.requests)[key]
            return escrow.slot(f"_{book}", key), kept.status | kept.block << 16 | kept.digest << 56
        if book == "config":
            config = self.escrow.config
            if key in ("owner", "pending"):
                return escrow.slot("owner" if key == "owner" else "pending_owner"), int(config[key], 16)
            return escrow.slot("_config"), config["fee_bps"] | config["paused"] << 16
        if book == "claimable":
            return demands.slot("claimable", key), self.demands.claimable[key]
        lanes = self.demands.lanes[key]
        found = [demands.slot("_open", key), *(demands.slot("_demands", key, lane) for lane in lanes)]
        mask = sum(1 << lane for lane in lanes)
        return found, [mask, *(answer_by << 64 | index for index, answer_by in lanes.values())]

    def check_invariants(self) -> None:
        """What must hold whatever was called. Sums come from the model, holdings from the chain."""
        held = {name: self.world.token.slot("balanceOf", self.targets[name][0].address) for name in self.targets}
        allowances = self.staking.allowances.values
        allocated = sum(kept.allocated for kept in allowances.values())
        if any(kept.locked > kept.allocated for kept in allowances.values()):
            raise Mismatch("more is locked than allocated")
        staked = self.staking.free.total() + allocated
        owed = staked + self.staking.owed.total() + self.staking.burned.total()
        if held["staking"] != owed + self.donated[self.staking.address]:
            raise Mismatch("the staking contract does not hold what it owes")
        live = [made for made in self.jobs if self.escrow.jobs[made.id].status not in FINAL]
        escrowed = sum(spec.escrowed(made.terms) for made in live) + sum(map(spec.escrowed, self.open_requests()))
        owed = self.escrow.balances.total() + self.escrow.fees.total() + escrowed
        if held["escrow"] + self.staking.owed[self.escrow.address] != owed + self.donated[self.escrow.address]:
            raise Mismatch("the escrow does not hold what it owes")
        locked = sum(kept.locked for key, kept in allowances.items() if key[1] == self.escrow.address)
        if locked != sum(made.terms["collateral"] for made in live):
            raise Mismatch("locks are not those of live jobs")
        waiting = sum(len(lanes) for lanes in self.demands.lanes.values.values())
        owed = self.demands.claimable.total() + waiting * ANSWER_FEE
        if held["demands"] != owed + self.donated[self.demands.address]:
            raise Mismatch("the demands contract does not hold what it owes")

    # The end of an episode.

    def wind_down(self) -> None:  # noqa: PLR0912 - one step a contract
        """Ends everything by what anyone may do, and pays everybody out: nothing may be left behind."""
        keeper = self.world.people["keeper"]
        self.heal_token()
        self.travel(400 * DAY)
        for request in self.requests:
            if self.escrow.requests[self.escrow.request_id(request)].status == spec.OPEN:
                self.must("escrow", "cancel_request", keeper, request)
        for made in self.jobs:
            status = self.escrow.jobs[made.id].status
            if status == spec.ACTIVE:
                self.must("escrow", "expire", keeper, made.terms)
            elif status in (spec.COMMITTED, spec.DISPUTED):
                self.must("escrow", "settle", keeper, made.terms, made.commitment)
            if self.demands.lanes[made.id]:
                self.must("demands", "reclaim", keeper, made.terms)
        for account in list(self.demands.claimable.values):
            if self.demands.claimable[account]:
                self.must("demands", "collect", keeper, account)
        for owner, locker in list(self.staking.allowances.values):
            locked = self.staking.allowances[owner, locker].locked
            if locked and locker == self.escrow.address:
                raise Mismatch("a lock outlives its jobs")
            if locked:
                self.locker_call("unlock", owner, locked)
            self.must("staking", "allow", owner, locker, 0, 0)
        fees = [account for account in self.escrow.fees.values if self.escrow.fees[account]]
        if fees:
            self.must("escrow", "collect_fees", self.escrow.config["owner"], fees, keeper)
        for account in list(self.escrow.balances.values):
            if self.escrow.balances[account]:
                self.must("escrow", "withdraw", account, self.escrow.balances[account], keeper)
        for owner in list(self.staking.free.values):
            if self.staking.free[owner]:
                self.must("staking", "withdraw", owner, self.staking.free[owner], keeper)
        for locker in list(self.staking.owed.values):
            if self.staking.owed[locker]:
                self.must("staking", "collect", locker)
        self.check_all()
        # Every token but burned and donated ones has left. What reached the escrow by the last
        # collection was owed to it and had been paid from what was donated.
        for item in (self.staking, self.escrow, self.demands):
            left = self.donated[item.address]
            left += self.staking.burned.total() if item is self.staking else 0
            if self.world.token.slot("balanceOf", item.address) != left:
                raise Mismatch("something is left that nobody can take out")
        self.tally.jobs += len(self.jobs)
        self.tally.slashed += sum(self.escrow.jobs[made.id].status in (64, 256) for made in self.jobs)
        self.tally.paid += sum(self.escrow.jobs[made.id].status == spec.SETTLED for made in self.jobs)
        self.tally.episodes += 1

    def must(self, target: str, name: str, sender: str, *args: Any) -> None:
        """A call that has to go through."""
        ok, reason = self.call(target, name, sender, *args)
        if not ok:
            raise Mismatch(f"no way out: {target}.{name} was refused: {reason}")

    def heal_token(self) -> None:
        """The token behaves again."""
        self.set_token("set_fee_bps", 0)
        self.set_token("set_returns_false", False)
        for account in sorted(self.token.blocked):
            self.set_token("set_blocked", account, False)

    def set_token(self, name: str, *args: Any) -> None:
        """Switches the token's behaviour on both sides."""
        self.note(f"token.{name}", ZERO, args)
        self.world.token.functions[name](self.world.people["thief"], *args)
        if name == "set_fee_bps":
            self.token.fee_bps = args[0]
        elif name == "set_returns_false":
            self.token.returns_false = args[0]
        else:
            (self.token.blocked.add if args[1] else self.token.blocked.discard)(args[0])

    # Keeping track of what the calls made.

    def made_job(self, terms: Struct, job: bytes) -> None:
        """Notes a job; its terms are those that the specification gives it."""
        if reference.job_id(CHAIN_ID, self.escrow.address, terms) != job:
            raise Mismatch(f"a job of other terms than {terms}")
        self.jobs.append(Made(job, terms))
        self.terms[job] = terms

    def open_requests(self) -> list[Struct]:
        """Requests that wait for a provider."""
        states = self.escrow.requests
        return [entry for entry in self.requests if states[self.escrow.request_id(entry)].status == spec.OPEN]

    def donate(self, sender: str, target: str, amount: int) -> None:
        """Sends tokens to a contract that did not ask for them."""
        self.note("token.transfer", sender, (target, amount))
        found = _outcome(lambda: self.world.token.functions["transfer"](sender, target, amount))
        expected = _outcome(lambda: self.token.move(sender, target, amount))
        if found != expected:
            raise Mismatch(f"token.transfer: contract {found}, model {expected}")
        if expected == (True, True):
            self.donated[target] += amount - amount * self.token.fee_bps // 10_000
        self.journal.clear()

    def next_salt(self) -> bytes:
        """A word that was not used in this episode."""
        self.salt += 1
        return self.salt.to_bytes(32, "big")


def _outcome(call: Callable[[], Any]) -> tuple[bool, Any]:
    try:
        return True, call()
    except Refused as refused:
        return False, refused.reason


def new_offer(episode: Episode, owner: str) -> Struct:
    """A plausible offer."""
    pick = episode.random.choice
    tiers = pick([BASIC, BASIC, BASIC, BASIC | EXACT, EXACT])
    arbiter = episode.world.arbiter if tiers & EXACT else pick([ZERO, ZERO, episode.world.demands.address])
    longest = pick([60, 600, 3600, 86_400])
    return {
        "provider": owner,
        "resource_class": b"cpu-sim".ljust(32, b"\0"),
        "count": pick([1, 2, 20, 100]),
        "tiers": tiers,
        "price_per_second": pick([1, 7, 1_000, 33_333]),
        "shortest_run": pick([0, 1, 60]),
        "longest_run": longest,
        "acknowledge_window": pick([60, 900, 900, 86_400]),
        "delivery_margin": pick([0, 1, 600]),
        "challenge_window": pick([1, 3_600, 7_200, 86_400]) if arbiter != ZERO else pick([0, 1, 3_600]),
        "failure_cap_bps": pick([0, 1, 1_000, 10_000]),
        "max_fee_bps": pick([500, 500, 500, 500, FEE_BPS, FEE_BPS - 1]),
        "collateral": pick([1, 7, 50 * USD, 333 * USD + 1]),
        "expiry": episode.now + pick([1, 30 * DAY, 300 * DAY, 300 * DAY]),
        "arbiter": arbiter,
    }


def new_order(episode: Episode, offer: Struct) -> Struct:
    """A plausible order on an offer."""
    pick = episode.random.choice
    tiers = [tier for tier in (BASIC, EXACT) if tier & offer["tiers"]]
    tier = pick(tiers or [BASIC])
    return {
        "spec_hash": b"\x22" * 32,
        "tier": tier,
        "tasks": 1 if tier == EXACT else pick([1, 1, 3, 100]),
        "longest_run": pick([offer["longest_run"], max(1, offer["shortest_run"])]),
        "exact_terms": b"\x33" * 32 if tier == EXACT else EMPTY,
        "audit_fee": 0,
        "audit_seal": EMPTY,
        "group": pick([EMPTY, b"\x44" * 32]),
        "salt": episode.next_salt(),
    }


def new_request(episode: Episode, buyer: str) -> Struct:
    """A plausible request."""
    pick = episode.random.choice
    tier = pick([BASIC, BASIC, EXACT])
    arbiter = episode.world.arbiter if tier == EXACT else pick([ZERO, ZERO, episode.world.demands.address])
    by_time = pick([True, False])
    owners = [value for name, value in episode.world.people.items() if name.startswith("owner")]
    return {
        "buyer": buyer,
        "provider": pick([ZERO, ZERO, pick(owners)]),
        "resource_class": b"cpu-sim".ljust(32, b"\0"),
        "spec_hash": b"\x22" * 32,
        "tier": tier,
        "tasks": 1 if tier == EXACT else pick([1, 3, 10, 100]),
        "price": 0 if by_time else pick([1, 99, 4 * USD]),
        "price_per_second": pick([1, 777]) if by_time else 0,
        "longest_run": pick([60, 3_600]),
        "acknowledge_window": pick([60, 900]),
        "delivery_margin": pick([0, 600]),
        "challenge_window": pick([1, 3_600]) if arbiter != ZERO else pick([0, 3_600]),
        "failure_cap_bps": pick([0, 1_000, 10_000]),
        "collateral": pick([1, 50 * USD]),
        "expiry": episode.now + pick([1, 600, 5 * DAY, 60 * DAY, 90 * DAY]),
        "arbiter": arbiter,
        "exact_terms": b"\x33" * 32 if tier == EXACT else EMPTY,
        "audit_fee": 0,
        "audit_seal": EMPTY,
        "group": EMPTY,
        "salt": episode.next_salt(),
    }
