# SPDX-License-Identifier: Apache-2.0
"""Compiles contracts with changed sources, and calls them on titanoboa's EVM without its slow wrappers."""

from __future__ import annotations

import hashlib
import re
import site
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from boa.environment import Env  # type: ignore[import-untyped]
from eth.vm.forks.spurious_dragon import computation as spurious_dragon
from eth.vm.message import Message
from eth.vm.transaction_context import BaseTransactionContext
from eth_abi.abi import decode, encode
from eth_typing import Address
from eth_utils.crypto import keccak
from vyper.compiler.input_bundle import CompilerInput, FileInput, FilesystemInputBundle  # type: ignore[import-untyped]
from vyper.compiler.output import build_abi_output  # type: ignore[import-untyped]
from vyper.compiler.phases import CompilerData  # type: ignore[import-untyped]
from vyper.compiler.settings import OptimizationLevel, Settings  # type: ignore[import-untyped]

ROOT = Path(__file__).resolve().parents[2]
CONTRACTS = ROOT / "contracts"

# A call that needs more than this is a mutant that runs wild.
GAS = 12_000_000

# Code that was not optimized is larger than a chain takes.
spurious_dragon.EIP170_CODE_SIZE_LIMIT = 2**17  # type: ignore[attr-defined]

# Who pays the gas is never who calls, so that a contract that looks at the wrong one is seen.
ORIGIN = Address(bytes.fromhex("00000000000000000000000000000000000a11ce"))

Json = dict[str, Any]


class _Sources(FilesystemInputBundle):  # type: ignore[misc]  # the compiler has no types
    """The files of this checkout, some of them replaced."""

    def __init__(self, replaced: Mapping[Path, str]) -> None:
        super().__init__([ROOT, *map(Path, site.getsitepackages())])
        self._replaced = replaced

    def _load_from_path(self, resolved_path: Path, original_path: Path) -> CompilerInput:
        if resolved_path in self._replaced:
            source_id = self._generate_source_id(resolved_path)
            return FileInput(source_id, original_path, resolved_path, self._replaced[resolved_path])
        return super()._load_from_path(resolved_path, original_path)


@dataclass(frozen=True)
class Program:
    """A compiled contract. `code` is its deployment code without metadata: equal code, equal behaviour."""

    code: bytes
    abi: tuple[Json, ...]


def compile_contract(name: str, replaced: Mapping[Path, str] | None = None, *, quick: bool = False) -> Program:
    """Compiles `contracts/<name>.vy` with the sources of some files replaced: as `ape compile` does, or in half the
    time without the optimizer.
    """
    return compile_file(CONTRACTS / f"{name}.vy", replaced, quick=quick)


def compile_file(path: Path, replaced: Mapping[Path, str] | None = None, *, quick: bool = False) -> Program:
    """Compiles any file; it may import from `contracts`."""
    sources = _Sources(replaced or {})
    level = OptimizationLevel.NONE if quick else OptimizationLevel.GAS
    source = sources.load_file(path)
    # What a file says itself cannot be told otherwise.
    if "#pragma optimize codesize" in source.source_code:
        level = OptimizationLevel.CODESIZE
    settings = Settings(optimize=level, evm_version="cancun")
    data = CompilerData(source, sources, settings, no_bytecode_metadata=True)
    return Program(data.bytecode, tuple(build_abi_output(data)))


@cache
def closure(path: Path) -> frozenset[Path]:
    """A contract's file and those of this checkout that it imports, directly or not."""
    found = {path}
    for folder, names in re.findall(r"^from (\.[\w.]*) import (\w+)", path.read_text(), re.MULTILINE):
        dots = len(folder) - len(folder.lstrip("."))
        base = path.parents[dots - 1].joinpath(*folder.lstrip(".").split("."))
        for file in (base / f"{names}.vy", base / f"{names}.vyi"):
            if file.exists():
                found |= closure(file)
    return frozenset(found)


