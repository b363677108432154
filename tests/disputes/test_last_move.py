# SPDX-License-Identifier: Apache-2.0
"""The move that ended a game is read from its transaction as it was made."""

from __future__ import annotations

from typing import Any

import pytest
from web3 import Web3
from web3.contract import Contract

from gpubond.chain.abi import load_abi
from gpubond.disputes.calldata import call
from gpubond.disputes.last_move import TIME_OUT, last_call, last_move
from gpubond.disputes.moves import Judge, PickOperation
from gpubond.disputes.structs import Origin, Registered
from tests.disputes.liar import Lie
from tests.disputes.play import Game, Honest
from tests.disputes.tasks import every_level_task, single_task

from .test_tale import LIES, played

ID, OTHER = bytes([7] * 32), bytes([8] * 32)


@pytest.fixture(scope="module")
def honest() -> Honest:
    return Honest.of(every_level_task())


@pytest.fixture(scope="module")
def contract() -> Contract:
    return Web3().eth.contract(address=Web3.to_checksum_address("0x" + "33" * 20), abi=load_abi("DisputeGame"))


def registered(game: Game, of: bytes = ID) -> Registered:
    """The game as the chain would have it, under an id."""
    said = game.positions[0].terms.statement
    origin = Origin(bytes(32), said.program, said.initial, said.data, 1, 1, 0)
    return Registered(of, 0, "0x" + "11" * 20, "0x" + "22" * 20, origin)


def data_of(contract: Contract, game: Game, last: Any, of: bytes = ID) -> bytes:
    """Calldata of a game's last move."""
    made = call(registered(game, of), game.positions[-1], last)
    return encoded(contract, made.function, *made.arguments)


def encoded(contract: Contract, function: str, *arguments: Any) -> bytes:
    return bytes.fromhex(contract.encode_abi(function, args=arguments).removeprefix("0x"))


@pytest.mark.parametrize("name", LIES)
def test_each_kind_of_end_is_read_back(honest: Honest, contract: Contract, name: str) -> None:
    game = played(honest, LIES[name])
    last = game.moves[-1]
    data = data_of(contract, game, last)
    found = last_call(contract, data, ID)
    assert found is not None
    assert last_move(found, game.positions[-1]) == last
    # Of several moves in one transaction it is that of the game; a stranger's is none.
    many = encoded(contract, "move_many", [data, data_of(contract, game, last, OTHER)])
    again = last_call(contract, many, ID)
    assert again is not None and last_move(again, game.positions[-1]) == last
    assert last_call(contract, data, OTHER) is None


def test_a_state_of_one_tensor_is_read_back(contract: Contract) -> None:
    honest = Honest.of(single_task())
    game = played(honest, Lie(step=0, tensor=0))
    last = game.moves[-1]
    assert isinstance(last, Judge | PickOperation)
    found = last_call(contract, data_of(contract, game, last), ID)
    assert found is not None and last_move(found, game.positions[-1]) == last


def test_a_time_out_is_seen_and_what_cannot_be_read_is_not(honest: Honest, contract: Contract) -> None:
    game = played(honest, LIES["operation"])
    on_chain, position = registered(game), game.positions[1]
    data = encoded(contract, TIME_OUT, ID, on_chain.place(position), on_chain.way(position), on_chain.origin)
    found = last_call(contract, data, ID)
    assert found is not None and found.function == TIME_OUT
    for other in (b"", b"\x01\x02", bytes(100), b"\xff" * 4 + data[4:]):
        assert last_call(contract, other, ID) is None
