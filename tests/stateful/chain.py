# SPDX-License-Identifier: Apache-2.0
"""The real contracts on titanoboa, called by their compiled bytecode and read slot by slot."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import boa
from boa.contracts.vyper.vyper_contract import VyperContract
from boa.interpret import set_cache_dir
from eth_abi.abi import decode, encode
from eth_utils.crypto import keccak
from vyper.compiler import CompilerData

from .model import Refused

CONTRACTS = Path(__file__).resolve().parents[2] / "contracts"
# Address, topics, data.
Log = tuple[bytes, tuple[int, ...], bytes]
ERROR = bytes.fromhex("08c379a0")  # Error(string)

# Nothing is written to the user's home.
set_cache_dir(str(CONTRACTS.parent / ".cache" / "titanoboa"))


def load(contracts: Path, name: str, *args: Any) -> VyperContract:
    """Deploys a contract of a copy of the project's folder."""
    return boa.load(str(contracts / f"{name}.vy"), *args)


class Function:
    """One external function, called without boa's stack traces, which cost more than the call."""

    def __init__(self, contract: VyperContract, abi: dict[str, Any]) -> None:
        self.address = contract.address
        self.inputs = [_kind(item) for item in abi["inputs"]]
        self.outputs = [_kind(item) for item in abi["outputs"]]
        self.components = abi["inputs"]
        self.selector = keccak(f"{abi['name']}({','.join(self.inputs)})".encode())[:4]

    def call_data(self, *args: Any) -> bytes:
        """Selector and arguments; structs may be dicts."""
        values = [_plain(item, value) for item, value in zip(self.components, args, strict=True)]
        return self.selector + encode(self.inputs, values)

    def __call__(self, sender: str, *args: Any) -> Any:
        """Calls as `sender`; returns the value. Raises Refused with the contract's reason."""
        return self.logged(sender, *args)[0]

    def logged(self, sender: str, *args: Any) -> tuple[Any, list[Log]]:
        """As a call; returns the value and the logs of all contracts."""
        computation = boa.env.execute_code(to_address=self.address, sender=sender, data=self.call_data(*args))
        if computation.is_error:
            raise Refused(_reason(computation.output))
        found = decode(self.outputs, computation.output) if self.outputs else (None,)
        return found[0] if len(found) == 1 else found, list(computation.get_log_entries())


class Deployed:
    """A contract with its functions, and its storage by variable and keys."""

    def __init__(self, contract: VyperContract) -> None:
        self.address = str(contract.address)
        self._address = contract.address
        abi = [item for item in contract.abi if item["type"] == "function"]
        # A default argument makes two functions of one name; the whole one is the longest.
        self.functions: dict[str, Function] = {}
        for item in sorted(abi, key=lambda entry: len(entry["inputs"])):
            self.functions[item["name"]] = Function(contract, item)
        self._slots = _positions(contract.compiler_data)
        # Boa describes a contract that it knows with all of its storage at every revert: slower and slower.
        boa.env._contracts.pop(contract.address.canonical_address, None)

    def slot(self, variable: str, *keys: str | bytes | int) -> int:
        """Value of a variable, or of an entry of a mapping."""
        position = self._slots[variable]
        for key in keys:
            position = int.from_bytes(keccak(position.to_bytes(32, "big") + _word(key)), "big")
        return int(boa.env.evm.get_storage(self._address, position))


def _positions(compiled: CompilerData) -> dict[str, int]:
    found: dict[str, int] = {}

    def walk(layout: dict[str, Any]) -> None:
        for name, entry in layout.items():
            if isinstance(entry.get("slot"), int):
                found[name] = entry["slot"]
            else:
                walk(entry)

    walk(compiled.storage_layout["storage_layout"])
    return found


def _word(key: str | bytes | int) -> bytes:
    if isinstance(key, int):
        return key.to_bytes(32, "big")
    raw = bytes.fromhex(key.removeprefix("0x")) if isinstance(key, str) else key
    return raw.rjust(32, b"\0")


def _kind(item: dict[str, Any]) -> str:
    if item["type"].startswith("tuple"):
        inner = ",".join(_kind(part) for part in item["components"])
        return str(f"({inner})" + item["type"].removeprefix("tuple"))
    return str(item["type"])


def _plain(item: dict[str, Any], value: Any) -> Any:
    """Structs as tuples in the ABI's order."""
    if item["type"] == "tuple":
        parts = item["components"]
        values: Sequence[Any] = [value[part["name"]] for part in parts] if isinstance(value, dict) else value
        return tuple(_plain(part, field) for part, field in zip(parts, values, strict=True))
    if item["type"].startswith("tuple["):
        single = item | {"type": "tuple"}
        return [_plain(single, entry) for entry in value]
    return value


def _reason(output: bytes) -> str:
    if output[:4] == ERROR:
        return str(decode(["string"], output[4:])[0])
    return "" if not output else f"panic {output.hex()}"
