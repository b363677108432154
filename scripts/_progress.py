# SPDX-License-Identifier: Apache-2.0
"""A deployment that can be cut off at any moment: what is sent is written down before it is sent.

A contract's address follows from its deployer and nonce: if it has the contract's code, the step is done; if the nonce
was used for something that made no contract, it is done anew with another nonce; until the nonce is used, a step is
repeated with the same nonce, of which a chain takes one. So no contract is deployed twice.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import click
from ape import project
from ape.api import AccountAPI, ProviderAPI, TransactionAPI
from ape.contracts import ContractInstance
from web3.utils.address import get_create_address

from scripts._code import Wiring, is_code_of

# Seconds that a transaction of a former run may still take to be mined.
PENDING_TIMEOUT = 300
# Seconds in which the nodes behind one URL come to agree.
LAG_TIMEOUT = 10


@dataclass
class Step:
    """One contract: where it will be, by which nonce, and the transactions that were signed for it."""

    nonce: int
    address: str
    transactions: list[str] = field(default_factory=list)


class Progress:
    """What a deployment has reached. `block` is the first that can hold an event of its contracts."""

    def __init__(self, path: Path, provider: ProviderAPI, wanted: dict[str, Any], block: int) -> None:
        self.path, self._provider, self._wanted = path, provider, wanted
        self.block = block
        self.steps: dict[str, Step] = {}

    @classmethod
    def open(cls, path: Path, provider: ProviderAPI, wanted: dict[str, Any], force: bool) -> Progress:
        """Goes on with the deployment that was cut off, if there is one.

        Raises:
            ClickException: that one was for another chain or with other options; nothing was sent.
        """
        fresh = cls(path, provider, wanted, provider.get_block("latest").number + 1)
        if force or not path.exists():
            return fresh
        try:
            known = json.loads(path.read_text())
            fresh.block = int(known["block"])
            former = dict(known["wanted"])
            fresh.steps = {name: Step(**step) for name, step in known["steps"].items()}
        except (ValueError, TypeError, KeyError) as error:
            raise click.ClickException(
                f"{path} of a deployment that was cut off cannot be read ({error}). Nothing was sent. "
                "--force begins anew."
            ) from None
        if fresh.block > int(provider.get_block("latest").number) + 1:
            raise click.ClickException(
                f"{path} belongs to a chain that is gone: it begins at block {fresh.block}, which this node does not "
                "have. Nothing was sent. --force begins anew."
            )
        for name, value in wanted.items():
            if former.get(name) != value:
                raise click.ClickException(
                    f"{path} is of a deployment that was cut off, whose {name} is {former.get(name)!r} and not "
                    f"{value!r}. Nothing was sent. Run it with the same options to go on; --force begins anew."
                )
        if fresh.steps:
            click.echo(f"going on with the deployment of {path}: {', '.join(fresh.steps)} were sent before")
        return fresh

    def deploy(self, account: AccountAPI, name: str, wiring: Wiring, *arguments: Any) -> ContractInstance:
        """The contract: as a former run deployed it, or deployed now.

        Raises:
            ClickException: not signed, still pending, or something else is at its address.
        """
        container = project.contracts[name]
        step = self.steps.get(name)
        if step is None or not self._is_there(account, step):
            step = self._send(account, name, container(*arguments, nonce=account.nonce))
        if not is_code_of(name, wiring, bytes(self._provider.get_code(step.address))):
            raise click.ClickException(
                f"{step.address}, where {self.path} has {name}, has another code than the sources here: they have "
                f"changed since, or {account.address} used nonce {step.nonce} for another contract. Nothing more was "
                "sent. Go on with the sources of the first run, or begin anew with --force."
            )
        return container.at(step.address)

    def transactions(self) -> dict[str, str]:
        """By contract, the transaction that the chain has taken."""
        taken = {}
        for name, step in self.steps.items():
            for value in step.transactions:
                if self._receipt(value) is not None:
                    taken[name] = value
        return taken

    def _send(self, account: AccountAPI, name: str, transaction: TransactionAPI) -> Step:
        transaction.sender = account.address
        signed = account.sign_transaction(account.prepare_transaction(transaction))
        if signed is None:
            raise click.ClickException(f"the transaction that deploys {name} was not signed, and not sent.")
        assert signed.nonce is not None
        step = Step(signed.nonce, str(get_create_address(account.address, signed.nonce)))
        former = self.steps.get(name)
        if former is not None and former.nonce == step.nonce:
            step.transactions += former.transactions  # either may be mined
        step.transactions.append("0x" + bytes(signed.txn_hash).hex())
        self.steps[name] = step
        # Before it is sent: whatever dies from here on, the next run finds the contract.
        self._save()
        click.echo(f"deploying {name} to {step.address}")
        self._provider.send_transaction(signed)
        return step

    def _is_there(self, account: AccountAPI, step: Step) -> bool:
        begin = time.monotonic()
        while True:
            # Asked before the code, else it could be mined between the two.
            is_used = account.nonce > step.nonce
            if bytes(self._provider.get_code(step.address)):
                return True
            waited = time.monotonic() - begin
            if is_used:
                receipts = [self._receipt(value) for value in step.transactions]
                if any(receipt is not None and int(receipt["status"], 16) == 0 for receipt in receipts):
                    return False  # it failed
                if waited > LAG_TIMEOUT and not any(receipts):
                    return False  # used for something else
            elif self._pending_nonce(account) <= step.nonce:
                return False  # never sent, or forgotten by the node: the same nonce is used again
            if waited > PENDING_TIMEOUT:
                raise click.ClickException(
                    f"the transaction with nonce {step.nonce} of {account.address} is still pending after "
                    f"{PENDING_TIMEOUT} s. Run again later, or replace it (speed it up) in your wallet."
                )
            time.sleep(1)

    def _pending_nonce(self, account: AccountAPI) -> int:
        count = self._provider.make_request("eth_getTransactionCount", [str(account.address), "pending"])
        return int(str(count), 16)

    def _receipt(self, transaction: str) -> Mapping[str, Any] | None:
        receipt: Mapping[str, Any] | None = self._provider.make_request("eth_getTransactionReceipt", [transaction])
        return receipt

    def _save(self) -> None:
        known = {
            "block": self.block,
            "wanted": self._wanted,
            "steps": {name: asdict(step) for name, step in self.steps.items()},
        }
        write_whole(self.path, json.dumps(known, indent=2))


def write_whole(path: Path, text: str) -> None:
    """Writes the file whole or not at all."""
    with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        try:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())
            Path(file.name).chmod(0o644)
            Path(file.name).replace(path)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise
