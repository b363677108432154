# SPDX-License-Identifier: Apache-2.0
"""Verification: what is right is found right, and of what is wrong the first place is named, with both values."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gpubond.exact import commitments, trace
from gpubond.exact.checkpoints import checkpoint_path
from gpubond.exact.difference import Difference
from gpubond.exact.engine import Array, OnOutput
from gpubond.exact.manifest import MANIFEST
from gpubond.exact.merkle import Kind, root
from gpubond.exact.program import Op, Opcode, Program, StateTensor
from gpubond.exact.reference import value
from gpubond.exact.refusal import Refused
from gpubond.exact.runner import Task, run
from gpubond.exact.tensors import STATE, write_tensors
from gpubond.exact.verify import Verdict, verify

from .small import WIDTH, flip, learner_task, ready, run_to, walker_task

STEPS, INTERVAL = 5, 2


@pytest.fixture(scope="module")
def task() -> Task:
    return learner_task(STEPS, INTERVAL)


@pytest.fixture(scope="module")
def states(task: Task) -> list[Any]:
    """The state after each number of steps."""
    prepared = ready(task)
    found: list[Any] = [task.initial]
    for step in range(STEPS):
        found.append(prepared.step(found[-1], task.data, step))
    return found


@pytest.fixture(scope="module")
def honest(task: Task, states: list[Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's folder, with a trace of step 3: the states of its interval, all outputs, one chain of two blocks."""
    folder = tmp_path_factory.mktemp("honest") / "run"
    run_to(folder, task)
    trace.write_states(folder, 2, [commitments.state(states[3])])
    trace.write_outputs(folder, ready(task), task.data, states[3], 3)
    inputs = [task.data[0][3], states[3][0]]
    trace.write_chain(folder, 3, 0, 4, trace.chain_of(task.program.ops[0], inputs, 4, 3, 0))
    return folder


@pytest.fixture
def copy(honest: Path, tmp_path: Path) -> Iterator[Path]:
    yield Path(shutil.copytree(honest, tmp_path / "copy"))


def without_trace(folder: Path) -> Path:
    shutil.rmtree(folder / "trace")
    return folder


def judged(task: Task, folder: Path, **stretch: Any) -> Verdict:
    return verify(ready(task), task, folder, **stretch)


def difference(task: Task, folder: Path, **stretch: Any) -> Difference:
    found = judged(task, folder, **stretch).difference
    assert found is not None
    return found


def bits(array: Array, element: int) -> int:
    return int(array.reshape(-1)[element : element + 1].view(np.uint32)[0])


def test_an_honest_run_is_found_right(task: Task, honest: Path) -> None:
    verdict = judged(task, honest)
    assert (verdict.begin, verdict.end, verdict.checkpoints, verdict.complete) == (0, 5, 3, True)
    assert verdict.difference is None


@pytest.mark.parametrize(
    ("first", "last", "steps"), [(0, 0, [1, 2]), (1, 1, [3, 4]), (2, 2, [5]), (1, 2, [3, 4, 5]), (0, 1, [1, 2, 3, 4])]
)
def test_any_stretch_is_computed_and_no_more(first: int, last: int, steps: list[int], task: Task, honest: Path) -> None:
    seen: list[int] = []
    verdict = judged(task, honest, first=first, last=last, watch=seen.append)
    assert (seen, verdict.difference) == (steps, None)
    assert (verdict.begin, verdict.end) == (steps[0] - 1, steps[-1])


def test_a_stretch_begins_earlier_where_no_state_was_kept(task: Task, copy: Path) -> None:
    checkpoint_path(copy, 4).unlink()
    seen: list[int] = []
    assert judged(task, copy, first=2, watch=seen.append).difference is None
    assert seen == [3, 4, 5]


@pytest.mark.parametrize(("first", "last"), [(-1, 0), (0, 3), (2, 1), (3, None)])
def test_a_stretch_that_there_is_not_is_refused(first: int, last: int | None, task: Task, honest: Path) -> None:
    with pytest.raises(Refused) as refused:
        judged(task, honest, first=first, last=last)
    assert refused.value.field == "checkpoints"


