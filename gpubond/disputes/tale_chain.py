# SPDX-License-Identifier: Apache-2.0
"""The tale of a game on chain: from its events, their transactions' receipts, and one's own run of the job."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from eth_typing import HexStr
from web3.types import EventData

from gpubond.chain.contracts import Contracts
from gpubond.chain.game_index import GameMove, GameRecord
from gpubond.chain.games import dispute_game
from gpubond.disputes.challenger import Challenger
from gpubond.disputes.execution import Execution
from gpubond.disputes.followed import follow
from gpubond.disputes.position import Position, Side, Verdict
from gpubond.disputes.tale import Cost, Gain, Names, Tale, tell, work_of
from gpubond.disputes.tale_words import SHOWN
from gpubond.disputes.terms import Terms
from gpubond.errors import BadInput

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
    execution: Execution,
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
        execution: an honest run of it, which says what an honest challenger showed at the end.
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
    positions = [follow(moves[: at + 1], terms, execution.program).position for at in range(len(moves))]
    verdict = Verdict(bool(ended[0]["args"]["convicted"]))
    last_tx = ended[0]["transactionHash"].to_0x_hex()
    timed_out = _is_time_out(contracts, contract.address, last_tx)
    last = None if timed_out else Challenger(execution, terms).pick(positions[-1])

    def cost(side: Side, level: str, what: str, tx: str) -> Cost:
        return Cost(side, level, what, int(contracts.node.eth.get_transaction_receipt(HexStr(tx))["gasUsed"]), tx)

    costs = [cost(Side.CHALLENGER, "", "opens the game, with a bond", moves[0].tx_hash)]
    for before, move in zip(positions, moves[1:], strict=False):
        costs.append(cost(before.turn, before.level.value, _words(before), move.tx_hash))
    what = "says that the clock has run out" if timed_out else "shows the operands, and has it computed"
    # A clock that has run out is told by the other side, as a rule.
    by = Side.ASSERTER if timed_out and not verdict.convicted else Side.CHALLENGER
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
    work = work_of(execution.program.ops, terms.statement.steps)
    return tell(names, positions, last, verdict, costs=costs, gains=gains, work=work)


def _is_time_out(contracts: Contracts, address: str, tx: str) -> bool:
    data = bytes(contracts.node.eth.get_transaction(HexStr(tx))["input"])
    called = contracts.at("DisputeGame", address).get_function_by_selector(data[:4])
    return bool(called.fn_name == "time_out")


def _words(before: Position) -> str:
    """What a move was, in words."""
    return f"{'shows' if before.turn is Side.ASSERTER else 'picks among'} {SHOWN[before.level]}"
