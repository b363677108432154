# SPDX-License-Identifier: Apache-2.0
"""The runtime code that a contract of ours must have, byte by byte.

Vyper puts the immutables behind the compiled code, a word each, those of modules in the order of `initializes`.
They are worked out here from what the constructors are given, so that the node is asked for nothing but the code.
"""

from __future__ import annotations

from typing import NamedTuple

from ape import project
from eth_utils.crypto import keccak

WORD = 32
# What a deployment consists of, in order, without its token.
CORE = ("ProviderStaking", "JobEscrow", "JobEscrowViews", "DataDemands", "Judge", "Examiner", "DisputeGame")
TEST_TOKEN = "TestToken"  # noqa: S105  # the name of a contract
# contracts/modules/blocks.vy: Arbitrum One, Nova and Sepolia.
ARBITRUM_CHAINS = (42_161, 42_170, 421_614)


class Wiring(NamedTuple):
    """What the immutables follow from; addresses, and base units of the token."""

    chain_id: int
    token: str
    staking: str = ""
    escrow: str = ""
    answer_fee: int = 0
    judge: str = ""
    examiner: str = ""
    clock: int = 0
    increment: int = 0
    max_answer: int = 0
    min_gas_price: int = 0
    rate: int = 0
    max_collateral: int = 0


def runtime_code(name: str, wiring: Wiring) -> bytes:
    """The code at the address of the contract `name`, if it is of the sources here."""
    compiled = project.contracts[name].contract_type.runtime_bytecode
    assert compiled is not None
    return bytes(compiled.to_bytes()) + b"".join(value.to_bytes(WORD) for value in _immutables(name, wiring))


def is_code_of(name: str, wiring: Wiring, code: bytes) -> bool:
    """Whether the code is of the sources here; of the test token, whose immutables hold its address, the program."""
    expected = runtime_code(name, wiring)
    return code[: len(expected)] == expected if name == TEST_TOKEN else code == expected


def code_hash(code: bytes) -> str:
    """Keccak-256 as deployment files state it."""
    return "0x" + keccak(code).hex()


def _immutables(name: str, wiring: Wiring) -> list[int]:
    token, escrow, staking = _number(wiring.token), _number(wiring.escrow), _number(wiring.staking)
    of_game = [wiring.min_gas_price, wiring.rate, wiring.max_collateral, _number(wiring.examiner), staking]
    found = {
        "ProviderStaking": [token],
        "JobEscrow": [token, int(wiring.chain_id in ARBITRUM_CHAINS), wiring.chain_id, staking],
        "JobEscrowViews": [escrow, staking, wiring.chain_id],
        "DataDemands": [escrow, token, wiring.answer_fee, wiring.chain_id],
        "Examiner": [_number(wiring.judge)],
        "DisputeGame": [
            *(escrow, token, *of_game, wiring.clock, wiring.increment, wiring.max_answer, wiring.chain_id),
        ],
    }
    return found.get(name, [])


def _number(address: str) -> int:
    return int(address, 16) if address else 0
