# SPDX-License-Identifier: Apache-2.0
"""A real chain for the worker's tests: anvil on loopback, its files in pytest's temporary directory."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from web3 import Web3
from web3.types import RPCEndpoint

from gpubond.chain.keys import PASSPHRASE_FILE_VARIABLE, PASSPHRASE_VARIABLE
from gpubond.chain.node import connect
from gpubond.devnet import Devnet, find_anvil, free_port

REPOSITORY = Path(__file__).resolve().parents[2]
ANVIL_CACHE = REPOSITORY / ".cache" / "anvil"


@dataclass(frozen=True)
class Anvil:
    """A running chain. Blocks are made with each transaction unless a test says otherwise."""

    devnet: Devnet
    url: str
    node: Web3

    def rpc(self, method: str, *params: Any) -> Any:
        """Call one of anvil's own methods; fails the test on an error."""
        answer = self.node.provider.make_request(RPCEndpoint(method), list(params))
        assert "error" not in answer, answer
        return answer.get("result")

    def mine(self, blocks: int = 1) -> None:
        self.rpc("anvil_mine", hex(blocks))

    def automine(self, enabled: bool) -> None:
        self.rpc("evm_setAutomine", enabled)

    def reorg(self, depth: int, transactions: list[tuple[dict[str, Any], int]] | None = None) -> None:
        """Replace the last `depth` blocks by others, holding (transaction, block) pairs."""
        self.rpc("anvil_reorg", depth, [list(pair) for pair in transactions or []])


@pytest.fixture(scope="session")
def anvil_binary() -> Path:
    return find_anvil(ANVIL_CACHE)


@pytest.fixture
def start_anvil(anvil_binary: Path, tmp_path: Path) -> Iterator[Callable[..., Anvil]]:
    """Starts chains of this test's own; all end with the test."""
    with ExitStack() as running:
        count = 0

        def start(chain_id: int = 31337, block_time: int | None = None) -> Anvil:
            nonlocal count
            count += 1
            devnet = Devnet(
                tmp_path / f"chain-{count}",
                free_port(),
                chain_id,
                block_time=block_time,
                anvil=anvil_binary,
            )
            running.callback(devnet.down)
            devnet.up()
            return Anvil(devnet, devnet.url, connect(devnet.url, chain_id))

        yield start


@pytest.fixture
def anvil(start_anvil: Callable[..., Anvil]) -> Anvil:
    return start_anvil()


@pytest.fixture(autouse=True)
def no_passphrase_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in (PASSPHRASE_VARIABLE, PASSPHRASE_FILE_VARIABLE):
        if variable in os.environ:
            monkeypatch.delenv(variable)
