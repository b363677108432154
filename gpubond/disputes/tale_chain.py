# SPDX-License-Identifier: Apache-2.0
"""The tale of a game on chain: from its events, its transactions, and the program of its job."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from eth_typing import HexStr
from web3.types import EventData

from gpubond.chain.contracts import Contracts
from gpubond.chain.game_index import GameMove, GameRecord
from gpubond.chain.games import dispute_game
from gpubond.disputes.followed import follow
from gpubond.disputes.last_move import TIME_OUT, last_call, last_move
from gpubond.disputes.levels import Level, Side
from gpubond.disputes.moves import PickOperation
from gpubond.disputes.position import Elements, OneTensor, Position, Reduction, Verdict
from gpubond.disputes.tale import Cost, Gain, Names, Tale, tell, work_of
from gpubond.disputes.tale_rows import is_shown
from gpubond.disputes.tale_words import SHOWN
from gpubond.disputes.terms import Terms
from gpubond.errors import BadInput
from gpubond.exact.program import Program

# Events of what follows a verdict, with who sends it and the words for it.
_AFTERWARDS = (
    ("JobConvicted", "tells the escrow, which takes the collateral"),
    ("Claimed", "gets the bond back, and a share of the collateral"),
    ("Withdrawn", "takes it out"),
)


def tale_on_chain(
    contracts: Contracts,
    record: GameRecord,
    moves: Sequence[GameMove],
    terms: Terms,
    program: Program,
    names: Names,
    *,
    gains: Sequence[Gain] = (),
) -> Tale:
    """The tale of a game that is over.

    Args:
        contracts: of its deployment.
        record: the game.
        moves: its events from the opening on.
        terms: of its job.
        program: that it runs.
        names: whom it is between.
        gains: who got what.

    Raises:
        BadInput: it is not over.
        BadSettings: its events are not those of a game of these terms.
    """
    contract = dispute_game(contracts)
    if contract is None:
        raise BadInput("this deployment has no disputes", field="deployment", remedy="use another one")
    events = contracts.at("DisputeGame", contract.address).events
    begin = contracts.node.eth.get_transaction_receipt(HexStr(record.opened_tx))["blockNumber"]

    def logs(name: str, **wanted: Any) -> Sequence[EventData]:
        found: Sequence[EventData] = events[name]().get_logs(from_block=begin, argument_filters=wanted)
        return found

    ended = logs("GameEnded", game=record.game_id)
    if not ended:
        raise BadInput("it is not over", field="game", value=record.game, remedy="wait for its end")
    positions = [follow(moves[: at + 1], terms, program).position for at in range(len(moves))]
    verdict = Verdict(bool(ended[0]["args"]["convicted"]))
    last_tx = ended[0]["transactionHash"].to_0x_hex()
    data = bytes(contracts.node.eth.get_transaction(HexStr(last_tx))["input"])
    ending = last_call(contracts.at("DisputeGame", contract.address), data, record.game_id)
    timed_out = ending is not None and ending.function == TIME_OUT
    last = None if ending is None or timed_out else last_move(ending, positions[-1])

    def cost(side: Side, level: str, what: str, tx: str) -> Cost:
        return Cost(side, level, what, int(contracts.node.eth.get_transaction_receipt(HexStr(tx))["gasUsed"]), tx)

    costs = [cost(Side.CHALLENGER, "", _words(None, positions[0]), moves[0].tx_hash)]
    for (before, after), move in zip(pairwise(positions), moves[1:], strict=True):
        costs.append(cost(before.turn, before.level.value, _words(before, after), move.tx_hash))
    what = "shows the operands, and has it computed"
    if timed_out:
        what = "says that the clock has run out"
    elif isinstance(last, PickOperation):
        what = "picks an operation that has no other result"
    # A clock that has run out is told by the other side, as a rule.
    by = positions[-1].turn.other if timed_out else positions[-1].turn
    costs.append(cost(by, "judge", what, last_tx))
    if verdict.convicted:
        job = bytes.fromhex(record.job.removeprefix("0x"))
        wanted: tuple[dict[str, Any], ...] = ({"job": job}, {"game": record.game_id}, {"account": record.challenger})
        seen = {last_tx}
        for (name, words), of in zip(_AFTERWARDS, wanted, strict=True):
            for found in logs(name, **of)[:1]:
                tx = found["transactionHash"].to_0x_hex()
                if tx not in seen:
                    costs.append(cost(Side.CHALLENGER, "", words, tx))
                seen.add(tx)
    work = work_of(program.ops, terms.statement.steps)
    return tell(names, positions, last, verdict, timed_out=timed_out, costs=costs, gains=gains, work=work)


def _words(before: Position | None, after: Position) -> str:
    """What a move was, in words. before: None for the opening."""
    parts = []
    if before is None:
        parts.append("opens the game, with a bond")
    elif before.level is Level.STEP and after.level is Level.STATE:
        parts.append("has no operation otherwise")
    elif is_shown(before):
        parts.append(f"picks among {SHOWN[before.level]}")
    if before is not None and isinstance(before.doubt, Elements):
        parts.append("shows its own")
    if is_shown(after) and not isinstance(after.doubt, OneTensor):
        own = "" if isinstance(after.doubt, Reduction) else "its own "
        parts.append(f"shows {own}{SHOWN[after.level]}")
    return ", ".join(parts)