@pytest.mark.parametrize("bit", [0, 31])
@pytest.mark.parametrize("checkpoint", [0, 1, 2])
@pytest.mark.parametrize("element", [0, WIDTH, 2 * WIDTH - 1])
def test_one_flipped_bit_in_a_checkpoint_is_named(
    checkpoint: int, element: int, bit: int, task: Task, states: list[Any], copy: Path
) -> None:
    step = (2, 4, 5)[checkpoint]
    # The matrix, then the loss, end the file.
    flip(checkpoint_path(copy, step), -4 - 4 * (2 * WIDTH - element) + bit // 8, bit % 8)
    found = difference(task, without_trace(copy))
    ours = bits(states[step][0], element)
    assert (found.what, found.checkpoint, found.step, found.tensor) == ("checkpoint", checkpoint, step - 1, "state.0")
    assert (found.op, found.operation, found.element, found.micro_step) == (7, "FMA", element, 0)
    assert (found.ours, found.theirs) == (f"0x{ours:08x}", f"0x{ours ^ 1 << bit:08x}")
    # What the step multiplies and adds gives our value.
    assert found.operands[2] == f"0x{bits(states[step - 1][0], element):08x}"
    # The interval of the last checkpoint is one step; of the others the copy does not show the state between.
    assert found.assumed == (() if checkpoint == 2 else ("step",))


def test_a_flipped_bit_in_a_sum_names_the_last_micro_step(task: Task, copy: Path) -> None:
    flip(checkpoint_path(copy, 5), -1, 6)
    found = difference(task, copy)
    assert (found.tensor, found.op, found.operation, found.element) == ("state.1", 2, "SUM", 0)
    # Of three terms; what the two before gave is not shown.
    assert (found.micro_step, found.assumed) == (2, ("micro_step",))


def test_a_flipped_bit_that_makes_another_nan_is_a_difference_too(tmp_path: Path) -> None:
    walk = walker_task(2, 1)
    initial = [np.full(70, np.nan, np.float32), *walk.initial[1:]]
    walk = Task(walk.program, initial, [], 2, 1)
    run_to(tmp_path / "run", walk)
    flip(checkpoint_path(tmp_path / "run", 1), -8)
    found = difference(walk, tmp_path / "run")
    assert (found.ours, found.theirs, found.op, found.element) == ("0x7fc00000", "0x7fc00001", 1, 69)


@pytest.mark.parametrize("index", range(8))
def test_one_flipped_bit_in_the_output_of_an_operation_is_named(index: int, task: Task, copy: Path) -> None:
    path = copy / "trace" / "step-3" / f"op-{index}.safetensors"
    for chain in (copy / "trace" / "step-3").glob("*-element-*"):
        chain.unlink()
    flip(path, -1, 5)
    found = difference(task, copy)
    op = task.program.ops[index]
    last = max(int(np.prod(op.shape)) - 1, 0)
    assert (found.what, found.checkpoint, found.step) == ("output", 1, 3)
    assert (found.op, found.operation, found.element) == (index, op.code.name, last)
    assert int(found.ours, 16) ^ int(found.theirs, 16) == 1 << 29
    micro = {0: WIDTH, 1: 1, 2: 2, 5: 2}.get(index, 0)
    assert (found.micro_step, found.assumed) == (micro, ("micro_step",) if micro else ())


@pytest.mark.parametrize("micro", [0, 1, 511, 512, 519, 520])
def test_one_flipped_bit_in_an_accumulator_is_named(micro: int, task: Task, states: list[Any], copy: Path) -> None:
    path = copy / "trace" / "step-3" / "op-0-element-4.safetensors"
    flip(path, -4 * (WIDTH + 1 - micro))
    found = difference(task, copy)
    assert (found.what, found.checkpoint, found.step, found.op) == ("accumulator", 1, 3, 0)
    assert (found.operation, found.element, found.micro_step) == ("MATMUL_NT", 4, micro)
    assert int(found.ours, 16) ^ int(found.theirs, 16) == 1
    assert found.assumed == ()
    if micro < 512:
        # Element 4 is that of row 2 and column 0.
        wanted = (bits(task.data[0][3], 2 * WIDTH + micro), bits(states[3][0], micro))
        assert found.operands[:2] == tuple(f"0x{one:08x}" for one in wanted)
    if micro in (0, 512):
        assert found.operands[2] == "0x00000000"


def test_an_accumulator_and_the_output_made_of_it_name_the_accumulator(task: Task, copy: Path) -> None:
    folder = copy / "trace" / "step-3"
    flip(folder / "op-0-element-4.safetensors", -4 * 9)
    flip(folder / "op-0-element-4.safetensors", -4)
    # Six elements: the last but one.
    flip(folder / "op-0.safetensors", -8)
    found = difference(task, copy)
    assert (found.what, found.op, found.element, found.micro_step) == ("accumulator", 0, 4, WIDTH + 1 - 9)


def test_an_earlier_element_comes_before_an_accumulator(task: Task, copy: Path) -> None:
    folder = copy / "trace" / "step-3"
    flip(folder / "op-0-element-4.safetensors", -4)
    flip(folder / "op-0.safetensors", -4 * 6)
    found = difference(task, copy)
    assert (found.what, found.op, found.element) == ("output", 0, 0)


def test_a_state_within_an_interval_is_named(task: Task, copy: Path, states: list[Any]) -> None:
    wrong = commitments.state(states[2])
    trace.write_states(copy, 2, [wrong])
    found = difference(task, copy)
    assert (found.what, found.checkpoint, found.step) == ("state", 1, 2)
    assert (found.ours, found.theirs) == (commitments.state(states[3]).hex(), wrong.hex())
    assert found.assumed == ()


def changed(folder: Path, change: dict[str, Any]) -> None:
    path = folder / MANIFEST
    path.write_text(json.dumps(json.loads(path.read_text()) | change))


def test_a_manifest_that_lies_and_agrees_with_itself_is_told(task: Task, copy: Path, states: list[Any]) -> None:
    listed = json.loads((copy / MANIFEST).read_text())["checkpoints"]
    listed[1]["state"] = commitments.state(states[3]).hex()
    lie = commitments.run([bytes.fromhex(item["state"]) for item in listed]).hex()
    changed(copy, {"checkpoints": listed, "run": lie})
    found = difference(task, copy)
    assert (found.what, found.checkpoint, found.ours) == ("manifest", 1, commitments.state(states[4]).hex())
    assert found.theirs == listed[1]["state"]
    checkpoint_path(copy, 4).unlink()
    assert difference(task, copy) == found


@pytest.mark.parametrize("name", ["statement", "steps", "interval", "program", "initial", "data", "run"])
def test_a_manifest_of_something_else_is_refused(name: str, task: Task, copy: Path) -> None:
    changed(copy, {name: 6 if name == "steps" else 1 if name == "interval" else "ab" * 32})
    with pytest.raises(Refused) as refused:
        judged(task, copy)
    # Other steps or another interval put the checkpoints elsewhere.
    assert name in refused.value.field or name in ("steps", "interval")


class Lying:
    """An engine that gives one wrong bit in one output, and goes on with that."""

    def __init__(self, task: Task, step: int, op: int, element: int) -> None:
        self.memory_bytes = 0
        self._program: Program = task.program
        self._lie = (step, op, element)

    def step(self, state: Any, data: Any, step: int, on_output: OnOutput | None = None) -> list[Array]:
        held = [*state, *(array[step % len(array)] for array in data)]
        for index, op in enumerate(self._program.ops):
            held.append(self._output(op, [held[at] for at in op.inputs], step, index))
            if on_output is not None:
                on_output(index, held[-1])
        return [np.array(held[tensor.next]) for tensor in self._program.state]

    def _output(self, op: Op, inputs: list[Array], step: int, index: int) -> Array:
        count = int(np.prod(op.shape))
        found = np.array([value(op, inputs, at, step, index) for at in range(count)], np.uint32)
        if (step, index) == self._lie[:2]:
            found[self._lie[2]] ^= 1 << 20
        return found.view(np.float32).reshape(op.shape)


@pytest.mark.parametrize(("step", "op", "element"), [(0, 0, 5), (1, 5, 3), (2, 7, 1000), (3, 2, 0), (4, 3, 2)])
def test_a_liar_that_is_true_to_its_lie_is_found_where_it_lied(
    step: int, op: int, element: int, task: Task, tmp_path: Path
) -> None:
    liar, folder = Lying(task, step, op, element), tmp_path / "run"
    run(liar, task, folder)
    # What the liar shows when it is asked: each step of the interval, by its own states.
    begin = step - step % INTERVAL
    state: Any = task.initial
    shown = []
    for at in range(step + 1):
        if at == step:
            trace.write_outputs(folder, liar, task.data, state, at)
        state = liar.step(state, task.data, at)
        if begin <= at:
            shown.append(commitments.state(state))
    trace.write_states(folder, begin, shown)
    found = difference(task, folder)
    assert (found.what, found.checkpoint, found.step) == ("output", step // INTERVAL, step)
    assert (found.op, found.element) == (op, element)
    assert int(found.ours, 16) ^ int(found.theirs, 16) == 1 << 20


def test_a_liar_that_shows_no_trace_is_found_by_its_checkpoint(task: Task, tmp_path: Path) -> None:
    run(Lying(task, 2, 0, 0), task, tmp_path / "run")
    found = difference(task, tmp_path / "run")
    assert (found.what, found.checkpoint, "step" in found.assumed) == ("checkpoint", 1, True)


def test_a_tensor_that_was_to_stay_as_it_is_has_no_operation(tmp_path: Path) -> None:
    ops = (Op(Opcode.NEG, (1,), ((),), ()),)
    program = Program((StateTensor((3,), 0), StateTensor((), 2)), (), ops)
    task = Task(program, [np.ones(3, np.float32), np.ones((), np.float32)], [], 2, 1)
    run_to(tmp_path / "run", task)
    assert judged(task, tmp_path / "run").difference is None
    flip(checkpoint_path(tmp_path / "run", 2), -8)
    found = difference(task, tmp_path / "run")
    assert (found.what, found.checkpoint, found.step, found.tensor) == ("checkpoint", 1, 1, "state.0")
    assert (found.op, found.element, found.ours, found.theirs) == (None, 2, "0x3f800000", "0x3f800001")


@pytest.mark.parametrize("name", ["op-0.safetensors", "op-0-element-4.safetensors"])
def test_a_trace_of_another_form_is_refused(name: str, task: Task, copy: Path) -> None:
    path = copy / "trace" / "step-3" / name
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(Refused):
        judged(task, copy)
    write_tensors(path, STATE, task.initial)
    with pytest.raises(Refused) as refused:
        judged(task, copy)
    assert refused.value.field.startswith(name)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"states": ["00"]}', '{"states": [1]}', '{"states": {"a": 1}}'])
def test_states_of_another_form_are_refused(text: str, task: Task, copy: Path) -> None:
    (copy / "trace" / "states-2.json").write_text(text)
    with pytest.raises(Refused):
        judged(task, copy)


def test_roots_of_what_lies_between_are_those_of_the_page(task: Task, states: list[Any]) -> None:
    prepared = ready(task)
    between = [commitments.state(states[at]) for at in (1, 2, 3)]
    assert trace.interval_root(prepared, task.data, states[0], 0, 4) == root(Kind.INTERVAL, between)
    assert trace.interval_root(prepared, task.data, states[0], 0, 1) == bytes(32)
    outputs = trace.outputs_of(prepared, task.data, states[1], 1, range(8))
    hashed = [commitments.tensor(outputs[at]) for at in range(8)]
    assert trace.step_root(prepared, task.data, states[1], 1) == root(Kind.STEP, hashed)


@pytest.mark.parametrize("element", [-1, 6])
def test_a_chain_of_an_element_that_there_is_not(element: int, task: Task) -> None:
    with pytest.raises(Refused) as refused:
        trace.chain_of(task.program.ops[0], [task.data[0][0], task.initial[0]], element, 0, 0)
    assert refused.value.field == "element"


def test_more_memory_than_allowed_is_refused(task: Task, honest: Path) -> None:
    with pytest.raises(Refused) as refused:
        judged(task, honest, memory_bytes=1000)
    assert refused.value.field == "memory"
