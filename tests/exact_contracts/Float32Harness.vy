# pragma version ~=0.4.3
# SPDX-License-Identifier: Apache-2.0
"""
@title The arithmetic of exact programs, callable
@license Apache-2.0
@notice For tests and benchmarks only: exposes `modules/float32.vy`, many operand sets
        a call. Operations are named by their opcodes.
"""
from contracts.modules import float32

_MOST: constant(uint256) = 32_768
_WORD: constant(uint256) = (1 << 32) - 1


@external
@view
def many(op: uint256, sets: DynArray[uint256, _MOST]) -> DynArray[uint256, _MOST]:
    """
    @notice Results of an operation, and what each call of it took.
    @param op The opcode: 2, or 9 to 21.
    @param sets Operands of each, 32 bits apiece from the lowest on; of UNIFORM the key's
           two words, the element, the operation, and 64 bits for the step.
    @return Of each set the result in the low 32 bits, and above it the gas.
    """
    found: DynArray[uint256, _MOST] = []
    for operands: uint256 in sets:
        found.append(self._one(op, operands))
    return found


@external
@view
def chain(
    reduction: uint256,
    accumulator: uint256,
    terms: uint256,
    left: uint256[2],
    right: uint256[2],
) -> uint256:
    """
    @notice Micro-steps of a reduction.
    @param reduction 6, 7 or 8.
    @param accumulator Before them.
    @param terms How many there are.
    @param left First operand of each, eight a word.
    @param right Second operand of each, for a dot.
    @return The result in the low 32 bits, and above it the gas.
    """
    before: uint256 = msg.gas
    result: uint256 = float32._chain(reduction, accumulator, terms, left, right)
    return result | ((before - msg.gas) << 32)


@external
@pure
def identity(reduction: uint256) -> uint256:
    """
    @notice What a block's accumulator starts at.
    @param reduction 6, 7 or 8.
    @return Its bits.
    """
    return float32._identity(reduction)


@external
@pure
def join(reduction: uint256, total: uint256, block_sum: uint256) -> uint256:
    """
    @notice The total after one block more.
    @param reduction 6, 7 or 8.
    @param total Before.
    @param block_sum Of the block.
    @return Its bits.
    """
    return float32._join(reduction, total, block_sum)


@internal
@view
def _one(op: uint256, operands: uint256) -> uint256:
    a: uint256 = operands & _WORD
    b: uint256 = (operands >> 32) & _WORD
    c: uint256 = (operands >> 64) & _WORD
    d: uint256 = (operands >> 96) & _WORD
    e: uint256 = operands >> 128
    r: uint256 = 0
    gas: uint256 = 0
    if op == 2:
        gas = msg.gas
        r = float32._uniform(a, b, e, d, c)
        gas -= msg.gas
    elif op == 9:
        gas = msg.gas
        r = float32._add(a, b)
        gas -= msg.gas
    elif op == 10:
        gas = msg.gas
        r = float32._sub(a, b)
        gas -= msg.gas
    elif op == 11:
        gas = msg.gas
        r = float32._mul(a, b)
        gas -= msg.gas
    elif op == 12:
        gas = msg.gas
        r = float32._div(a, b)
        gas -= msg.gas
    elif op == 13:
        gas = msg.gas
        r = float32._max(a, b)
        gas -= msg.gas
    elif op == 14:
        gas = msg.gas
        r = float32._gt(a, b)
        gas -= msg.gas
    elif op == 15:
        gas = msg.gas
        r = float32._fma(a, b, c)
        gas -= msg.gas
    elif op == 16:
        gas = msg.gas
        r = float32._select(a, b, c)
        gas -= msg.gas
    elif op == 17:
        gas = msg.gas
        r = float32._sqrt(a)
        gas -= msg.gas
    elif op == 18:
        gas = msg.gas
        r = float32._neg(a)
        gas -= msg.gas
    elif op == 19:
        gas = msg.gas
        r = float32._exp(a)
        gas -= msg.gas
    elif op == 20:
        gas = msg.gas
        r = float32._log(a)
        gas -= msg.gas
    elif op == 21:
        gas = msg.gas
        r = float32._bf16(a)
        gas -= msg.gas
    else:
        raise "harness: no such operation"
    return r | (gas << 32)
