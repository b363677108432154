# SPDX-License-Identifier: Apache-2.0
"""A whole marketplace for tests: a chain with the contracts, providers' workers and buyers as real processes."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from gpubond.chain.contracts import Contracts
from gpubond.chain.deployment import load_deployment
from gpubond.chain.development import dev_account
from gpubond.chain.node import connect
from gpubond.cli.main import main
from gpubond.devnet import Devnet, free_port

PROGRAM = [sys.executable, "-m", "gpubond.cli.main"]


@dataclass(frozen=True)
class Ran:
    """How a command ended: exit code, its JSON, and what it said on the way."""

    code: int
    document: Any
    stderr: str

    @property
    def error(self) -> dict[str, Any]:
        """The error that it reported."""
        documents = self.document if isinstance(self.document, list) else [self.document]
        return dict(documents[-1]["error"])


@dataclass
class Marketplace:
    """One chain and its deployment. Everything lies below `directory`."""

    directory: Path
    devnet: Devnet
    deployment: Path
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.node = connect(self.devnet.url)
        self.contracts = Contracts(self.node, load_deployment(self.deployment))

    def run(self, *arguments: str, environment: dict[str, str] | None = None) -> Ran:
        """Runs `gpubond … --json` in this process, which saves its start-up time."""
        stdout, stderr = io.StringIO(), io.StringIO()
        code: Any = 0
        with (
            pytest.MonkeyPatch.context() as patch,
            contextlib.redirect_stdout(stdout),
            contextlib.redirect_stderr(stderr),
        ):
            for name, value in (environment or {}).items():
                patch.setenv(name, value)
            try:
                main.main([*arguments, "--json"], prog_name="gpubond")
            except SystemExit as ended:
                code = ended.code
        return _ran(code, stdout.getvalue(), stderr.getvalue())

    def run_process(self, *arguments: str, environment: dict[str, str] | None = None, timeout: float = 120) -> Ran:
        """Runs `gpubond … --json` as a process of its own."""
        done = subprocess.run(
            [*PROGRAM, *arguments, "--json"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            env={**os.environ, **(environment or {})},
            check=False,
        )
        return _ran(done.returncode, done.stdout, done.stderr)

    def ok(self, *arguments: str) -> Any:
        """Runs a command that must succeed; returns its JSON."""
        ran = self.run(*arguments)
        assert ran.code == 0, (arguments, ran)
        return ran.document

    def text(self, *arguments: str) -> str:
        """What a command that must succeed prints for a person."""
        done = subprocess.run(
            [*PROGRAM, *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, (arguments, done)
        return done.stdout

    @property
    def chain_options(self) -> tuple[str, ...]:
        """Node and deployment for `init`."""
        return ("--rpc-url", self.devnet.url, "--deployment", str(self.deployment))

    def provider(self, name: str, owner: int, operator: int, *options: str) -> Path:
        """A provider that has joined, its worker not running; returns its home."""
        home = self.directory / name
        self.ok(
            *("provider", "init", "--home", str(home), *self.chain_options, "--port", str(free_port())),
            *("--price-per-hour", "36", "--collateral", "5"),
            *("--dev-owner", str(owner), "--dev-operator", str(operator), *options),
        )
        self.ok("provider", "join", "--home", str(home), "--faucet", "--yes")
        return home

    def start_worker(
        self, home: Path, *options: str, environment: dict[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """Starts a worker and waits until it is up."""
        log = home / "worker.log"
        before = log.read_text().count("is up") if log.exists() else 0
        worker = self.spawn_worker(home, *options, environment=environment)
        wait_until(lambda: log.read_text().count("is up") > before or worker.poll() is not None)
        assert worker.poll() is None, log.read_text()
        return worker

    def spawn_worker(
        self, home: Path, *options: str, environment: dict[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """Starts a worker; it may die before it is up."""
        command = [*PROGRAM, "provider", "run", "--home", str(home), *options]
        return self.spawn(command, home / "worker.log", environment)

    def spawn(
        self, command: list[str], log: Path, environment: dict[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """Starts a process that ends with the market; what it says is added to a log."""
        with log.open("ab") as output:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, **(environment or {})},
            )
        self.workers.append(process)
        return process

    def stop_worker(self, worker: subprocess.Popen[bytes], number: int = signal.SIGTERM) -> int:
        """Signals a worker and waits for its end."""
        worker.send_signal(number)
        code = worker.wait(timeout=60)
        self.workers.remove(worker)
        return code

    def buyer(self, name: str, account: int, tokens: str | None = "1000") -> Path:
        """A buyer's home, with test tokens."""
        home = self.directory / name
        self.ok("account", "init", "--home", str(home), *self.chain_options, "--dev-account", str(account))
        if tokens is not None:
            self.ok("account", "faucet", "--amount", tokens, "--home", str(home))
        return home

    def wealth(self, account: int) -> int:
        """Wallet, escrow balance and stake of a development account, base units."""
        address = str(dev_account(account).address)
        contracts = self.contracts
        return contracts.token_balance(address) + contracts.escrow_balance(address) + contracts.provider(address).stake

    def events(self, name: str, job: str) -> list[Any]:
        """The escrow's events of a job."""
        event = self.contracts.escrow.events[name]()
        return list(event.get_logs(from_block=0, argument_filters={"job": bytes.fromhex(job.removeprefix("0x"))}))

    def close(self) -> None:
        """Ends all that was started."""
        for worker in list(self.workers):
            worker.kill()
            worker.wait()
        self.devnet.down()


def wait_until(condition: Any, seconds: float = 60) -> None:
    """Waits until a condition holds; fails the test if it does not within the time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def _ran(code: int, stdout: str, stderr: str) -> Ran:
    documents = list(_documents(stdout))
    return Ran(code, documents[0] if len(documents) == 1 else documents, stderr)


def _documents(text: str) -> Any:
    decoder = json.JSONDecoder()
    text = text.strip()
    while text:
        document, end = decoder.raw_decode(text)
        yield document
        text = text[end:].strip()
