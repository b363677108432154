# SPDX-License-Identifier: Apache-2.0
"""The contracts, compiled by the pinned Vyper, on an anvil node whose accounts and clock are fixed."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests
from eth_abi.abi import decode, encode
from eth_utils.abi import collapse_if_tuple
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak

from gpubond.devnet import Devnet, free_port

REPOSITORY = Path(__file__).resolve().parents[1]
SOURCES = {
    "TestToken": "contracts/mocks/TestToken.vy",
    "ProviderStaking": "contracts/ProviderStaking.vy",
    "JobEscrow": "contracts/JobEscrow.vy",
    "JobEscrowViews": "contracts/JobEscrowViews.vy",
    "DataDemands": "contracts/DataDemands.vy",
    "MockLocker": "contracts/mocks/MockLocker.vy",
}

CHAIN_ID = 31337
START = 4_000_000_000  # Unix time of the first transaction: later than any day on which this runs
BLOCK_SECONDS = 1  # from one transaction to the next
GAS_LIMIT = 20_000_000
GAS_LIMIT_OF_MANY = 200_000  # of each transaction that shares a block
COINS = 10**24  # wei of each account
COMPILE_TIMEOUT = 300.0
RPC_TIMEOUT = 60.0

Abi = list[dict[str, Any]]


class CallFailed(Exception):
    """A call that a measurement needs was refused, so there is no figure."""


@dataclass(frozen=True)
class Artifact:
    """What the compiler makes of one contract."""

    name: str
    abi: Abi
    creation: bytes
    runtime: bytes

    def functions(self) -> set[str]:
        """Names of the functions that change state."""
        return {
            item["name"]
            for item in self.abi
            if item["type"] == "function" and item["stateMutability"] in ("nonpayable", "payable")
        }


@dataclass(frozen=True)
class Contract:
    """A deployed contract."""

    artifact: Artifact
    address: str


@dataclass(frozen=True)
class Call:
    """A transaction to be sent."""

    sender: str
    contract: Contract
    function: str
    arguments: tuple[Any, ...]


@dataclass(frozen=True)
class Receipt:
    """What a transaction cost, and the events that it left."""

    gas: int
    logs: Sequence[Mapping[str, Any]] = field(repr=False)


def evm_version() -> str:
    """The EVM version that the contracts are compiled for, from Ape's configuration."""
    found = re.search(r"^\s+evm_version: (\w+)$", (REPOSITORY / "ape-config.yaml").read_text("utf-8"), re.MULTILINE)
    if found is None:
        raise ValueError("ape-config.yaml names no evm_version")
    return found[1]


def compile_contracts(sources: Mapping[str, str] = SOURCES) -> tuple[str, dict[str, Artifact]]:
    """The compiler's version and what it makes of each contract; by `vyper`, no Ape needed."""
    vyper = Path(sys.executable).parent / "vyper"
    command = [str(vyper), "-f", "combined_json", "--evm-version", evm_version(), "-p", ".", *sources.values()]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=COMPILE_TIMEOUT, check=False)
    if done.returncode != 0:
        raise CallFailed(f"vyper failed:\n{done.stderr}")
    compiled = json.loads(done.stdout)
    artifacts = {
        name: Artifact(
            name,
            compiled[source]["abi"],
            bytes.fromhex(compiled[source]["bytecode"].removeprefix("0x")),
            bytes.fromhex(compiled[source]["bytecode_runtime"].removeprefix("0x")),
        )
        for name, source in sources.items()
    }
    return compiled["version"], artifacts


def account(name: str) -> str:
    """The address of a role, the same in every run; anvil signs for it."""
    return to_checksum_address(keccak(text=f"GpuBond benchmark: {name}")[12:])


def digest(name: str) -> bytes:
    """32 bytes that stand for a hash, none of them zero: those are cheaper, and would blur the figures."""
    return bytes(byte or 1 for byte in keccak(text=name))


