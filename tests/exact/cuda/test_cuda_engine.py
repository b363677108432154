# SPDX-License-Identifier: Apache-2.0
"""Whole programs on the CUDA engine: memory planned, state kept on the device, outputs told."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import HealthCheck, given, seed, settings

from gpubond.exact.cuda import launches
from gpubond.exact.cuda.device import Device
from gpubond.exact.cuda.launches import LARGE, MIDDLE, SKINNY, Choices
from gpubond.exact.cuda.layout import ALIGNMENT, Area, is_alias, plan
from gpubond.exact.cuda_engine import CudaEngine
from gpubond.exact.engine import Array
from gpubond.exact.numpy_engine import NumpyEngine
from gpubond.exact.program import Op, Opcode, Program, StateTensor
from gpubond.exact.refusal import Refused
from gpubond.exact.shapes import count
from tests.exact import example_programs
from tests.exact.conftest import Counted
from tests.exact.programs import Case, differences, every_operation, programs
from tests.exact.values import tensor

from .simulated_gpu import SimulatedGpu

NUMPY = NumpyEngine()
SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture]


def neg(source: int, shape: tuple[int, ...]) -> Op:
    return Op(Opcode.NEG, (source,), (shape,), shape)


def add(left: int, right: int, shape: tuple[int, ...]) -> Op:
    return Op(Opcode.ADD, (left, right), (shape, shape), shape)


@settings(max_examples=150, deadline=None, suppress_health_check=SLOW)
@given(case=programs())
def test_random_programs(device: Device, case: Case) -> None:
    assert not differences(CudaEngine(device), NUMPY, case, steps=2)


@pytest.mark.parametrize("choices", [Choices(1 << 30), *(Choices(1, tile=tile) for tile in (LARGE, MIDDLE, SKINNY))])
@settings(max_examples=20, deadline=None, suppress_health_check=SLOW)
@given(case=programs())
def test_random_programs_with_work_divided_in_other_ways(device: Device, choices: Choices, case: Case) -> None:
    assert not differences(CudaEngine(device, choices), NUMPY, case, steps=2)


@pytest.mark.extended
@pytest.mark.timeout(3600)
def test_ten_thousand_random_programs(device: Device, counted: Counted) -> None:
    counted(10_000, 7)

    @seed(7)
    @settings(max_examples=10_000, deadline=None, database=None, suppress_health_check=SLOW)
    @given(case=programs(most_ops=20))
    def agree(case: Case) -> None:
        assert not differences(CudaEngine(device), NUMPY, case, steps=2)
        assert not differences(CudaEngine(device, Choices(1 << 30)), NUMPY, case, steps=1)

    agree()


def test_every_operation_in_one_program(device: Device) -> None:
    case = every_operation()
    assert {op.code for op in case.program.ops} == set(Opcode)
    assert not differences(CudaEngine(device), NUMPY, case, steps=4)


@pytest.mark.parametrize("made", [example_programs.training, example_programs.emptiness], ids=["training", "emptiness"])
@pytest.mark.parametrize("choices", [None, Choices(1 << 30)], ids=["whole", "split"])
def test_small_real_programs(device: Device, made: Callable[[], Case], choices: Choices | None) -> None:
    assert not differences(CudaEngine(device, choices), NUMPY, made(), steps=6)


def test_many_steps_at_once_give_what_single_ones_give(device: Device) -> None:
    case = every_operation()
    with_steps = CudaEngine(device).prepare(case.program)
    state = list(case.state)
    told: list[tuple[int, bytes]] = []
    for step in range(5, 12):
        state = NUMPY.prepare(case.program).step(state, case.data, step)
    found = with_steps.steps(case.state, case.data, 5, 7, lambda at, output: told.append((at, output.tobytes())))
    assert [array.tobytes() for array in found] == [array.tobytes() for array in state]
    assert [at for at, _ in told] == list(range(len(case.program.ops))) * 7


def test_state_tensors_change_places_and_copy_one_another(device: Device) -> None:
    shape = (3,)
    states = tuple(StateTensor(shape, at) for at in (1, 0, 1, 4, 5, 5, 8))
    # Tensor 7 is the slice of the data, 8 shows it, 9 is an operation's output that nothing needs.
    shown = Op(Opcode.VIEW, (7,), (shape,), shape, (0, 1, 0, 0, 0))
    program = Program(states, ((2, 3),), (shown, neg(0, shape)))
    case = Case(program, tuple(tensor(at, shape) for at in range(7)), (tensor(9, (2, 3)),), 0)
    assert not differences(CudaEngine(device), NUMPY, case, steps=5)


def test_views_that_lie_in_their_input_outlive_it(device: Device) -> None:
    """The output is written over once nothing reads it, and a view counts as reading."""
    shape, half = (8,), (4,)
    view = Op(Opcode.VIEW, (2,), (shape,), half, (4, 1, 0, 0, 0))
    inner = Op(Opcode.VIEW, (3,), (half,), (2, 2), (0, 2, 1, 0, 0))
    # 1: next state; 2: what is looked into; 3, 4: views; 5 to 7 would take the place of 2.
    ops = (neg(0, shape), neg(1, shape), view, inner, neg(1, shape), neg(5, shape), neg(6, shape), neg(4, (2, 2)))
    program = Program((StateTensor(shape, 1),), (), ops)
    case = Case(program, (tensor(1, shape),), (), 0)
    assert not differences(CudaEngine(device), NUMPY, case, steps=2)
    layout = plan(program, lambda op: 0)
    assert layout.tensors[3] == layout.tensors[2].plus(4) and layout.tensors[4] == layout.tensors[3]


def test_a_view_can_be_the_next_state(device: Device) -> None:
    turn = Op(Opcode.VIEW, (2,), ((6,),), (2, 3), (0, 3, 1, 0, 0))
    flat = Op(Opcode.VIEW, (0,), ((2, 3),), (6,), (0, 1, 0, 0, 0))
    program = Program((StateTensor((2, 3), 3), StateTensor((6,), 4)), (), (neg(1, (6,)), turn, flat))
    case = Case(program, (tensor(1, (2, 3)), tensor(2, (6,))), (), 0)
    assert not differences(CudaEngine(device), NUMPY, case, steps=3)


def test_what_nothing_needs_is_not_carried_out_unless_it_is_asked_for(simulated: SimulatedGpu) -> None:
    shape = (3,)
    program = Program((StateTensor(shape, 2),), (), (add(0, 0, shape), neg(0, shape), add(1, 2, shape)))
    prepared = CudaEngine(simulated).prepare(program)
    del simulated.launched[:]
    prepared.step([tensor(1, shape)], [], 0)
    assert simulated.launched == ["op_neg"]
    prepared.step([tensor(1, shape)], [], 0, lambda at, output: None)
    assert simulated.launched == ["op_neg", "op_add", "op_neg", "op_add"]


def test_memory_is_planned_bounded_and_given_back(simulated: SimulatedGpu) -> None:
    shape = (1000,)
    before = simulated.held
    chain = tuple(neg(at, shape) for at in range(50))
    program = Program((StateTensor(shape, 50),), (), chain)
    prepared = CudaEngine(simulated).prepare(program)
    # State, next state, and the two that a link of the chain has to do with.
    assert prepared.memory_bytes == 4 * 4096 and simulated.held - before == prepared.memory_bytes + 1
    prepared.close()
    prepared.close()
    assert simulated.held == before
    prepared = CudaEngine(simulated).prepare(program)
    del prepared
    assert simulated.held == before


def test_memory_that_the_device_has_not_is_refused_before_anything_runs(
    device: Device, simulated: SimulatedGpu
) -> None:
    shape, many = (2**31 - 1,), 3000
    constants = [Op(Opcode.CONST, (), (), shape, (0,))] * many
    users = [neg(at, shape) for at in range(1, many + 1)]
    program = Program((StateTensor((), 0),), (), (*constants, *users))
    before = simulated.held
    with pytest.raises(MemoryError, match=rf"needs {2 * 256 + (many + 1) * 2**33} bytes on"):
        CudaEngine(device).prepare(program)
    assert simulated.held == before


def overlaps(program: Program, choices: Choices) -> list[str]:
    """Tensors of the plan that lie upon one another while both are needed, found by looking at every pair."""
    layout = plan(program, lambda op: launches.scratch_bytes(op, choices))
    first = program.first_output
    last = [at - first for at in range(len(program.shapes))]
    for position, op in enumerate(program.ops):
        for number in op.inputs:
            last[number] = position
    for state in program.state:
        last[state.next] = len(program.ops)
    pieces = [
        (f"tensor {at}", place, count(shape) * 4, max(0, at - first), last[at])
        for at, (place, shape) in enumerate(zip(layout.tensors, program.shapes, strict=True))
    ]
    pieces += [
        (f"scratch {at}", place, launches.scratch_bytes(program.ops[at], choices), at, at)
        for at, place in enumerate(layout.scratch)
        if place is not None
    ]
    found = []
    for number, (name, place, size, begin, end) in enumerate(pieces):
        assert place.offset + size <= layout.sizes[place.area]
        for other, elsewhere, room, start, stop in pieces[:number]:
            upon = place.offset < elsewhere.offset + room and elsewhere.offset < place.offset + size
            if place.area is elsewhere.area and size and room and upon and begin <= stop and start <= end:
                found.append(f"{other} and {name}")
    return found


@settings(max_examples=200, deadline=None, suppress_health_check=SLOW)
@given(case=programs(most_ops=20))
def test_nothing_lies_upon_what_is_needed_yet(case: Case) -> None:
    program = case.program
    first = program.first_output
    views = {first + at for at, op in enumerate(program.ops) if is_alias(op)}
    for pair in overlaps(program, Choices(1 << 30)):
        # A view that lies in its input.
        assert int(pair.split()[-1]) in views or int(pair.split()[1]) in views, pair


def test_areas_begin_at_whole_lines_for_every_tensor() -> None:
    layout = plan(every_operation().program, lambda op: 4)
    assert all(place.offset % ALIGNMENT == 0 for place in layout.tensors)
    assert layout.sizes[Area.STATE] == layout.sizes[Area.NEXT]


@pytest.mark.parametrize(
    ("state", "data", "field"),
    [
        ([], [np.zeros((2, 3), np.float32)], "state"),
        ([np.zeros((3,), np.float32)], [], "data"),
        ([np.zeros((4,), np.float32)], [np.zeros((2, 3), np.float32)], "state[0]"),
        ([np.zeros((3,), np.float64)], [np.zeros((2, 3), np.float32)], "state[0]"),
        ([np.zeros((3,), np.float32)], [np.zeros((3,), np.float32)], "data[0]"),
    ],
)
def test_arrays_of_other_shapes_are_refused(device: Device, state: list[Array], data: list[Array], field: str) -> None:
    program = Program((StateTensor((3,), 2),), ((2, 3),), (add(0, 1, (3,)),))
    with pytest.raises(Refused) as refused:
        CudaEngine(device).prepare(program).step(state, data, 0)
    assert refused.value.field == field


def test_arrays_that_are_not_contiguous_are_taken_as_they_are(device: Device) -> None:
    program = Program((StateTensor((3, 2), 2),), ((2, 3, 2),), (add(0, 1, (3, 2)),))
    state, data = tensor(1, (2, 3)).T, tensor(2, (2, 2, 3)).transpose(0, 2, 1)
    assert not differences(CudaEngine(device), NUMPY, Case(program, (state,), (data,), 0))


def test_the_state_handed_over_is_neither_kept_nor_changed(device: Device) -> None:
    case = every_operation()
    before = [array.tobytes() for array in (*case.state, *case.data)]
    prepared = CudaEngine(device).prepare(case.program)
    first = prepared.step(case.state, case.data, 0)
    kept = [array.tobytes() for array in first]
    prepared.step(case.state, case.data, 1)
    assert [array.tobytes() for array in (*case.state, *case.data)] == before
    assert [array.tobytes() for array in first] == kept and all(array.flags.writeable for array in first)


def test_large_products_use_large_tiles_and_few_tiles_share_sums() -> None:
    def kernels(m: int, n: int, k: int, processors: int = 132) -> list[str]:
        op = Op(Opcode.MATMUL_NT, (0, 1), ((m, k), (n, k)), (m, n))
        choices = Choices(processors)
        layout = plan(Program((StateTensor((m, k), 0), StateTensor((n, k), 1)), (), (op,)), lambda _: 4)
        scratch = layout.scratch[0] if launches.scratch_bytes(op, choices) else None
        made = launches.launches(op, 0, layout.tensors[:2], layout.tensors[2], scratch, choices)
        return [launch.kernel for launch in made]

    assert kernels(4096, 4096, 4096) == ["matmul_128x128"]
    assert kernels(1024, 1024, 1024) == ["matmul_64x64"]
    assert kernels(512, 10, 60_000) == ["matmul_8x128", "join_sum"]
    assert kernels(256, 256, 2048) == ["matmul_64x64", "join_sum"]
    assert kernels(256, 256, 512) == ["matmul_64x64"]
    assert kernels(1, 2048, 2048) == kernels(2048, 1, 2048) == ["matmul_8x128", "join_sum"]
    # Block sums would take more memory than they may.
    assert kernels(700, 700, 512 * 1000, 10_000) == ["matmul_64x64"]


def test_transposes_are_turned_by_tiles_and_other_views_are_not() -> None:
    turned = Op(Opcode.VIEW, (0,), ((40, 70),), (70, 40), (0, 1, 70, 0, 0))
    strided = Op(Opcode.VIEW, (0,), ((40, 70),), (40, 35), (0, 70, 2, 0, 0))
    place = plan(Program((StateTensor((40, 70), 0),), (), (turned, strided)), lambda _: 0).tensors
    kernels = [
        launches.launches(op, at, place[:1], place[1 + at], None, Choices())[0].kernel
        for at, op in enumerate((turned, strided))
    ]
    assert kernels == ["view_turned", "view"]
