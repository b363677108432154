# SPDX-License-Identifier: Apache-2.0
"""Commitments against the bytes that docs/exact.md writes down, and what a reveal may not hide."""

from __future__ import annotations

import struct
from dataclasses import replace
from hashlib import sha256

import numpy as np
import pytest

from gpubond.exact import commitments
from gpubond.exact.commitments import Statement
from gpubond.exact.refusal import Refused

from .small import learner, learner_task
from .test_merkle import plain_root


def plain_tensor(array: np.ndarray) -> bytes:
    content = array.astype("<f4").tobytes()
    content += bytes(-len(content) % 256)
    root = plain_root(1, [content[at : at + 256] for at in range(0, len(content), 256)])
    head = bytes([0x80]) + struct.pack(">6I", 1, array.ndim, *array.shape, *[0] * (4 - array.ndim))
    return sha256(head + root).digest()


@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (64,), (65,), (5, 7), (2, 3, 4, 5)])
def test_a_tensor(shape: tuple[int, ...]) -> None:
    array = np.random.default_rng(2).standard_normal(shape).astype(np.float32)
    assert commitments.tensor(array) == plain_tensor(array)
    if array.size > 1 and array.ndim > 1:
        # The order of elements is that of the shape, wherever they lie in memory.
        assert commitments.tensor(np.asfortranarray(array)) == plain_tensor(array)


def test_shape_and_bits_are_committed_to() -> None:
    zeros = np.zeros((2, 3), np.float32)
    seen = {commitments.tensor(array) for array in (zeros, zeros.reshape(3, 2), zeros.reshape(6), -zeros)}
    assert len(seen) == 4


def test_program_state_data_run_and_statement() -> None:
    task = learner_task(steps=5, interval=2)
    program = learner()
    records = program.encode()
    root = plain_root(2, [records[at : at + 128] for at in range(0, len(records), 128)])
    state = plain_root(3, [plain_tensor(array) for array in task.initial])
    data = plain_root(4, [plain_tensor(array) for array in task.data])
    assert commitments.program(program) == root
    assert commitments.state(task.initial) == state
    assert commitments.data(task.data) == data
    assert commitments.run([state, data]) == plain_root(5, [state, data])
    said = commitments.statement(program, task.initial, task.data, 5, 2)
    words = struct.pack(">4I2Q", 1, 2, 1, 8, 5, 2)
    assert said.hash() == sha256(bytes([0x81]) + words + root + state + data).digest()


@pytest.mark.parametrize(
    ("steps", "interval", "wanted"), [(1, 1, [1]), (5, 2, [2, 4, 5]), (4, 2, [2, 4]), (3, 9, [3]), (1, 2**63, [1])]
)
def test_checkpoints(steps: int, interval: int, wanted: list[int]) -> None:
    count = commitments.checkpoints(steps, interval)
    assert [commitments.checkpoint_step(number, steps, interval) for number in range(count)] == wanted


@pytest.mark.parametrize(("name", "value"), [("steps", 0), ("steps", 1 << 64), ("interval", 0), ("interval", -1)])
def test_a_statement_has_no_room_for_it(name: str, value: int) -> None:
    fine = Statement(1, 0, 1, 1, 1, bytes(32), bytes(32), bytes(32))
    with pytest.raises(Refused) as refused:
        replace(fine, **{name: value})
    assert refused.value.field == name


def test_a_reveal_opens_its_tensor_and_no_other() -> None:
    array = np.random.default_rng(3).standard_normal((10, 33)).astype(np.float32)
    for index in range(6):
        shown = commitments.reveal(array, index)
        assert shown.commitment() == commitments.tensor(array)
        element = 64 * index + 3
        assert shown.bits(element) == int(array.reshape(-1)[element : element + 1].view(np.uint32)[0])
    flipped = bytes([shown.leaf[0] ^ 1]) + shown.leaf[1:]
    assert replace(shown, leaf=flipped).commitment() != commitments.tensor(array)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"leaf": bytes(255)}, "reveal.leaf"),
        ({"leaf": bytes(255) + b"\1"}, "reveal.leaf"),
        ({"index": 6}, "reveal.index"),
        ({"index": -1}, "reveal.index"),
        ({"path": (bytes(32),) * 2}, "opening.path"),
        ({"path": (b"\1" * 32,) * 3}, "opening.path[1]"),
    ],
)
def test_a_reveal_of_another_form_is_refused(change: dict[str, object], field: str) -> None:
    fine = commitments.reveal(np.ones(330, np.float32), 5)
    with pytest.raises(Refused) as refused:
        replace(fine, **change).commitment()  # type: ignore[arg-type]
    assert refused.value.field == field


@pytest.mark.parametrize("element", [319, 330, 384, -1])
def test_a_reveal_tells_only_its_own_elements(element: int) -> None:
    with pytest.raises(Refused):
        commitments.reveal(np.ones(330, np.float32), 5).bits(element)
