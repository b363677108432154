# SPDX-License-Identifier: Apache-2.0
"""A caught provider and its straw men against one honest challenger, in the contracts: who opens when, whose games are
lost on purpose, who convicts, in what order claims are made; and what each side has at the end."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum

import boa

from tests.disputes.contracts import GWEI
from tests.disputes.liar import Lie
from tests.disputes.test_soundness import told
from tests.unit.dispute_game.metering import HONEST, Metered, transaction_gas
from tests.unit.dispute_game.runs import USUAL, Runs, challenger
from tests.unit.dispute_game.table import MOVE_GAS, Game, Job, cost

STRAW = "liar"
DEAR = 50 * GWEI


class Fate(Enum):
    """What becomes of a game. A straw man loses on purpose as soon as it has opened, or when all have."""

    HONEST = "honest"
    KEPT = "kept"
    LOST_EARLY = "lost early"
    LOST_LATE = "lost late"


@dataclass(frozen=True)
class Plan:
    """fates: of the games, in the order in which they are opened. ender: the game that convicts, by verdict if it is
    the honest one's and `judged`, else by the asserter's clock. prices: wei of a unit of gas while straw men and the
    honest one open their games."""

    fates: tuple[Fate, ...]
    ender: int
    judged: bool
    collateral: int
    prices: tuple[int, int] = (GWEI, GWEI)


def plans(games: int, collateral: int, prices: tuple[int, int] = (GWEI, GWEI)) -> Iterator[Plan]:
    """All with so many games."""
    straws = [fate for fate in Fate if fate is not Fate.HONEST]
    for place in range(games):
        for fates in itertools.product(straws, repeat=games - 1):
            order = (*fates[:place], Fate.HONEST, *fates[place:])
            for ender, fate in enumerate(order):
                if fate is Fate.HONEST:
                    yield Plan(order, ender, True, collateral, prices)
                if fate in (Fate.HONEST, Fate.KEPT):
                    yield Plan(order, ender, False, collateral, prices)


def after_the_first_checkpoint() -> Runs:
    """A provider that is right up to the first checkpoint."""
    return Runs.of(USUAL, Lie(2, 0))


@contextmanager
def base_fee(price: int) -> Iterator[None]:
    """Blocks with this base fee, wei."""
    context = boa.env.evm.vm.state.execution_context
    usual = context._base_fee_per_gas
    context._base_fee_per_gas = price
    try:
        yield
    finally:
        context._base_fee_per_gas = usual


def opened(table: Metered, job: Job, who: str, price: int, fate: Fate) -> Game:
    """A straw man that is to lose says that the first checkpoint is wrong."""
    player = challenger(job.theirs)
    if fate in (Fate.LOST_EARLY, Fate.LOST_LATE):
        wrong = told(table.runs.honest, Lie(0, 0))
        assert wrong is not None
        player = challenger(wrong[0])
    with base_fee(price):
        return table.open(job, who, price=max(price, GWEI), player=player)


def copied(table: Metered, game: Game) -> None:
    """Straw man and provider make a move each: that is refunded, too."""
    table.step(game)
    table.step(game)
    assert game.side == 0


@dataclass
class Convicted:
    """A job that was convicted; claims are not made yet."""

    plan: Plan
    job: Job
    games: list[Game]

    @property
    def kept(self) -> list[Game]:
        return [game for game in self.games if not game.over]

    @property
    def honest(self) -> Game:
        return self.games[self.plan.fates.index(Fate.HONEST)]


def convicted(table: Metered, plan: Plan) -> Convicted:
    """Plays a plan up to the claims. The honest challenger tells the escrow, whoever's verdict it was."""
    job = table.job(collateral=plan.collateral)
    games = []
    for fate in plan.fates:
        who, price = (HONEST, plan.prices[1]) if fate is Fate.HONEST else (STRAW, plan.prices[0])
        games.append(opened(table, job, who, price, fate))
        if fate is Fate.LOST_EARLY:
            table.lose(games[-1])
        elif fate is Fate.KEPT:
            copied(table, games[-1])
    for fate, game in zip(plan.fates, games, strict=True):
        if fate is Fate.LOST_LATE:
            table.lose(game)
    last = games[plan.ender]
    if plan.judged:
        while not job.convicted:
            table.step(last)
    else:
        table.at(last.deadline)
        table.time_out(last, last.registered.challenger)
    table.convict(job, HONEST)
    return Convicted(plan, job, games)


def every_order(table: Metered, end: Convicted) -> int:
    """Makes the claims in each order, and checks what all have then. Returns how many orders there were."""
    before = table.gas

    def walk(left: list[Game]) -> int:
        if not left:
            check(table, end)
            return 1
        found = 0
        for game in left:
            gas = table.gas
            with boa.env.anchor():
                table.call("game", "claim", HONEST if game is end.honest else "keeper", *game.shown)
                found += walk([other for other in left if other is not game])
            table.gas = gas
        return found

    orders = walk(end.kept)
    assert table.gas == before
    return orders


def check(table: Metered, end: Convicted) -> None:
    """The honest challenger is not out of pocket, its withdrawal included, and the provider with its straw men has got
    back no more than the constants."""
    plan, kept, honest = end.plan, end.kept, end.honest
    share = plan.collateral * 15 // 100
    straws = [game for game in end.games if game is not honest]
    balance, paid = table.balance(HONEST), sum(game.bond for game in straws)
    gas = table.gas + withdrawal(table, balance)
    assert balance - honest.bond >= cost(gas, honest.registered.origin.price), (plan, gas)

    recovered = table.balance(STRAW) + table.balance("owner") - paid
    assert recovered <= share - (balance - honest.bond), plan
    refunds = [min(cost(MOVE_GAS * game.moves, game.registered.origin.price), share // len(kept)) for game in kept]
    if kept[0] is honest:
        # All that its straw men get are refunds of gas that they have paid for.
        assert recovered <= sum(refund for refund, game in zip(refunds, kept, strict=True) if game is not honest), plan
    # What came in is what is owed or burned, to the last unit.
    burned = table.call("game", "burned", "keeper")
    assert balance + recovered + paid + burned == paid + honest.bond + share, plan
    assert table.call("staking", "burned_by", "keeper", table.escrow.address) >= plan.collateral // 2


def withdrawal(table: Metered, amount: int) -> int:
    """The gas of taking so much out."""
    who = table.people[HONEST]
    return transaction_gas(table.game.functions["withdraw"], who, (amount, who))