def source_hash(name: str) -> str:
    """Of all sources that a contract is compiled from."""
    digest = hashlib.sha256()
    for path in sorted(closure(CONTRACTS / f"{name}.vy")):
        digest.update(path.read_bytes() + b"\0")
    return digest.hexdigest()


class Event(NamedTuple):
    """An event: which contract, its name, its fields."""

    contract: str
    name: str
    fields: Json


@dataclass(frozen=True)
class Receipt:
    """Outcome of a call. `reason` is why it was refused."""

    ok: bool
    value: Any
    reason: str
    events: tuple[Event, ...]


def _type(item: Json) -> str:
    if item["type"].startswith("tuple"):
        return f"({','.join(map(_type, item['components']))}){item['type'][5:]}"
    return str(item["type"])


def _pack(item: Json, value: Any) -> Any:
    """Structs come as dicts by field name; the order is that of the ABI."""
    if item["type"].endswith("]"):
        element = item | {"type": item["type"][: item["type"].rindex("[")]}
        return [_pack(element, part) for part in value]
    if item["type"] == "tuple":
        assert set(value) == {part["name"] for part in item["components"]}
        return tuple(_pack(part, value[part["name"]]) for part in item["components"])
    return value


def _unpack(item: Json, value: Any) -> Any:
    if item["type"] == "tuple":
        return {part["name"]: _unpack(part, inner) for part, inner in zip(item["components"], value, strict=True)}
    return value


@dataclass(frozen=True)
class _Function:
    selector: bytes
    inputs: list[Json]
    outputs: list[Json]

    def call_data(self, args: Sequence[Any]) -> bytes:
        types = [_type(item) for item in self.inputs]
        return self.selector + encode(types, [_pack(item, arg) for item, arg in zip(self.inputs, args, strict=True)])

    def value(self, output: bytes) -> Any:
        if not self.outputs:
            return None
        (value,) = decode([_type(item) for item in self.outputs], output)
        return _unpack(self.outputs[0], value)


class Deployed:
    """A contract on the chain, spoken to by function names. The ABI is that of the unchanged contract."""

    def __init__(self, name: str, address: str, abi: Sequence[Json]) -> None:
        self.name = name
        self.address = address
        self.functions: dict[tuple[str, int], _Function] = {}
        self.topics: dict[bytes, Json] = {}
        for item in abi:
            if item["type"] not in ("function", "event"):
                continue
            signature = f"{item['name']}({','.join(map(_type, item['inputs']))})"
            if item["type"] == "event":
                self.topics[keccak(text=signature)] = item
            else:
                function = _Function(keccak(text=signature)[:4], item["inputs"], item["outputs"])
                self.functions[item["name"], len(item["inputs"])] = function

    def event(self, topics: Sequence[int], data: bytes) -> Event:
        item = self.topics[topics[0].to_bytes(32, "big")]
        plain = [part for part in item["inputs"] if not part["indexed"]]
        values = iter(decode([_type(part) for part in plain], data))
        indexed = iter(topics[1:])
        fields = {}
        for part in item["inputs"]:
            if part["indexed"]:
                (fields[part["name"]],) = decode([_type(part)], next(indexed).to_bytes(32, "big"))
            else:
                fields[part["name"]] = _unpack(part, next(values))
        return Event(self.name, item["name"], fields)


