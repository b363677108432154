# SPDX-License-Identifier: Apache-2.0
"""The clocks of many games at once, and a provider that computes one answer after the other, the most urgent first:
seconds only, so that thousands of games take no time. What adds to a clock, and when, is what the contract does."""

from __future__ import annotations

import heapq
import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.exact_contracts.operations import drawing

# Of the longest game that the contract reckons with.
MOST_ANSWERS = 30


@dataclass(frozen=True)
class Clocks:
    """What a deployment's games have: seconds."""

    clock: int
    increment: int
    max_answer: int


@dataclass
class Timed:
    """A game's clock of the asserter. job: which; answer: seconds that one takes; adds: what each one brings."""

    job: int
    answer: int
    adds: int
    left: int
    moved: int
    answers: int = 0

    @property
    def deadline(self) -> int:
        return self.moved + self.left + self.adds


@dataclass
class Crowd:
    """Challengers that do what a seed says, on jobs of one provider that always works.

    answers: answer seconds of each job. most: games on each at once. temper: `at once`, as quickly as they can; `in
    bursts`, all at the same moments; `at random`. standstill: seconds in which nothing is computed or gets into the
    chain, in all, at times that nobody knows.
    """

    clocks: Clocks
    answers: Sequence[int]
    most: int
    seed: int
    temper: str
    standstill: int = 0
    now: int = 0
    #: Seconds that stood still so far.
    lost: int = 0
    opened: int = 0
    late: int = 0
    #: What was left after an answer, at least, with what stood still before.
    least_left: int = 2**32
    #: Answer seconds of all open games, at most.
    peak: int = 0

    _waiting: list[tuple[int, int, Timed]] = field(default_factory=list)
    _theirs: list[tuple[int, int, Timed]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._chance = drawing(self.seed)
        self._numbers = itertools.count()
        self._there: Counter[int] = Counter()
        self._breaks = self._spread()

    def play(self, games: int) -> None:
        """Until so many games were opened and all are over, or until one is late."""
        while self._waiting or self._theirs or self.opened < games:
            self._open(games)
            if self._waiting:
                _, _, game = heapq.heappop(self._waiting)
                self._pass(self._takes(game))
                self.late = (self.now >= game.deadline) + sum(self.now >= deadline for deadline, _, _ in self._waiting)
                if self.late:
                    return
                self._answered(game)
            elif self._theirs:
                self._pass(max(1, self._theirs[0][0] - self.now))
            else:
                self._pass(1)

    def _open(self, games: int) -> None:
        """Of those places that are free, all or some."""
        for job, answer in enumerate(self.answers):
            free = min(self.most - self._there[job], games - self.opened)
            if self.temper == "at random" and free:
                free = self._chance.randint(0, free)
            for _ in range(free):
                self._there[job] += 1
                self.opened += 1
                adds = self.clocks.increment + min(answer * self._there[job], self.clocks.max_answer)
                self._ask(Timed(job, answer, adds, self.clocks.clock, self.now))
        self.peak = max(self.peak, sum(count * self.answers[job] for job, count in self._there.items()))

    def _ask(self, game: Timed) -> None:
        heapq.heappush(self._waiting, (game.deadline, next(self._numbers), game))

    def _takes(self, game: Timed) -> int:
        """All the time that it may take, or less."""
        return self._chance.randint(1, game.answer) if self.temper == "at random" else game.answer

    def _answered(self, game: Timed) -> None:
        game.left, game.moved = game.deadline - self.now, self.now
        game.answers += 1
        self.least_left = min(self.least_left, game.left + self.lost)
        if game.answers == MOST_ANSWERS or self._chance.random() < 0.02:
            self._there[game.job] -= 1
            return
        pause = 0
        if self.temper == "in bursts":
            pause = -self.now % (3 * self.clocks.increment)
        elif self.temper == "at random":
            pause = self._chance.choice([0, 0, 1, self._chance.randint(0, self.clocks.increment)])
        heapq.heappush(self._theirs, (self.now + pause, next(self._numbers), game))
        self._challengers()

    def _challengers(self) -> None:
        """Those move whose moment has come, also while something was computed."""
        while self._theirs and self._theirs[0][0] <= self.now:
            at, _, game = heapq.heappop(self._theirs)
            game.moved = at
            self._ask(game)

    def _pass(self, seconds: int) -> None:
        """Time goes by; and all of a standstill that begins in it."""
        end = self.now + seconds
        while self._breaks and self._breaks[0][0] <= end:
            length = self._breaks.pop(0)[1]
            end += length
            self.lost += length
        self.now = end
        self._challengers()

    def _spread(self) -> list[tuple[int, int]]:
        """When nothing goes on, and how long: a few times, as long as that is in all."""
        if not self.standstill:
            return []
        cuts = sorted({0, self.standstill, *(self._chance.randrange(self.standstill) for _ in range(4))})
        lengths = [right - left for left, right in itertools.pairwise(cuts)]
        return sorted((self._chance.randrange(3 * self.clocks.increment), each) for each in lengths)
