# SPDX-License-Identifier: Apache-2.0
"""Games on titanoboa's EVM, with what they owe kept beside them in Python: every step is made in both and compared."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import boa
from eth_abi.abi import encode
from eth_utils.crypto import keccak

from gpubond.disputes import rules
from gpubond.disputes.calldata import call
from gpubond.disputes.moves import Move
from gpubond.disputes.position import Position, Side, Verdict
from gpubond.disputes.structs import Origin, Place, Registered, Way, run_of
from gpubond.disputes.terms import Terms
from tests.disputes.play import Honest
from tests.disputes.tasks import single_task
from tests.disputes.test_soundness import every_pick
from tests.stateful.chain import CONTRACTS, Deployed, load
from tests.stateful.model import Refused as Reverted
from tests.unit import reference

__all__ = ["Reverted"]

CHAIN_ID = 31337
USD = 10**6
DAY = 86_400
GWEI = 10**9
ETHER = 10**18
CLOCK, INCREMENT, MAX_ANSWER = 2 * DAY, 1_800, 3_600
TIMEOUT = 90 * DAY
WINDOW = 7 * DAY
RATE = 2_000 * USD
COLLATERAL, MOST_COLLATERAL = 20_000 * USD, 10**6 * USD
WEALTH = 10**9 * USD
GAME_GAS, MOVE_GAS = 1_200_000, 120_000
OPENING = 3  # moves that an opening counts as
PEOPLE = ("owner", "operator", "buyer", "rival", "friend", "liar", "thief", "keeper")
OVER = (1).to_bytes(32, "big")
EMPTY = bytes(32)
WRONG = b"\xbb" * 32
SETTLED, COMMITTED, DISPUTED, CONVICTED = (
    reference.SETTLED,
    reference.COMMITTED,
    reference.DISPUTED,
    reference.CONVICTED,
)


def up(amount: int, by: int) -> int:
    return -(-amount // by)


def cost(gas: int, price: int) -> int:
    """Base units of the token for so much gas, as bonds reckon."""
    return up(gas * price * RATE, ETHER)


def minimum_collateral() -> int:
    return up(65 * cost(GAME_GAS, GWEI) * 10_000, 1_500)


def bond(collateral: int, highest: int, price: int, games: int) -> int:
    """Of a game that opens while `games` are open on its job."""
    return max(cost(GAME_GAS * 3 // 2, price), (collateral + highest) * 200 // 10_000) * (8 + games) // 8


def lost_shares(of: int, price: int) -> tuple[int, int]:
    """What a lost bond gives the provider, and what burns."""
    gas = min(of, cost(GAME_GAS, price))
    to_provider = gas + (of - gas) // 2
    return to_provider, of - to_provider


@dataclass
class Job:
    """A committed job and what is known of its games."""

    id: bytes
    terms: dict[str, Any]
    commitment: dict[str, Any]
    exact: Terms
    open: int = 0
    opened: int = 0
    convicted: bool = False
    told: bool = False
    refunded: int = 0
    share: int = 0
    paid: int = 0
    earliest: tuple[int, str] | None = None

    @property
    def highest(self) -> int:
        return reference.escrowed(self.terms)

    @property
    def window_end(self) -> int:
        return int(self.commitment["committed_at"] + self.terms["challenge_window"])


@dataclass
class Game:
    """A game. `position` is that of the rules, `registered` what the contract adds."""

    job: Job
    registered: Registered
    position: Position
    over: bool = False

    @property
    def id(self) -> bytes:
        return self.registered.game

    @property
    def bond(self) -> int:
        return self.registered.origin.bond

    @property
    def place(self) -> Place:
        return self.registered.place(self.position)

    @property
    def way(self) -> Way:
        return self.registered.way(self.position)

    @property
    def side(self) -> int:
        return 0 if self.position.turn is Side.ASSERTER else 1

    @property
    def deadline(self) -> int:
        """The first second that is too late."""
        clock = self.registered.clock
        left = clock >> 32 * self.side & 2**32 - 1
        return (clock >> 64 & 2**40 - 1) + left + (clock >> 104 & 2**32 - 1)

    @property
    def moves(self) -> int:
        return self.registered.clock >> 136

    @property
    def shown(self) -> tuple[bytes, Place, Way, Origin]:
        return self.id, self.place, self.way, self.registered.origin


@dataclass
class Table:
    """Contracts and people, and what is owed to whom."""

    people: dict[str, str]
    token: Deployed
    staking: Deployed
    escrow: Deployed
    judge: str
    examiner: str
    game: Deployed
    honest: Honest
    balances: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    burns: list[int] = field(default_factory=list)
    games: list[Game] = field(default_factory=list)
    jobs: list[Job] = field(default_factory=list)
    _salts: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    @classmethod
    def deploy(cls, token: str = "mocks/PlainToken") -> Table:  # noqa: S107
        boa.env.evm.patch.chain_id = CHAIN_ID
        people = {name: str(boa.env.generate_address(name)) for name in PEOPLE}
        boa.env.eoa = boa.env.generate_address("admin")
        coin = Deployed(load(CONTRACTS, token, *((6,) if token == "mocks/PlainToken" else ())))
        staking = Deployed(load(CONTRACTS, "ProviderStaking", coin.address))
        escrow = Deployed(load(CONTRACTS, "JobEscrow", coin.address, staking.address, 0))
        judge = load(CONTRACTS, "Judge").address
        examiner = load(CONTRACTS, "Examiner", judge).address
        numbers = (CLOCK, INCREMENT, MAX_ANSWER, GWEI, RATE, MOST_COLLATERAL)
        game = Deployed(load(CONTRACTS, "DisputeGame", escrow.address, examiner, *numbers))
        table = cls(people, coin, staking, escrow, judge, examiner, game, Honest.of(single_task()))
        table._prepare()
        return table

    def _prepare(self) -> None:
        owner, operator, buyer = (self.people[name] for name in ("owner", "operator", "buyer"))
        for person in self.people.values():
            self.call("token", "mint", person, person, WEALTH)
            for spender in (self.staking, self.escrow, self.game):
                self.call("token", "approve", person, spender.address, 2**255)
        self.call("staking", "register", owner, operator, "https://provider.example")
        self.call("staking", "stake", owner, WEALTH // 2, owner)
        self.call("staking", "allow", owner, self.escrow.address, WEALTH // 2, WEALTH // 2)
        self.call("escrow", "approve_arbiter", owner, self.game.address, True)
        self.call("escrow", "deposit", buyer, WEALTH // 2, buyer)

    @property
    def burned(self) -> int:
        return sum(self.burns)

    # Calls.

    def call(self, contract: str, name: str, sender: str, *args: Any) -> Any:
        """As `sender`, by name or address. Raises Reverted with the reason."""
        found: Deployed = getattr(self, contract)
        return found.functions[name](self.people.get(sender, sender), *args)

    def call_data(self, name: str, *args: Any) -> bytes:
        """Of a call of the game."""
        return self.game.functions[name].call_data(*args)

    def refused(self, reason: str, name: str, sender: str, *args: Any) -> None:
        """A call of the game that must fail so."""
        try:
            self.call("game", name, sender, *args)
        except Reverted as error:
            assert str(error) == reason, f"{name}: {error}"
            return
        raise AssertionError(f"{name} was taken: {reason}")

    @property
    def now(self) -> int:
        return int(boa.env.evm.patch.timestamp)

    def at(self, moment: int) -> None:
        """Makes what follows happen then (Unix seconds)."""
        boa.env.evm.patch.timestamp = moment

    # Jobs.

    def job(self, root: bytes = WRONG, **changes: Any) -> Job:
        """A committed job. `changes` are of offer or order, `exact` of the exact terms."""
        now = self.now
        exact: Terms = changes.pop("exact", self.honest.terms)
        offer = {
            "provider": self.people["owner"],
            "resource_class": b"cpu-sim".ljust(32, b"\0"),
            "count": 1,
            "tiers": reference.EXACT | reference.BASIC,
            "price_per_second": 100,
            "shortest_run": 60,
            "longest_run": 3_600,
            "acknowledge_window": 900,
            "delivery_margin": 600,
            "challenge_window": WINDOW,
            "failure_cap_bps": 0,
            "max_fee_bps": 500,
            "collateral": COLLATERAL,
            "expiry": now + DAY + next(self._salts),
            "arbiter": self.game.address,
        }
        order = {
            "spec_hash": b"\x22" * 32,
            "tier": reference.EXACT,
            "tasks": 1,
            "longest_run": 3_600,
            "exact_terms": exact.exact_terms,
            "audit_fee": 0,
            "audit_seal": EMPTY,
            "group": EMPTY,
            "salt": next(self._salts).to_bytes(32, "big"),
        }
        offer |= {key: changes[key] for key in changes if key in offer}
        order |= {key: changes[key] for key in changes if key in order}
        self.call("escrow", "post_offer", "operator", offer)
        self.call("escrow", "hire", "buyer", offer, order)
        offer_id = reference.offer_id(CHAIN_ID, self.escrow.address, offer)
        terms = reference.terms_of(
            offer, order, offer_id=offer_id, buyer=self.people["buyer"], fee_bps=0, matched_at=now
        )
        chunks = 0 if order["tier"] == reference.EXACT else 1
        self.call("escrow", "commit", "operator", terms, root, chunks, 0, 60, 1)
        pay = reference.pay(terms, now=now, seconds_used=60)
        commitment = {"result_root": root, "chunks": chunks, "pay": pay, "committed_at": now}
        job = Job(reference.job_id(CHAIN_ID, self.escrow.address, terms), terms, commitment, exact)
        self.jobs.append(job)
        return job

    def status(self, job: Job) -> int:
        return int(self.call("escrow", "job_slot", "keeper", job.id) & 0xFFFF)

    # Games.

    def arguments(self, job: Job, **changes: Any) -> list[Any]:
        """Those of `open`, some changed."""
        known = {
            "terms": job.terms,
            "commitment": job.commitment,
            "run": run_of(job.exact),
            "answer": job.exact.answer_seconds,
            "salt": next(self._salts).to_bytes(32, "big"),
            "max_bond": 2**255,
        }
        return list((known | changes).values())

    def open(self, job: Job, challenger: str = "rival", price: int = GWEI, **changes: Any) -> Game:
        arguments = self.arguments(job, **changes)
        who = self.people.get(challenger, challenger)
        before = self.holds(who)
        game = self.call("game", "open", who, *arguments)
        job_id = [CHAIN_ID, self.game.address, job.id, who, arguments[4]]
        assert game == keccak(encode(["uint256", "address", "bytes32", "address", "bytes32"], job_id))
        paid = bond(job.terms["collateral"], job.highest, price, job.open)
        assert before - self.holds(who) == paid
        said = job.exact.statement
        origin = Origin(job.id, said.program, said.initial, said.data, paid, price, job.opened)
        increment = INCREMENT + min(job.exact.answer_seconds * (job.open + 1), MAX_ANSWER)
        clock = CLOCK | CLOCK << 32 | self.now << 64 | increment << 104 | OPENING << 136
        registered = Registered(game, clock, who, self.people["owner"], origin)
        found = Game(job, registered, rules.begin(job.exact, job.commitment["result_root"]))
        job.open += 1
        job.opened += 1
        self.games.append(found)
        self.check_position(found)
        assert self.status(job) == DISPUTED
        return found

    def stored(self, game: Game) -> bytes:
        return bytes(self.call("game", "position", "keeper", game.id))

    def check_position(self, game: Game) -> None:
        assert self.stored(game) == (OVER if game.over else game.place.hash())

    def move(self, game: Game, move: Move, sender: str = "") -> None:
        """A move of whose turn it is."""
        side = game.side
        after = rules.apply(game.position, move)
        function, arguments = call(game.registered, game.position, move)
        self.call("game", function, sender or self.mover(game), *arguments)
        if isinstance(after, Verdict):
            self._ended(game, after.convicted)
            return
        left = game.deadline - self.now
        clock = game.registered.clock & ~(2**32 - 1 << 32 * side | 2**40 - 1 << 64)
        clock |= left << 32 * side | self.now << 64
        game.registered = game.registered._replace(clock=clock + (side << 136))
        game.position = after
        self.check_position(game)

    def mover(self, game: Game) -> str:
        return "operator" if game.side == 0 else game.registered.challenger

    def show(self, game: Game) -> None:
        """What an honest asserter shows."""
        self.move(game, self.honest.asserter.show(game.position))

    def lose(self, game: Game) -> None:
        """The challenger says of right elements that they are wrong, to the end."""
        while not game.over:
            if game.side == 0:
                self.show(game)
            else:
                self.move(game, next(iter(every_pick(self.honest, game.position))))

    def time_out(self, game: Game, sender: str = "keeper") -> None:
        """From the clock's end on, by anyone."""
        side = game.side
        self.call("game", "time_out", sender, *game.shown)
        self._ended(game, side == 0)

    def _ended(self, game: Game, convicted: bool) -> None:
        job = game.job
        assert not job.convicted
        if convicted:
            job.convicted = True
        else:
            game.over = True
            job.open -= 1
            to_provider, gone = lost_shares(game.bond, game.registered.origin.price)
            self.balances[self.people["owner"]] += to_provider
            self.burns.append(gone)
        self.check_position(game)

    def convict(self, job: Job, sender: str = "keeper") -> None:
        self.call("game", "convict", sender, job.terms, job.commitment)
        job.told, job.refunded = True, job.open
        job.share = job.terms["collateral"] * 1_500 // 10_000
        assert self.status(job) == CONVICTED

    def release(self, job: Job, sender: str = "keeper") -> None:
        self.call("game", "release", sender, job.terms)
        assert self.status(job) == COMMITTED

    def claim(self, game: Game, sender: str = "keeper") -> None:
        job, origin = game.job, game.registered.origin
        self.call("game", "claim", sender, *game.shown)
        game.over = True
        job.open -= 1
        who = game.registered.challenger
        self.balances[who] += game.bond
        if job.told:
            refund = min(cost(MOVE_GAS * game.moves, origin.price), job.share // job.refunded)
            self.balances[who] += refund
            job.paid += refund
            job.earliest = min(job.earliest or (origin.number, who), (origin.number, who))
            if job.open == 0:
                self.balances[job.earliest[1]] += job.share - job.paid
                job.paid = job.share
        self.check_position(game)

    def withdraw(self, account: str, amount: int, receiver: str = "") -> None:
        who = self.people.get(account, account)
        to = self.people.get(receiver, receiver) or who
        before = self.holds(to)
        self.call("game", "withdraw", who, amount, to)
        self.balances[who] -= amount
        assert self.holds(to) - before == amount

    # Books.

    def holds(self, account: str) -> int:
        return int(self.call("token", "balanceOf", "keeper", account))

    def balance(self, account: str) -> int:
        return int(self.call("game", "balance_of", "keeper", self.people.get(account, account)))

    def check(self) -> None:
        """Contract and books agree, and all that came in is owed, burned or gone out."""
        for person in self.people.values():
            assert self.balance(person) == self.balances[person], person
        assert self.call("game", "burned", "keeper") == self.burned
        bonds = sum(game.bond for game in self.games if not game.over)
        rests = sum(job.share - job.paid for job in self.jobs)
        has = self.holds(self.game.address) + self.call("escrow", "balance_of", "keeper", self.game.address)
        owed = sum(self.balances.values()) + self.burned + bonds + rests
        assert has == owed, (has, owed, bonds, rests, self.burned)
        for job in self.jobs:
            kept = (job.open, job.opened, job.convicted, job.told, job.refunded, job.share)
            assert self.call("game", "games_of", "keeper", job.id) == kept
        for game in self.games:
            self.check_position(game)