class Chain:
    """One EVM state. Time stands still unless it is set; each transaction is a block of its own."""

    def __init__(self, chain_id: int = 1) -> None:
        self.env = Env()
        self.chain_id = chain_id
        self.env.evm.patch.chain_id = chain_id
        self.contracts: dict[bytes, Deployed] = {}
        self.now = 1_800_000_000
        self.block = 1_001
        self._origin = ORIGIN

    def deploy(self, name: str, program: Program, abi: Sequence[Json], sender: str, *args: Any) -> Deployed:
        """Deploys a contract at an address that depends on its name alone; a refusal raises its reason."""
        address = Address(keccak(text=name)[12:])
        inputs: list[Json] = next((item["inputs"] for item in abi if item["type"] == "constructor"), [])
        packed = [_pack(item, arg) for item, arg in zip(inputs, args, strict=True)]
        code = program.code + encode([_type(item) for item in inputs], packed)
        self._set_time()
        message = Message(
            to=Address(b""), sender=_raw(sender), gas=4 * GAS, value=0, code=code, create_address=address, data=b""
        )
        result = self._computation.apply_create_message(self._state, message, BaseTransactionContext(0, ORIGIN))
        if result.is_error:
            raise Refused(_reason(result.output))
        deployed = Deployed(name, "0x" + address.hex(), abi)
        deployed_events = self._events({**self.contracts, address: deployed}, result)
        self.contracts[address] = deployed
        self.constructed = deployed_events
        return deployed

    def call(self, contract: Deployed, function: str, *args: Any, sender: str) -> Receipt:
        """Sends a transaction in a block of its own."""
        self.block += 1
        return self.run(contract, function, args, _raw(sender), is_static=False)

    def read(self, contract: Deployed, function: str, *args: Any) -> Any:
        """Asks a view, which must answer."""
        receipt = self.run(contract, function, args, ORIGIN, is_static=True)
        assert receipt.ok, (contract.name, function, receipt.reason)
        return receipt.value

    def run(self, contract: Deployed, name: str, args: Sequence[Any], sender: Address, *, is_static: bool) -> Receipt:
        function = contract.functions[name, len(args)]
        ok, output, events = self.execute(contract, function.call_data(args), sender, is_static=is_static)
        if not ok:
            return Receipt(False, None, _reason(output), ())
        return Receipt(True, function.value(output), "", events)

    def execute(
        self, contract: Deployed, data: bytes, sender: Address, *, is_static: bool
    ) -> tuple[bool, bytes, tuple[Event, ...]]:
        """One message call: whether it went through, what it returned, what it logged."""
        self._set_time()
        address = _raw(contract.address)
        code = self._state.get_code(address)
        message = Message(to=address, sender=sender, gas=GAS, value=0, code=code, data=data, is_static=is_static)
        result = self._computation.apply_message(self._state, message, BaseTransactionContext(0, self._origin))
        if result.is_error:
            return False, bytes(result.output), ()
        return True, bytes(result.output), self._events(self.contracts, result)

    @contextmanager
    def signed_by(self, account: str) -> Iterator[None]:
        """Transactions that this account signed; whom it called calls on, as the sender of each call."""
        self._origin = _raw(account)
        try:
            yield
        finally:
            self._origin = ORIGIN

    def code(self, contract: Deployed) -> bytes:
        """The code that stands at a contract's address."""
        return bytes(self._state.get_code(_raw(contract.address)))

    @contextmanager
    def branch(self) -> Iterator[None]:
        """What happens inside is taken back at its end."""
        snapshot, now, block = self._state.snapshot(), self.now, self.block
        try:
            yield
        finally:
            self._state.revert(snapshot)
            self.now, self.block = now, block

    def _events(self, contracts: Mapping[bytes, Deployed], result: Any) -> tuple[Event, ...]:
        return tuple(
            contracts[address].event(topics, data)
            for address, topics, data in result.get_log_entries()
            if address in contracts
        )

    def _set_time(self) -> None:
        self.env.evm.patch.timestamp = self.now
        self.env.evm.patch.block_number = self.block

    @property
    def _state(self) -> Any:
        return self.env.evm.vm.state

    @property
    def _computation(self) -> Any:
        return self._state.computation_class


class Refused(Exception):
    """A deployment reverted."""


def _raw(address: str) -> Address:
    return Address(bytes.fromhex(address[2:]))


def _reason(output: bytes) -> str:
    if output[:4] == keccak(text="Error(string)")[:4]:
        return str(decode(["string"], output[4:])[0])
    return output.hex()