class Chain:
    """A node that mines each transaction into a block of its own, one second after the one before.

    Args:
        url: the node, an anvil.
        chain_time: goes on from the chain's own time, not from `START`.
    """

    def __init__(self, url: str, *, chain_time: bool = False) -> None:
        self._url = url
        self._session = requests.Session()
        self._known: set[str] = set()
        self.rpc("anvil_autoImpersonateAccount", True)
        self.rpc("anvil_setBlockTimestampInterval", BLOCK_SECONDS)
        if not chain_time:
            self.at(START)

    def rpc(self, method: str, *parameters: Any) -> Any:
        """The result of a JSON-RPC call.

        Raises:
            CallFailed: the node answers with an error.
        """
        request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": parameters}
        answer = self._session.post(self._url, json=request, timeout=RPC_TIMEOUT).json()
        if "error" in answer:
            raise CallFailed(f"{method}: {answer['error'].get('message')}")
        return answer["result"]

    @property
    def version(self) -> str:
        """Name and version of the node, for instance `anvil/v1.7.1`."""
        return str(self.rpc("web3_clientVersion"))

    def at(self, timestamp: int) -> None:
        """The next transaction's block carries this time (Unix seconds)."""
        self.rpc("evm_setNextBlockTimestamp", timestamp)

    def now(self) -> int:
        """Time of the latest block."""
        return int(self.rpc("eth_getBlockByNumber", "latest", False)["timestamp"], 16)

    def deploy(self, sender: str, artifact: Artifact, *arguments: Any) -> tuple[Contract, Receipt]:
        """Deploy a contract."""
        constructor: list[Any] = next((item["inputs"] for item in artifact.abi if item["type"] == "constructor"), [])
        receipt = self._transact(sender, None, artifact.creation + _encode(constructor, arguments), artifact.name)
        return Contract(artifact, to_checksum_address(receipt["contractAddress"])), _receipt(receipt)

    def send(self, sender: str, contract: Contract, function: str, *arguments: Any) -> Receipt:
        """Send a transaction that calls a function.

        Args:
            sender: the address that sends it.
            contract: the contract that is called.
            function: name of the function; of several, the one with so many arguments.
            arguments: structs as mappings.

        Raises:
            CallFailed: it was refused.
        """
        data = call_data(contract.artifact, function, *arguments)
        called = f"{contract.artifact.name}.{function}"
        return _receipt(self._transact(sender, contract.address, data, called))

    def send_all(self, calls: Sequence[Call]) -> list[Receipt]:
        """Send transactions that do not depend on each other, many to a block: the node gets slower by the block.

        Raises:
            CallFailed: one was refused.
        """
        self.rpc("evm_setAutomine", False)
        hashes = []
        for call in calls:
            self._give_coins(call.sender)
            data = call_data(call.contract.artifact, call.function, *call.arguments)
            transaction = {"from": call.sender, "to": call.contract.address, "data": "0x" + data.hex()}
            hashes.append(self.rpc("eth_sendTransaction", transaction | {"gas": hex(GAS_LIMIT_OF_MANY)}))
        for _ in calls:
            self.rpc("evm_mine")
            if self.rpc("eth_getTransactionReceipt", hashes[-1]) is not None:
                break
        self.rpc("evm_setAutomine", True)
        receipts = [self.rpc("eth_getTransactionReceipt", sent) for sent in hashes]
        for call, receipt in zip(calls, receipts, strict=True):
            if receipt is None or int(receipt["status"], 16) != 1:
                raise CallFailed(f"{call.contract.artifact.name}.{call.function} was refused")
        return [_receipt(receipt) for receipt in receipts]

    def _give_coins(self, sender: str) -> None:
        if sender not in self._known:
            self.rpc("anvil_setBalance", sender, hex(COINS))
            self._known.add(sender)

    def _transact(self, sender: str, to: str | None, data: bytes, what: str) -> Any:
        self._give_coins(sender)
        call = {"from": sender, "data": "0x" + data.hex(), "gas": hex(GAS_LIMIT)}
        if to is not None:
            call["to"] = to
        receipt = self.rpc("eth_sendTransactionSync", call)
        if int(receipt["status"], 16) != 1:
            try:
                self.rpc("eth_call", call, "latest")
            except CallFailed as reason:
                raise CallFailed(f"{what}: {reason}") from None
            raise CallFailed(f"{what} was refused")
        return receipt


@contextmanager
def start_chain(directory: Path, anvil: Path, hardfork: str) -> Iterator[Chain]:
    """A chain of a hardfork's rules, whose files lie in `directory`; it ends with the block."""
    devnet = Devnet(directory, free_port(), CHAIN_ID, block_time=None, hardfork=hardfork, anvil=anvil)
    devnet.up()
    try:
        yield Chain(devnet.url)
    finally:
        devnet.down()


def call_data(artifact: Artifact, function: str, *arguments: Any) -> bytes:
    """Selector and arguments of a call."""
    for item in artifact.abi:
        if item["type"] == "function" and item["name"] == function and len(item["inputs"]) == len(arguments):
            types = ",".join(collapse_if_tuple(component) for component in item["inputs"])
            return keccak(text=f"{function}({types})")[:4] + _encode(item["inputs"], arguments)
    raise ValueError(f"{artifact.name} has no {function} of {len(arguments)} arguments")


def event(contract: Contract, name: str, receipt: Receipt) -> dict[str, Any]:
    """The first event of a name that a contract left, without its indexed fields; structs as mappings."""
    found = events(contract, name, receipt)
    if not found:
        raise CallFailed(f"no event {name}")
    return found[0]


def events(contract: Contract, name: str, receipt: Receipt) -> list[dict[str, Any]]:
    """All events of a name that a contract left, in order, without their indexed fields; structs as mappings."""
    item = next(item for item in contract.artifact.abi if item["type"] == "event" and item["name"] == name)
    topic = keccak(text=f"{name}({','.join(collapse_if_tuple(component) for component in item['inputs'])})").hex()
    plain = [component for component in item["inputs"] if not component["indexed"]]
    types = [collapse_if_tuple(component) for component in plain]
    found = []
    for log in receipt.logs:
        if to_checksum_address(log["address"]) == contract.address and log["topics"][0] == f"0x{topic}":
            values = decode(types, bytes.fromhex(log["data"].removeprefix("0x")))
            found.append({part["name"]: _named(part, value) for part, value in zip(plain, values, strict=True)})
    return found


def _receipt(raw: Mapping[str, Any]) -> Receipt:
    return Receipt(int(raw["gasUsed"], 16), raw["logs"])


def _encode(components: Sequence[Any], values: Sequence[Any]) -> bytes:
    types = [collapse_if_tuple(component) for component in components]
    plain = [_plain(component, value) for component, value in zip(components, values, strict=True)]
    return encode(types, plain)


def _plain(component: Mapping[str, Any], value: Any) -> Any:
    """Mappings as tuples in the order of the ABI; contracts as addresses. What is a tuple stays one."""
    if isinstance(value, Contract):
        return value.address
    if not component["type"].startswith("tuple"):
        return value
    if component["type"].endswith("]"):
        single = {**component, "type": "tuple"}
        return [_plain(single, each) for each in value]
    if isinstance(value, tuple):
        return value
    return tuple(_plain(inner, value[inner["name"]]) for inner in component["components"])


def _named(component: Mapping[str, Any], value: Any) -> Any:
    if component["type"] != "tuple":
        return value
    return {inner["name"]: _named(inner, each) for inner, each in zip(component["components"], value, strict=True)}
