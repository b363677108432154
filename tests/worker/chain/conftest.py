# SPDX-License-Identifier: Apache-2.0
"""A small contract on the chain under test."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_utils.address import to_checksum_address
from web3 import Web3
from web3.contract import Contract
from web3.types import TxReceipt

from gpubond.chain.development import dev_account
from gpubond.store.database import Database

from ..conftest import Anvil

# Another user, whose key the node has.
STRANGER = dev_account(9).address


@dataclass(frozen=True)
class Emitter:
    """The deployed contract."""

    node: Web3
    address: str
    abi: list[dict[str, Any]]
    block: int

    @property
    def contract(self) -> Contract:
        return self.node.eth.contract(to_checksum_address(self.address), abi=self.abi)

    def data(self, function: str, *args: Any) -> str:
        return str(self.contract.encode_abi(function, args=list(args)))

    def call(self, function: str) -> Any:
        return self.contract.functions[function]().call()

    def send(self, function: str, *args: Any, account: LocalAccount | None = None) -> TxReceipt:
        """Call as another user, or with the given key but past the worker; waits for the block."""
        fields: Any = {
            "to": self.address,
            "data": self.data(function, *args),
            "gas": 1_000_000,
            "maxFeePerGas": 10**11,
            "maxPriorityFeePerGas": 10**9,
        }
        if account is None:
            tx_hash = self.node.eth.send_transaction(fields | {"from": STRANGER})
        else:
            nonce = self.node.eth.get_transaction_count(account.address)
            signed = account.sign_transaction({"chainId": 31337, "nonce": nonce, **fields})
            tx_hash = self.node.eth.send_raw_transaction(signed.raw_transaction)
        return self.node.eth.wait_for_transaction_receipt(tx_hash, poll_latency=0.01)

    def unsent(self, function: str, *args: Any) -> dict[str, Any]:
        """The call as a transaction for `Anvil.reorg`; anvil would estimate its gas on the wrong state."""
        return {"from": STRANGER, "to": self.address, "data": self.data(function, *args), "gas": hex(1_000_000)}


@pytest.fixture(scope="session")
def compiled_emitter() -> dict[str, Any]:
    from vyper.compiler import compile_code  # type: ignore[import-untyped]
    from vyper.compiler.settings import Settings  # type: ignore[import-untyped]

    source = (Path(__file__).parent / "Emitter.vy").read_text("utf-8")
    return dict(compile_code(source, output_formats=["abi", "bytecode"], settings=Settings(evm_version="cancun")))


@pytest.fixture
def emitter(anvil: Anvil, compiled_emitter: dict[str, Any]) -> Emitter:
    return deploy_emitter(anvil.node, compiled_emitter)


def deploy_emitter(node: Web3, compiled: dict[str, Any]) -> Emitter:
    factory = node.eth.contract(abi=compiled["abi"], bytecode=compiled["bytecode"])
    tx_hash = factory.constructor().transact({"from": STRANGER, "gas": 3_000_000})
    receipt = node.eth.wait_for_transaction_receipt(tx_hash, poll_latency=0.01)
    assert receipt["contractAddress"] is not None
    return Emitter(node, receipt["contractAddress"], compiled["abi"], receipt["blockNumber"])


@pytest.fixture
def db(tmp_path: Path) -> Any:
    with Database(tmp_path / "worker.db") as database:
        yield database


@pytest.fixture
def worker_key(anvil: Anvil) -> LocalAccount:
    """A key of this test's own, so that runs beside each other do not meet in the key lock."""
    return fund(anvil, Account.create())


def fund(anvil: Anvil, account: LocalAccount) -> LocalAccount:
    anvil.rpc("anvil_setBalance", account.address, hex(10_000 * 10**18))
    return account
