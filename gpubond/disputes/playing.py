# SPDX-License-Identifier: Apache-2.0
"""Plays games on chain for one side: what is due follows from the index (how a game stands) and the outbox (which moves
were sent), so a killed player goes on where it was, and a reorg that removes or swaps moves is no case of its own.

A move is sent under the hash of the position that it answers: once for each position, however often a position comes
back. Who is too late loses, so nothing waits for cheaper gas.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from queue import PriorityQueue
from typing import Any, NamedTuple, TypeVar

from gpubond.chain.contracts import Call
from gpubond.chain.game_index import GameMove, GameRecord
from gpubond.chain.games import DisputeGame
from gpubond.chain.index import MarketIndex
from gpubond.chain.outbox import OutboxState
from gpubond.chain.sender import Sender
from gpubond.disputes import calldata
from gpubond.disputes.asserter import Asserter
from gpubond.disputes.challenger import Challenger
from gpubond.disputes.execution import Execution
from gpubond.disputes.followed import Followed, follow
from gpubond.disputes.levels import Side
from gpubond.disputes.showing import NothingWrong
from gpubond.disputes.terms import Terms
from gpubond.errors import Refused
from gpubond.store.boundaries import boundary

logger = logging.getLogger(__name__)

# Transactions for one answer. More than one is needed only if a reorg let the first meet another position.
MAX_TRIES = 8


class Known(NamedTuple):
    """What a side knows of a job: its terms, and its own run."""

    terms: Terms
    execution: Execution


Result = TypeVar("Result")


class _Task(NamedTuple):
    deadline: int
    number: int  # so that nothing behind it is ever compared
    future: Future[Any]
    what: Callable[[], Any]


class Urgent:
    """One thread that does what is due first, whatever came first: each game has a clock, and none may run out while
    another's answer, which has time, is computed."""

    def __init__(self, name: str) -> None:
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)
        self._tasks: PriorityQueue[_Task] = PriorityQueue()
        self._numbers = itertools.count()

    def submit(self, deadline: int, what: Callable[[], Result]) -> Future[Result]:
        """deadline: in whatever unit all of them are told."""
        future: Future[Result] = Future()
        self._tasks.put(_Task(deadline, next(self._numbers), future, what))
        self._pool.submit(self._first)
        return future

    def stop(self) -> None:
        """Begins nothing new."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _first(self) -> None:
        # As often as something was put there, so there is one.
        task = self._tasks.get_nowait()
        if not task.future.set_running_or_notify_cancel():
            return
        try:
            found = task.what()
        except BaseException as error:
            task.future.set_exception(error)
        else:
            task.future.set_result(found)


class Player:
    """Moves for one side in any number of games. One thread calls it; moves are computed in another, the most urgent
    first.

    Args:
        contract: the deployment's game.
        index: how games stand.
        sender: who moves.
        side: for whom.
        urgent: where moves are computed.
    """

    def __init__(
        self, contract: DisputeGame, index: MarketIndex, sender: Sender, side: Side, urgent: Urgent | None = None
    ) -> None:
        self._contract = contract
        self._index = index
        self._sender = sender
        self._side = side
        self._pool = urgent or Urgent("moves")
        self._thinking: dict[str, tuple[bytes, Future[Call | None]]] = {}
        self._followed: dict[str, tuple[list[GameMove], Followed]] = {}

    def stand(self, record: GameRecord, known: Known) -> Followed:
        """How a game stands by the index.

        Raises:
            BadSettings: its events are not those of this release's game.
        """
        moves = self._index.games.moves(record.game)
        cached = self._followed.get(record.game)
        if cached is None or cached[0] != moves:
            cached = self._followed[record.game] = (moves, follow(moves, known.terms, known.execution.program))
        return cached[1]

    def deadline(self, record: GameRecord) -> int:
        """By when whoever is to move must have moved (Unix seconds), as of the last look; 0 of a game not seen yet."""
        cached = self._followed.get(record.game)
        return 0 if cached is None else cached[1].deadline

    def step(self, record: GameRecord, known: Known, now: int, seen: int) -> str:
        """Does at most one thing for an open game; says what it waits for, in words.

        Args:
            record: the game.
            known: the job's terms, and this side's run.
            now: the chain's time, Unix seconds.
            seen: the block up to which the index knows the chain.

        Raises:
            Refused: the contract refuses the move, with its reason; or there is none.
            NotEnough, Unreachable: try again.
        """
        game = self.stand(record, known)
        key = f"{record.game}:{game.hash.hex()[:16]}"
        if game.position.turn is self._side:
            return self._move(record, game, known, f"move:{key}", seen)
        if now < game.deadline:
            return f"waits for the other side, until {game.deadline} (Unix seconds)"
        name = self._free_purpose(f"time_out:{key}", seen)
        if name is not None:
            self._send(name, self._contract.time_out(record.game_id, *game.structs))
        return "the other side's clock has run out"

    def forget(self, games: set[str]) -> None:
        """Drops what is known of games other than these."""
        for game in [game for game in self._followed if game not in games]:
            del self._followed[game]
        for game in [game for game in self._thinking if game not in games]:
            self._thinking.pop(game)[1].cancel()

    def stop(self) -> None:
        """Begins nothing new."""
        self._pool.stop()

    def _move(self, record: GameRecord, game: Followed, known: Known, purpose: str, seen: int) -> str:
        name = self._free_purpose(purpose, seen)
        if name is None:
            return "its move is on its way"
        thinking = self._thinking.get(record.game)
        if thinking is None or thinking[0] != game.hash:
            thinking = (game.hash, self._pool.submit(game.deadline, partial(self._think, game, known)))
            self._thinking[record.game] = thinking
        if not thinking[1].done():
            return f"computes its move at level {game.position.level.value}"
        try:
            call = thinking[1].result()
        except BaseException:
            # Computed again at the next look: a disk may have been full.
            del self._thinking[record.game]
            raise
        if call is None:
            # The rules leave an honest player something to pick, always.
            raise Refused(
                "all that the other side has shown is what this machine computes as well, so that it has no move",
                field="game",
                value=record.game,
                remedy="the run that this side stands for was another: look after this machine's memory and its store",
            )
        boundary("game:computed")
        self._send(name, call)
        del self._thinking[record.game]
        boundary("game:sent")
        return f"moved: {call.words}"

    def _think(self, game: Followed, known: Known) -> Call | None:
        position = game.position
        side = Asserter if self._side is Side.ASSERTER else Challenger
        try:
            move = side(known.execution, known.terms).move(position)
        except NothingWrong:
            return None
        function, arguments = calldata.call(game.registered, position, move)
        return self._contract.move(function, f"{function.replace('_', ' ')}, level {position.level.value}", *arguments)

    def _free_purpose(self, purpose: str, seen: int) -> str | None:
        """The purpose, or the next in line after what was mined in vain; None while a transaction is on its way."""
        for attempt in range(1, MAX_TRIES + 1):
            name = purpose + (f":{attempt}" if attempt > 1 else "")
            entry = self._sender.entry(name)
            if entry is None or entry.state is OutboxState.DISPLACED:
                return name
            if not entry.final or entry.block_number is None or entry.block_number > seen:
                return None
            # It is on the chain that the index shows, and the position stands all the same: a reorg has put it before
            # something that it did not answer.
            if entry.state is OutboxState.REVERTED:
                logger.warning("%s in %s was mined and refused: %s", name, entry.tx_hash, entry.reason)
        logger.error("%s: %d transactions were mined in vain", purpose, MAX_TRIES)
        return None

    def _send(self, name: str, call: Call) -> None:
        # May be refused because the chain is ahead of the index: then the position is another one already.
        entry = self._sender.submit(name, call.to, call.data)
        logger.info("%s: %s in %s", name, call.words, entry.tx_hash)
