# SPDX-License-Identifier: Apache-2.0
"""titanoboa without its traces: the same machine, several times as fast.

Opcodes that move words on stack and memory or jump run here; all others (arithmetic, storage, calls, logs, hashes) are
py-evm's. Gas is not counted. `test_stateful.py` compares both ways of running on the same calls.
"""

from __future__ import annotations

from functools import cache, lru_cache
from typing import Any

import boa
from boa.vm import py_evm
from boa.vm.gas_meters import NoGasMeter
from eth.exceptions import Halt, InvalidJumpDestination, OutOfGas
from eth_hash.auto import keccak

POP, JUMP, JUMPI, JUMPDEST = 0x50, 0x56, 0x57, 0x5B
MLOAD, MSTORE, MOST_MEMORY = 0x51, 0x52, 2**22
PUSH0, PUSH32, DUP1, DUP16, SWAP1, SWAP16 = 0x5F, 0x7F, 0x80, 0x8F, 0x90, 0x9F


class Unmetered(NoGasMeter):  # type: ignore[misc]
    """As much gas as anyone wants."""

    start_gas = gas_remaining = 10**12
    gas_refunded = 0


@lru_cache(64)
def _scan(code: bytes) -> tuple[dict[int, int], frozenset[int]]:
    """What each PUSH pushes, and where one may jump to."""
    pushed, targets, position = {}, set(), 0
    while position < len(code):
        opcode = code[position]
        if PUSH0 <= opcode <= PUSH32:
            size = opcode - PUSH0
            pushed[position] = int.from_bytes(code[position + 1 : position + 1 + size].ljust(size, b"\0"), "big")
            position += size
        elif opcode == JUMPDEST:
            targets.add(position)
        position += 1
    return pushed, frozenset(targets)


def _run(computation: Any) -> None:  # noqa: PLR0912 - one branch a kind of opcode
    """Runs a contract's code until it halts."""
    code, values, opcodes = computation.code, computation._stack.values, _logic(computation.__class__)
    memory = computation._memory._bytes
    raw = bytes(code._raw_code_bytes)
    pushed, targets = _scan(raw)
    position, append, pop = 0, values.append, values.pop
    while position < len(raw):
        opcode = raw[position]
        if PUSH0 <= opcode <= PUSH32:
            append(pushed[position])
            position += 1 + opcode - PUSH0
        elif DUP1 <= opcode <= DUP16:
            append(values[DUP1 - opcode - 1])
            position += 1
        elif SWAP1 <= opcode <= SWAP16:
            other = SWAP1 - opcode - 2
            values[-1], values[other] = values[other], values[-1]
            position += 1
        elif opcode == JUMPDEST:
            position += 1
        elif opcode == POP:
            pop()
            position += 1
        elif opcode in (MLOAD, MSTORE):
            start = _number(pop())
            end = start + 32
            if end > len(memory):
                _extend(memory, end)
            if opcode == MLOAD:
                append(bytes(memory[start:end]))
            else:
                value = pop()
                memory[start:end] = value.to_bytes(32, "big") if isinstance(value, int) else value.rjust(32, b"\0")
            position += 1
        elif opcode in (JUMP, JUMPI):
            target = _number(pop())
            if opcode == JUMP or _number(pop()):
                if target not in targets:
                    raise InvalidJumpDestination("no such destination")
                position = target
            else:
                position += 1
        else:
            code.program_counter = position + 1
            try:
                opcodes[opcode](computation)
            except Halt:
                return
            position = code.program_counter


def _extend(memory: bytearray, end: int) -> None:
    """Memory grows by words; more than a contract of ours could use ends the call, as it would by gas."""
    if end > MOST_MEMORY:
        raise OutOfGas("too much memory")
    memory.extend(bytes(-(-end // 32) * 32 - len(memory)))


def _extend_memory(computation: Any, start: int, size: int) -> None:
    if size and start + size > len(computation._memory._bytes):
        _extend(computation._memory._bytes, start + size)


@cache
def _logic(machine: Any) -> dict[int, Any]:
    """What each opcode does, without counting gas where that is apart."""
    return {opcode: getattr(entry, "logic_fn", entry) for opcode, entry in machine.opcodes.items()}


def _number(value: int | bytes) -> int:
    return value if isinstance(value, int) else int.from_bytes(value, "big")


def quicken() -> None:
    """From here on this process runs contracts without traces and gas."""
    machine: Any = boa.env.evm.vm.state.computation_class
    if getattr(machine, "_is_quick", False):
        return
    usual = machine.apply_computation.__func__

    def apply_computation(cls: Any, state: Any, message: Any, context: Any, parent_computation: Any = None) -> Any:
        if message.is_create or message.code_address in cls._precompiles:
            return usual(cls, state, message, context, parent_computation=parent_computation)
        with cls(state, message, context) as computation:
            computation.contracts_created = [] if parent_computation is None else parent_computation.contracts_created
            _run(computation)
        return computation

    machine.apply_computation = classmethod(apply_computation)
    machine.extend_memory = _extend_memory
    machine._is_quick = True
    # Hashes of the same mapping keys come again and again.
    keccak(b"")
    plain = keccak.hasher
    cached = lru_cache(200_000)(plain)
    keccak.hasher = lambda in_data: cached(bytes(in_data))
    boa.env.set_gas_meter_class(Unmetered)
    # The tracers of hashes and of stores.
    py_evm._opcode_overrides.clear()
