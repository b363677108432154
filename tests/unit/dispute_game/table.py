# SPDX-License-Identifier: Apache-2.0
"""Games on titanoboa's EVM, with what they owe kept beside them in Python: every step is made in both and compared."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import boa
from eth_abi.abi import encode
from eth_utils.crypto import keccak

from gpubond.disputes import rules
from gpubond.disputes.calldata import call
from gpubond.disputes.execution import Execution
from gpubond.disputes.levels import Side
from gpubond.disputes.moves import Move
from gpubond.disputes.position import Position, Verdict
from gpubond.disputes.structs import Origin, Place, Registered, Way, hashes, joined, run_of
from gpubond.disputes.terms import Terms
from tests.disputes.contracts import (
    CHAIN_ID,
    CLOCK,
    COLLATERAL,
    DAY,
    GWEI,
    INCREMENT,
    MAX_ANSWER,
    MOST_COLLATERAL,
    OVER,
    RATE,
    Laid,
    Reverted,
)
from tests.disputes.play import Opens, Player
from tests.unit import reference

from .runs import USUAL, Runs, asserter, challenger

__all__ = ["CLOCK", "COLLATERAL", "MOST_COLLATERAL", "Reverted"]

ETHER = 10**18
TIMEOUT = 90 * DAY
GAME_GAS, MOVE_GAS = 1_200_000, 190_000
OPENING = 3  # moves that an opening counts as
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
    """A committed job and what is known of its games. said, theirs: what provider and challenger have computed."""

    id: bytes
    terms: dict[str, Any]
    commitment: dict[str, Any]
    exact: Terms
    said: Execution
    theirs: Execution
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
    """A game. `position` is that of the rules, `registered` what the contract adds. Who plays it can be changed."""

    job: Job
    registered: Registered
    position: Position
    asserter: Player
    challenger: Opens
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
    def next(self) -> Move:
        """What whose turn it is has to do by its own run."""
        player = self.asserter if self.side == 0 else self.challenger
        return player.move(self.position)

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
class Table(Laid):
    """Contracts and people, and what is owed to whom."""

    runs: Runs = field(default_factory=lambda: Runs.of(USUAL))
    balances: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    burns: list[int] = field(default_factory=list)
    games: list[Game] = field(default_factory=list)
    jobs: list[Job] = field(default_factory=list)

    @property
    def burned(self) -> int:
        return sum(self.burns)

    # Calls.

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

    def job(self, is_right: bool = False, **changes: Any) -> Job:
        """A committed job. `changes` are of offer or order; `runs`, else the table's; `exact` terms; or of `root`."""
        runs: Runs = changes.pop("runs", self.runs)
        said, theirs = runs.pair(is_right)
        exact: Terms = changes.pop("exact", runs.honest.terms)
        terms, commitment = self.committed(exact, changes.pop("root", said.run_root), **changes)
        job = Job(reference.job_id(CHAIN_ID, self.escrow.address, terms), terms, commitment, exact, said, theirs)
        self.jobs.append(job)
        return job

    def status(self, job: Job) -> int:
        return int(self.call("escrow", "job_slot", "keeper", job.id) & 0xFFFF)

    # Games.

    def arguments(self, job: Job, **changes: Any) -> list[Any]:
        """Those of `open`, some changed. `nodes` are a tuple, or bytes as they are handed over."""
        known = {
            "terms": job.terms,
            "commitment": job.commitment,
            "run": run_of(job.exact),
            "answer": job.exact.answer_seconds,
            "salt": self.salt(),
            "max_bond": 2**255,
            "nodes": challenger(job.theirs).opening(),
        }
        known |= changes
        if not isinstance(known["nodes"], bytes):
            known["nodes"] = joined(tuple(known["nodes"]))
        return list(known.values())

    def open(self, job: Job, by: str = "rival", price: int = GWEI, player: Opens | None = None, **changes: Any) -> Game:
        player = player or challenger(job.theirs)
        arguments = self.arguments(job, **({"nodes": player.opening()} | changes))
        who = self.people.get(by, by)
        before = self.holds(who)
        game = self.call("game", "open", who, *arguments)
        job_id = [CHAIN_ID, self.game.address, job.id, who, arguments[4]]
        assert game == keccak(encode(["uint256", "address", "bytes32", "address", "bytes32"], job_id))
        paid = bond(job.terms["collateral"], job.highest, price, job.open)
        assert before - self.holds(who) == paid
        said = job.exact.statement
        origin = Origin(job.id, said.program, said.initial, said.data, paid, price, job.opened)
        increment = INCREMENT + min(job.exact.answer_seconds * (job.open + 1), MAX_ANSWER)
        clock = self.clock | self.clock << 32 | self.now << 64 | increment << 104 | OPENING << 136
        registered = Registered(game, clock, who, self.people["owner"], origin)
        begins = rules.begin(job.exact, job.commitment["result_root"], hashes(arguments[6]))
        found = Game(job, registered, begins, asserter(job.said), player)
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

    def step(self, game: Game, sender: str = "") -> None:
        """What whose turn it is has to do by its own run."""
        self.move(game, game.next, sender)

    def lose(self, game: Game) -> None:
        """The challenger says of a right run that it is wrong, to the end."""
        while not game.over:
            assert not game.job.convicted
            self.step(game)

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
