# SPDX-License-Identifier: Apache-2.0
"""Random steps by random people, allowed or not, against table.py: what it refuses the contract refuses."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from random import Random

import boa
import pytest

from tests.disputes.test_soundness import every_pick

from .conftest import fresh
from .table import COMMITTED, CONVICTED, DAY, DISPUTED, SETTLED, TIMEOUT, Game, Reverted, Table, cost, lost_shares

SEED = 20261126
STEPS = 350
CHALLENGERS = ("rival", "friend", "liar", "buyer", "owner")


class Episode:
    """Some jobs, right and wrong ones, and everybody at them."""

    def __init__(self, table: Table, seed: int) -> None:
        self.table = table
        self.random = Random(seed)  # noqa: S311
        root = table.honest.execution.run_root
        self.right = {id(job): right for job, right in [(table.job(root), True), (table.job(), False)]}
        self.jobs = list(table.jobs)
        self.lost: list[Game] = []
        self.done: set[str] = set()

    def run(self, steps: int) -> None:
        for _ in range(steps):
            often = [self.open, self.move, self.move]
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
            right = self.random.random() < 0.5
            job = self.table.job(self.table.honest.execution.run_root) if right else self.table.job()
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
            self.table.open(job, self.random.choice(CHALLENGERS))

        self.try_(allowed, action)

    def some_game(self) -> Game | None:
        games = [game for game in self.table.games if not game.over]
        return self.random.choice(games) if games else None

    def move(self) -> None:
        game = self.some_game()
        if game is None:
            return
        if game.side == 0:
            move = self.table.honest.asserter.show(game.position)
        else:
            move = self.random.choice(list(every_pick(self.table.honest, game.position)))
        ends = type(move).__name__.startswith("Judge")
        if ends and not self.right[id(game.job)]:
            # Of the wrong result nothing is committed but the root, so that its picks end by the clock.
            return
        allowed = self.table.now < game.deadline and not (ends and game.job.convicted)

        def action() -> None:
            self.table.move(game, move)

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


@pytest.mark.parametrize("number", range(4))
def test_random_steps(table: Table, number: int) -> None:
    episode = Episode(table, SEED + number)
    for _ in range(STEPS // 50):
        episode.run(50)
        table.check()
    # What ends nothing would show nothing.
    assert {"open", "move", "time_out"} <= episode.done, episode.done


def test_all_sorts_of_ends_were_seen(table: Table) -> None:
    seen: set[str] = set()
    for number in range(3):
        with boa.env.anchor():
            other = fresh(table)
            episode = Episode(other, SEED + 100 + number)
            episode.run(STEPS)
            other.check()
            seen |= episode.done
    assert {"open", "move", "time_out", "convict", "claim", "release", "withdraw", "settle"} <= seen, seen


def test_a_lost_bond_is_shared_without_remainder() -> None:
    for of, price in itertools.product(range(0, 400), (1, 7, 50, 10**9)):
        to_provider, gone = lost_shares(of, price)
        assert to_provider + gone == of and gone >= 0
        gas = min(of, cost(1_200_000, price))
        assert to_provider >= gas and 0 <= gone - (of - gas) // 2 <= 1


def test_shares_of_a_conviction_are_at_most_the_share() -> None:
    """By exhaustion of small shares and crowds: refunds never exceed it, and the rest is what is left."""
    for share, games in itertools.product(range(0, 60), range(1, 9)):
        for gas in itertools.product(range(0, 30, 13), repeat=min(games, 4)):
            refunds = [min(item, share // games) for item in gas] + [share // games] * (games - len(gas))
            assert sum(refunds) <= share
