# SPDX-License-Identifier: Apache-2.0
"""Whole disputes as random walks, in the contracts and in a model of them in Python: runs with every level, right and
wrong ones, several jobs and challengers, time that passes, moves that are allowed and moves that are not."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass
from random import Random

from gpubond.disputes import rules
from gpubond.disputes.calldata import call
from gpubond.disputes.levels import Level
from gpubond.disputes.moves import Move, ShowNodes
from gpubond.disputes.position import Nodes, Position, Verdict
from gpubond.disputes.showing import NothingWrong
from gpubond.disputes.structs import Registered
from gpubond.exact.refusal import Refused
from gpubond.exact.runner import Task
from tests.disputes.contracts import Reverted, unwritable
from tests.disputes.liar import edges
from tests.disputes.mutations import changed, writable
from tests.disputes.play import Honest, Opens
from tests.disputes.test_soundness import told
from tests.disputes.tricksters import Slanderer, Trickster
from tests.unit.dispute_game.episodes import Episode
from tests.unit.dispute_game.runs import Runs, challenger
from tests.unit.dispute_game.table import (
    COMMITTED,
    CONVICTED,
    DISPUTED,
    SETTLED,
    TIMEOUT,
    Game,
    Job,
    Table,
    lost_shares,
)

JOBS = 5  # that are not over, at once


@dataclass(frozen=True)
class Subject:
    """Two runs, and whether the provider has the right one."""

    runs: Runs
    is_right: bool


def subjects(tasks: list[Task], lies: int, chance: Random) -> list[Subject]:
    """Of each task so many lies at its edges, each of which its provider tells or who challenges it."""
    made: list[Subject] = []
    for task in tasks:
        honest = Honest.of(task)
        places = edges(task)
        wrong = (found for lie in chance.sample(places, len(places)) if (found := told(honest, lie)))
        for execution, _ in itertools.islice(wrong, lies):
            runs = Runs(honest, execution)
            made += [Subject(runs, True), Subject(runs, False)]
    return made


class Walk(Episode):
    """One walk. Every step is made in both, and what the model refuses the contracts must refuse."""

    def __init__(self, table: Table, subjects: list[Subject], seed: int) -> None:
        super().__init__(table, seed)
        self._subjects = subjects
        self._of: dict[bytes, Subject] = {}
        self._ended: list[Job] = []
        self._settled: list[Job] = []
        self._before: dict[bytes, list[tuple[Registered, Position, Move]]] = {}
        self._next: dict[bytes, tuple[bytes, Move | None]] = {}
        self._claimed: list[Game] = []
        self._paid_before = self._income()
        self._withdrawn = 0
        self.seen: Counter[str] = Counter()

    def begin(self) -> None:
        """All jobs are made on the way."""

    def walk(self, steps: int, every: int = 40) -> None:
        """So many steps, with a look at all books now and then."""
        often = [self.move] * 10 + [self.illegal] * 4 + [self.open] * 3
        once = [
            self.pass_time,
            self.pass_time,
            self.time_out,
            self.convict,
            self.claim,
            self.release,
            self.withdraw,
            self.settle,
        ]
        while not self.jobs:
            self.new_job()
        for at in range(steps):
            self.random.choice([*often, *once, self.new_job])()
            self.invariants()
            if at % every == every - 1:
                self.books()
        self.books()

    # Steps.

    def new_job(self) -> None:
        self._bury()
        if len(self.jobs) < JOBS:
            subject = self.random.choice(self._subjects)
            job = self.table.job(subject.is_right, runs=subject.runs)
            self._of[job.id] = subject
            self.jobs.append(job)

    def _bury(self) -> None:
        for job in list(self.jobs):
            if self.table.status(job) in (SETTLED, CONVICTED) and job.open == 0:
                self.jobs.remove(job)
                self._ended.append(job)

    def pass_time(self) -> None:
        """Mostly little of it, so that games go on; sometimes up to a limit, or a second before or after it."""
        choice = self.random.random()
        if choice < 0.7:
            self.table.at(self.table.now + self.random.choice([1, 60, 600]))
            return
        open_ = [game.deadline for game in self.table.games if not game.over and not game.job.told]
        ends = [job.window_end for job in self.jobs]
        moments = open_ if choice < 0.9 else ends if choice < 0.99 else [end + TIMEOUT for end in ends]
        ahead = [moment for moment in moments if moment >= self.table.now]
        if ahead:
            self.table.at(max(self.table.now, min(ahead) + self.random.choice([-1, 0, 1])))

    def some_game(self) -> Game | None:
        """Rather one that is being played than one that waits for a claim."""
        games = [game for game in self.table.games if not game.over]
        played = [game for game in games if not game.job.convicted]
        games = played if played and self.random.random() < 0.9 else games
        return self.random.choice(games) if games else None

    def accuser(self, job: Job) -> Opens:
        """With the other run, or one that says anything of it and of the provider's."""
        if self.random.random() < 0.5:
            return challenger(job.theirs)
        run = self.random.choice([job.said, job.theirs])
        return Slanderer(run, self.random.getrandbits(32))

    def open(self) -> None:
        """Some providers of a wrong run say anything that they are not bound to."""
        before = len(self.table.games)
        super().open()
        for game in self.table.games[before:]:
            if not self._of[game.job.id].is_right and self.random.random() < 0.5:
                game.asserter = Trickster(game.job.said, self.random.getrandbits(32))

    def move(self) -> None:
        game = self.some_game()
        move = self.proposed(game) if game is not None else None
        if game is not None and move is not None:
            self.attempt(game, move, self.random.choice(self._movers(game)))

    def _movers(self, game: Game) -> list[str]:
        return ["owner", "operator"] if game.side == 0 else [game.registered.challenger]

    def proposed(self, game: Game) -> Move | None:
        """What whose turn it is has to do, once drawn for each position; None if it has no move."""
        place = game.place.hash()
        if self._next.get(game.id, (b"", None))[0] != place:
            try:
                self._next[game.id] = place, game.next
            except (Refused, NothingWrong):
                assert not self._is_honest(game), "the side that computed right has no move"
                self._next[game.id] = place, None
        return self._next[game.id][1]

    def _is_honest(self, game: Game) -> bool:
        """Whether it is the turn of who computed right, and plays by it."""
        right = self._of[game.job.id].runs.honest.execution
        if game.side == 0:
            return self._of[game.job.id].is_right
        return game.job.theirs is right and not isinstance(game.challenger, Slanderer)

    def attempt(self, game: Game, move: Move, sender: str) -> None:
        """Makes a move if the model allows it; else the contract must refuse it."""
        level = game.position.level.value
        try:
            after = rules.apply(game.position, move)
        except Refused:
            self.refused(game.registered, game.position, move, sender)
            return
        ends = isinstance(after, Verdict)
        in_time = self.table.now < game.deadline
        if not in_time or (ends and game.job.convicted) or not self._may(game, move, sender):
            self.refused(game.registered, game.position, move, sender)
            return
        self._before.setdefault(game.id, []).append((game.registered, game.position, move))
        self.table.move(game, move, sender)
        self.done.add("move")
        self.seen[level] += 1
        if isinstance(after, Verdict):
            assert not after.convicted or not self._of[game.job.id].is_right
            self.seen["convicted" if after.convicted else "lost"] += 1

    def _may(self, game: Game, move: Move, sender: str) -> bool:
        """Whose move it is. Further nodes of the provider's trees are anybody's."""
        who = self.table.people.get(sender, sender)
        if game.side == 1:
            return who == game.registered.challenger
        doubt = game.position.doubt
        is_free = False
        if isinstance(move, ShowNodes) and isinstance(doubt, Nodes):
            is_free = doubt.level in (Level.INTERVAL, Level.STATE) and not doubt.at_root
        return is_free or who in (self.table.people["owner"], self.table.people["operator"])

    def illegal(self) -> None:
        """A move with something changed, of somebody else, of another position, or of another game."""
        game = self.some_game()
        move = self.proposed(game) if game is not None else None
        if game is None or move is None:
            return
        kind = self.random.randrange(4)
        if kind == 0:
            others = [other for other in changed(move) if writable(other)]
            self.attempt(game, self.random.choice(others), self.random.choice(self._movers(game)))
        elif kind == 1:
            self.attempt(game, move, self.random.choice(list(self.table.people)))
        elif kind == 2 and self._before.get(game.id):
            registered, position, made = self.random.choice(self._before[game.id])
            # A verdict leaves the game where it was; it is not made again.
            assert registered.place(position).hash() != game.place.hash() or game.job.convicted
            self.refused(registered, position, made, self.random.choice(self._movers(game)))
        elif kind == 3:
            other = self.some_game()
            if other is not None and other is not game:
                registered = game.registered._replace(game=other.id)
                self.refused(registered, game.position, move, self._movers(game)[0])

    def refused(self, registered: Registered, position: Position, move: Move, sender: str) -> None:
        """The contract does not take it, if it can be written as a call at all."""
        before = self.table.call("game", "position", "keeper", registered.game)
        try:
            function, arguments = call(registered, position, move)
            data = self.table.call_data(function, *arguments)
        except Exception as error:
            if not unwritable(error):
                raise
            return
        assert data
        try:
            self.table.call("game", function, sender, *arguments)
        except Reverted:
            assert self.table.call("game", "position", "keeper", registered.game) == before
            self.seen["refused"] += 1
            return
        raise AssertionError(f"the contract takes {move} of {sender}")

    def claim(self) -> None:
        before = [game for game in self.table.games if not game.over]
        super().claim()
        self._claimed += [game for game in before if game.over]

    def settle(self) -> None:
        """Also of jobs that are over: no conviction is ever paid."""
        job = self.random.choice([*self.jobs, *self._ended[-3:]])
        state, end = self.table.status(job), job.window_end
        waited = self.table.now >= end + TIMEOUT
        allowed = (state == COMMITTED and self.table.now >= end) or (state == DISPUTED and waited)

        def action() -> None:
            self.table.call("escrow", "settle", "keeper", job.terms, job.commitment)
            self._settled.append(job)

        self.try_(allowed, action)

    def withdraw(self) -> None:
        before = sum(self.table.balances.values())
        super().withdraw()
        self._withdrawn += before - sum(self.table.balances.values())

    # What must always hold.

    def books(self) -> None:
        """Bonds in = bonds out + burned, and what is still in games; nobody was paid for what was convicted."""
        self.table.check()
        games = self.table.games
        claimed = {game.id for game in self._claimed}
        lost = [game for game in games if game.over and game.id not in claimed]
        shares = [lost_shares(game.bond, game.registered.origin.price) for game in lost]
        burned = self.table.call("game", "burned", "keeper")
        assert burned == sum(gone for _, gone in shares)
        out = sum(to_provider for to_provider, _ in shares) + sum(game.bond for game in self._claimed)
        held = sum(game.bond for game in games if not game.over)
        came = sum(game.bond for game in games)
        assert came == out + burned + held
        paid = sum(job.commitment["pay"] for job in self._settled)
        assert self._income() - self._paid_before == paid
        for job in self._settled:
            assert not job.told, "a convicted job was paid"
        for job in [*self.jobs, *self._ended]:
            state = self.table.status(job)
            late = self.table.now >= job.window_end + TIMEOUT
            assert state != SETTLED or late or (job.open == 0 and not job.convicted)
            assert (state == CONVICTED) == job.told

    def _income(self) -> int:
        return int(self.table.call("escrow", "balance_of", "keeper", self.table.people["owner"]))
