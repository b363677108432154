# SPDX-License-Identifier: Apache-2.0
"""A local chain with one-second blocks, one provider's worker and one buyer, all of them real processes."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from demo.processes import Worker, command
from gpubond.chain.contracts import Call
from gpubond.chain.node import connect
from gpubond.chain.session import Session, open_session
from gpubond.devnet import Devnet, free_port

ROOT = Path(__file__).resolve().parents[1]

OWNER, OPERATOR, BUYER = 1, 2, 5  # development accounts
TOKENS = 500_000

# What a job does first is to say when it began; the rest is its sleep.
PROGRAM = """\
import sys, time
began = time.time()
open("began.txt", "w").write(repr(began))
time.sleep(float(sys.argv[1]))
"""


@dataclass(frozen=True)
class Place:
    """Where a market lies, and how to reach its chain."""

    directory: Path
    devnet: Devnet
    deployment: Path

    @property
    def chain_options(self) -> tuple[str, ...]:
        return ("--rpc-url", self.devnet.url, "--deployment", str(self.deployment))

    def provider(self, name: str, *, slots: int, rpc_url: str | None = None) -> Path:
        """A provider's home folder; it has joined, and its worker does not run."""
        home = self.directory / name
        command(
            *("provider", "init", "--home", str(home), "--port", str(free_port())),
            *("--rpc-url", rpc_url or self.devnet.url, "--deployment", str(self.deployment)),
            *("--ws-url", self.devnet.url.replace("http", "ws", 1)),
            *("--price-per-hour", "3.6", "--collateral", "0.01", "--count", str(slots), "--backed-jobs", "4000"),
            *("--challenge-window", "600", "--delivery-margin", "3600"),
            *("--dev-owner", str(OWNER), "--dev-operator", str(OPERATOR)),
            echo=False,
        )
        command("provider", "join", "--home", str(home), "--faucet", "--yes", echo=False)
        return home

    def buyer(self, name: str) -> Path:
        """A buyer's home folder, with a balance in the escrow."""
        home = self.directory / name
        command("account", "init", "--home", str(home), *self.chain_options, "--dev-account", str(BUYER), echo=False)
        command("account", "faucet", "--amount", str(TOKENS), "--home", str(home), echo=False)
        with open_session(home) as session:
            units = session.contracts.token_info.units(str(TOKENS), "amount")
            escrow = str(session.contracts.escrow.address)
            session.send(session.contracts.approve(escrow, units), "approve")
            session.send(session.contracts.deposit(units, session.address), "deposit")
        return home

    def job(self, name: str, sleep: float, seconds: int = 600) -> Path:
        """A job file: a program that notes when it began, and sleeps."""
        folder = self.directory / name
        folder.mkdir()
        (folder / "job.py").write_text(PROGRAM)
        path = folder / "job.json"
        specification = {
            "version": 1,
            "name": name,
            "runtime": "python",
            "inputs": [{"path": "job.py"}],
            "outputs": ["began.txt"],
            "limits": {"seconds": seconds},
            "python": {"script": "job.py", "args": [str(sleep)]},
        }
        path.write_text(json.dumps(specification))
        return path


@contextmanager
def start_market(directory: Path, anvil: Path) -> Iterator[Place]:
    """A chain that mines once a second and only then; the contracts are deployed by `ape run deploy`."""
    devnet = Devnet(directory / "chain", free_port(), anvil=anvil)
    devnet.up()
    try:
        deployment = devnet.deploy(ROOT)
        yield Place(directory, devnet, deployment)
    finally:
        devnet.down()


@contextmanager
def running_worker(home: Path) -> Iterator[Worker]:
    """A worker that is up, and ends with the block."""
    worker = Worker(home)
    try:
        worker.wait_for("is up")
        yield worker
    finally:
        worker.stop()


class Heads:
    """When each block became visible here: a thread that asks for the head all the time."""

    def __init__(self, url: str, interval: float = 0.004) -> None:
        self.seen: dict[int, float] = {}
        self._node = connect(url)
        self._interval = interval
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Heads:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        last = self._node.eth.block_number
        while not self._ended.wait(self._interval):
            head = self._node.eth.block_number
            for number in range(last + 1, head + 1):
                self.seen[number] = time.time()
            last = head


def blocks_of_one_second(url: str) -> None:
    """From now on a block comes once a second and at no other time."""
    node = connect(url)
    node.provider.make_request("evm_setIntervalMining", [1])  # type: ignore[arg-type]


def send(session: Session, words: str, function: str, *arguments: Any) -> str:
    """One call of the escrow, by the session's durable sender; returns the transaction's hash."""
    escrow = session.contracts.escrow
    call = Call(words, str(escrow.address), escrow.encode_abi(function, args=list(arguments)))
    return str(session.send(call, f"{words}:{time.monotonic_ns()}").tx_hash)


def percentile(values: Sequence[float], share: float) -> float:
    """The value that a share of all do not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, -(-int(share * 100) * len(ordered) // 100) - 1)]


def note(text: str) -> None:
    """What is done now, for who waits."""
    print(f"  {text}", file=sys.stderr, flush=True)
