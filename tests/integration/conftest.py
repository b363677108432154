# SPDX-License-Identifier: Apache-2.0
"""Ape's own commands as a person types them, against a real chain; all files in pytest's directory."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from eth_account import Account

from gpubond.chain.node import connect
from gpubond.devnet import Devnet, find_anvil, free_port

from ..worker.containers.images import RegistryServer, Shelf
from .marketplace import Marketplace

REPOSITORY = Path(__file__).resolve().parents[2]
ANVIL_CACHE = REPOSITORY / ".cache" / "anvil"
CHAIN_ID = 31337
COMMAND_TIMEOUT = 240  # seconds; a command that hangs fails its test


PASSPHRASE = "secret"


@pytest.fixture(scope="session", autouse=True)
def interruptible() -> Iterator[None]:
    """What a shell runs in the background ignores Ctrl-C, and all that it starts inherits that: not what is tested."""
    usual = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, usual)


@dataclass(frozen=True)
class Ape:
    """The `ape` program of this environment with data, home and history of its own."""

    directory: Path

    def keystore(self, name: str = "deployer") -> str:
        """Makes an account of Ape's, locked by PASSPHRASE; returns its address."""
        made = Account.create()
        keys = self.directory / "ape" / "accounts"
        keys.mkdir(parents=True)
        (keys / f"{name}.json").write_text(json.dumps(made.encrypt(PASSPHRASE, kdf="pbkdf2", iterations=1000)))
        return str(made.address)

    def __call__(self, *arguments: str, stdin: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
        """Runs it in the repository; stdout and stderr together are in `stdout`."""
        programs = Path(sys.executable).parent
        home = self.directory / "home"
        home.mkdir(parents=True, exist_ok=True)
        environment = {
            **os.environ,
            "PATH": f"{programs}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
            "HOME": str(home),
            "APE_DATA_FOLDER": str(self.directory / "ape"),
            "IPYTHONDIR": str(self.directory / "ipython"),
            "NO_COLOR": "1",
            **variables,
        }
        return subprocess.run(
            [str(programs / "ape"), *arguments],
            cwd=REPOSITORY,
            env=environment,
            input=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=COMMAND_TIMEOUT,
            check=False,
        )


@pytest.fixture
def ape(tmp_path: Path) -> Ape:
    return Ape(tmp_path / "of-ape")


@pytest.fixture(scope="session")
def anvil_binary() -> Path:
    return find_anvil(ANVIL_CACHE)


@pytest.fixture
def start_chain(tmp_path: Path) -> Iterator[Callable[..., Devnet]]:
    """Starts chains of this test's own, with a block for each transaction; all end with the test."""
    chains: list[Devnet] = []

    def start(chain_id: int = CHAIN_ID, hardfork: str = "cancun", block_time: int | None = None) -> Devnet:
        directory = tmp_path / f"chain-{len(chains)}"
        anvil = find_anvil(ANVIL_CACHE)
        chain = Devnet(directory, free_port(), chain_id, block_time=block_time, hardfork=hardfork, anvil=anvil)
        chains.append(chain)
        chain.up()
        return chain

    yield start
    for chain in chains:
        chain.down()


@pytest.fixture
def chain(start_chain: Callable[..., Devnet]) -> Devnet:
    return start_chain()


def rpc(chain: Devnet, method: str, *parameters: object) -> object:
    """Calls one of anvil's own methods; fails the test on an error."""
    answer = connect(chain.url, chain.chain_id).provider.make_request(method, list(parameters))  # type: ignore[arg-type]
    assert "error" not in answer, answer
    return answer.get("result")


@pytest.fixture(scope="module")
def registry() -> Iterator[RegistryServer]:
    """A registry of images on loopback, empty at first."""
    server = RegistryServer(Shelf())
    yield server
    server.stop()


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory, anvil_binary: Path) -> Iterator[Marketplace]:
    """A chain with the contracts, for the tests of one file."""
    directory = tmp_path_factory.mktemp("market")
    devnet = Devnet(directory / "chain", free_port(), anvil=anvil_binary)
    devnet.up()
    try:
        market = Marketplace(directory, devnet, devnet.deploy(REPOSITORY))
        try:
            yield market
        finally:
            market.close()
    finally:
        devnet.down()
