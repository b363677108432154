# SPDX-License-Identifier: Apache-2.0
"""Random steps by random people, allowed or not, in the contracts and in table.py: what it refuses they refuse."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from gpubond.disputes import rules
from gpubond.disputes.position import Verdict
from gpubond.disputes.showing import NothingWrong
from gpubond.exact.refusal import Refused
from tests.disputes.play import Opens
from tests.disputes.tricksters import Slanderer

from .runs import challenger
from .table import COMMITTED, CONVICTED, DAY, DISPUTED, SETTLED, TIMEOUT, Game, Job, Reverted, Table

CHALLENGERS = ("rival", "friend", "liar", "buyer", "owner")


class Episode:
    """Some jobs, right and wrong ones, and everybody at them."""

    def __init__(self, table: Table, seed: int) -> None:
        self.table = table
        self.random = Random(seed)  # noqa: S311
        self.right: dict[int, bool] = {}
        self.jobs: list[Job] = []
        self.lost: list[Game] = []
        self.done: set[str] = set()
        self.begin()

    def begin(self) -> None:
        """The first jobs: a right one and a wrong one."""
        for right in (True, False):
            self.add_job(right)

    def run(self, steps: int) -> None:
        for _ in range(steps):
            often = [self.open, self.move, self.move, self.move, self.move]
            once = [self.pass_time, self.open, self.move, self.time_out, self.convict, self.claim, self.release]
            self.random.choice([*often, *once, self.withdraw, self.settle, self.new_job])()
            self.invariants()

    def try_(self, allowed: bool, action: Callable[[], None]) -> None:
        name = action.__qualname__.split(".")[1]
        try:
            action()
        except Reverted:
            assert not allowed, name
            return
        assert allowed, name
        self.done.add(name)

    # Steps.

    def new_job(self) -> None:
        if len(self.jobs) < 6:
            self.add_job(self.random.random() < 0.5)

    def add_job(self, right: bool) -> None:
        job = self.table.job(is_right=right)
        self.right[id(job)] = right
        self.jobs.append(job)

    def pass_time(self) -> None:
        moments = [game.deadline for game in self.table.games if not game.over]
        moments += [job.window_end for job in self.jobs] + [job.window_end + TIMEOUT for job in self.jobs]
        ahead = [moment for moment in moments if moment >= self.table.now]
        choice = self.random.random()
        if choice < 0.5 or not ahead:
            self.table.at(self.table.now + self.random.choice([1, 600, DAY // 2]))
            return
        near = min(ahead) if choice < 0.93 else self.random.choice(ahead)
        self.table.at(max(self.table.now, near + self.random.choice([-1, 0, 1])))

    def open(self) -> None:
        job = self.random.choice(self.jobs)
        state = self.table.status(job)
        allowed = state in (COMMITTED, DISPUTED) and not job.convicted and self.table.now < job.window_end

        def action() -> None:
            self.table.open(job, self.random.choice(CHALLENGERS), player=self.accuser(job))

        self.try_(allowed, action)

    def accuser(self, job: Job) -> Opens:
        """One with the other run, or one that says anything."""
        if self.random.random() < 0.6:
            return challenger(job.theirs)
        return Slanderer(job.said, self.random.getrandbits(32))

    def some_game(self) -> Game | None:
        games = [game for game in self.table.games if not game.over]
        return self.random.choice(games) if games else None

    def move(self) -> None:
        game = self.some_game()
        if game is None:
            return
        try:
            move = game.next
            after = rules.apply(game.position, move)
        except (Refused, NothingWrong):
            # Who has no move loses by its clock.
            return
        ends = isinstance(after, Verdict)
        allowed = self.table.now < game.deadline and not (ends and game.job.convicted)

        def action() -> None:
            self.table.move(game, move)
            assert not self.right[id(game.job)] or after != Verdict(convicted=True)

        self.try_(allowed, action)

    def time_out(self) -> None:
        game = self.some_game()
        if game is not None:
            allowed = self.table.now >= game.deadline and not game.job.convicted

            def action() -> None:
                self.table.time_out(game, self.random.choice(list(self.table.people)))

            self.try_(allowed, action)

    def convict(self) -> None:
        job = self.random.choice(self.jobs)
        held = self.table.status(job) == DISPUTED and self.table.now < job.window_end + TIMEOUT

        def action() -> None:
            self.table.convict(job)

        self.try_(job.convicted and not job.told and held, action)

    def claim(self) -> None:
        game = self.some_game()
        if game is not None:
            waits = not game.job.told and self.table.status(game.job) == DISPUTED

            def action() -> None:
                self.table.claim(game)

            self.try_(game.job.convicted and not waits, action)

    def release(self) -> None:
        job = self.random.choice(self.jobs)
        held = self.table.status(job) == DISPUTED

        def action() -> None:
            self.table.release(job)

        self.try_(job.open == 0 and not job.convicted and held, action)

    def settle(self) -> None:
        job = self.random.choice(self.jobs)
        state = self.table.status(job)
        end = job.window_end
        allowed = (state == COMMITTED and self.table.now >= end) or (
            state == DISPUTED and self.table.now >= end + TIMEOUT
        )

        def action() -> None:
            self.table.call("escrow", "settle", "keeper", job.terms, job.commitment)

        self.try_(allowed, action)

    def withdraw(self) -> None:
        who = self.random.choice([*CHALLENGERS, "thief"])
        has = self.table.balances[self.table.people[who]]
        amount = self.random.choice([has, has + 1, max(1, has // 2), 0])

        def action() -> None:
            self.table.withdraw(who, amount)

        self.try_(0 < amount <= has, action)

    # What must always hold.

    def invariants(self) -> None:
        for job in self.jobs:
            state = self.table.status(job)
            if job.told:
                assert state == CONVICTED
            if state == CONVICTED:
                assert job.told
            if state == COMMITTED:
                assert job.open == 0 and not job.convicted
            if state == SETTLED and self.table.now < job.window_end + TIMEOUT:
                assert job.open == 0 and not job.convicted
