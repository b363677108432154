# SPDX-License-Identifier: Apache-2.0
"""The move that ended a game, read from the transaction in which it was made: no event tells of it.

The reverse of what `gpubond.disputes.calldata` does, for the moves that a verdict follows from.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from eth_abi.abi import decode
from web3.contract import Contract
from web3.exceptions import Web3ValueError

from gpubond.disputes.calldata import EVIDENCE, NEXT
from gpubond.disputes.moves import (
    Judge,
    JudgeElement,
    JudgeJoin,
    JudgeRun,
    JudgeState,
    Leaf,
    Operand,
    PickOperation,
    Shown,
)
from gpubond.disputes.position import Nodes, OneTensor, Position, Reduction
from gpubond.disputes.reductions import runs_in
from gpubond.disputes.structs import hashes
from gpubond.exact.merkle import LEAF_BYTES

TIME_OUT = "time_out"
# Functions that can end a game.
_ENDS = ("judge", "pick_operation", TIME_OUT)


class LastCall(NamedTuple):
    """A call that ended a game: the contract's function, and its arguments by name."""

    function: str
    arguments: Mapping[str, Any]


def last_call(contract: Contract, data: bytes, game: bytes) -> LastCall | None:
    """The call of a transaction that ended a game; None if none can be seen, since another contract made it.

    Args:
        contract: the DisputeGame.
        data: the transaction's input.
        game: its id.
    """
    ends = [call for call in _calls(contract, data) if call.function in _ENDS and call.arguments["game"] == game]
    return ends[-1] if ends else None


def last_move(call: LastCall, position: Position) -> Judge | PickOperation:
    """The move that a call made. position: that it answered. The call is not `time_out`."""
    given = call.arguments
    if call.function == "pick_operation":
        number, nodes = position.seen[-1].first + given["index"], hashes(given["nodes"])
        return PickOperation(number, given["record"], tuple(given["record_path"]), nodes)
    if call.function != "judge":
        raise ValueError(f"{call.function} ends no game at {position.level}")
    return _judged(position, given["index"], given["evidence"])


def _judged(position: Position, index: int, evidence: bytes) -> Judge:
    match position.doubt:
        case Reduction() as doubt:
            runs = runs_in(position, doubt)
            return JudgeRun(index, _shown(evidence)) if index < runs else JudgeJoin(doubt.first + index - runs)
        case Nodes() | OneTensor() as doubt:
            [following] = decode([NEXT], evidence)
            record, record_path, _, _, commitment, path, _, state_path = following
            number = index + (position.seen[-1].first if isinstance(doubt, Nodes) else 0)
            return JudgeState(number, record, record_path, commitment, path, state_path)
    return JudgeElement(_shown(evidence))


def _calls(contract: Contract, data: bytes) -> Iterator[LastCall]:
    """The calls of the contract in a transaction's input, also those that `move_many` holds."""
    try:
        function, arguments = contract.decode_function_input(data)
    except (Web3ValueError, ValueError):
        return
    if function.fn_name == "move_many":
        for inner in arguments["moves"]:
            yield from _calls(contract, inner)
    else:
        yield LastCall(function.fn_name, arguments)


def _shown(evidence: bytes) -> Shown:
    """What the struct `Evidence` holds."""
    [(_, _, state_path, sources, leaves)] = decode([EVIDENCE], evidence)
    # Those of the last operand stand first.
    left = [_leaf(leaf) for leaf in leaves]
    operands = []
    for root, slices, count, path in reversed(sources):
        operands.append(Operand(root, slices, path, tuple(left[:count])))
        left = left[count:]
    return Shown(tuple(reversed(operands)), state_path)


def _leaf(shown: bytes) -> Leaf:
    """A leaf with the path behind it."""
    return Leaf(shown[:LEAF_BYTES], hashes(shown[LEAF_BYTES:]))
