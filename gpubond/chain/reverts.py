# SPDX-License-Identifier: Apache-2.0
"""Why a contract refused, in words."""

from __future__ import annotations

from typing import Any

from eth_abi.abi import decode
from eth_abi.exceptions import DecodingError
from web3.exceptions import ContractLogicError, Web3RPCError

ERROR_SELECTOR = bytes.fromhex("08c379a0")  # Error(string)
PANIC_SELECTOR = bytes.fromhex("4e487b71")  # Panic(uint256)

# How nodes word a call that failed in the virtual machine.
_VM_FAILURES = ("revert", "invalid opcode", "out of gas", "gas required exceeds", "evm error", "vm exception")

_PANICS = {
    0x01: "an assertion failed",
    0x11: "arithmetic overflow",
    0x12: "division by zero",
    0x21: "a value outside its enumeration",
    0x32: "an index out of bounds",
    0x41: "too much memory",
}


def is_revert(error: Exception) -> bool:
    """Whether the contract refused, as opposed to a node that failed."""
    if isinstance(error, ContractLogicError):
        return True
    text = str(error).lower()
    return isinstance(error, Web3RPCError) and any(sign in text for sign in _VM_FAILURES)


def revert_reason(error: Exception) -> str:
    """The reason that a refused call gives: the contract's own words where it has some."""
    data = _revert_data(error)
    if data[:4] == ERROR_SELECTOR:
        try:
            # Not every compiler checks that a reason is UTF-8.
            raw: bytes = decode(["bytes"], data[4:], strict=False)[0]
            return raw.decode("utf-8", "replace")
        except DecodingError:
            return "0x" + data.hex()
    if data[:4] == PANIC_SELECTOR and len(data) == 36:
        code = int.from_bytes(data[4:], "big")
        return _PANICS.get(code, f"panic 0x{code:02x}")
    if data:
        return f"error 0x{data[:4].hex()} with data 0x{data[4:].hex()}"
    message = str(getattr(error, "message", None) or error)
    for prefix in ("execution reverted: ", "VM Exception while processing transaction: revert "):
        if message.startswith(prefix):
            return message.removeprefix(prefix)
    return "no reason given" if message.lower().rstrip(".:, ") in ("", "execution reverted") else message


def _revert_data(error: Exception) -> bytes:
    data: Any = getattr(error, "data", None)
    if isinstance(data, dict):
        data = data.get("data") or data.get("result")
    if isinstance(data, str):
        text = data.removeprefix("Reverted ")
        if text.startswith("0x"):
            try:
                return bytes.fromhex(text[2:])
            except ValueError:
                return b""
    return b""
