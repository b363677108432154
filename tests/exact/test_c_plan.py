# SPDX-License-Identifier: Apache-2.0
"""What plans decide: where elements of views stand, what runs in one pass, what is left out, and where memory is."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from gpubond.exact.c_plan import plan, plan_trace
from gpubond.exact.live import live_bytes
from gpubond.exact.program import Opcode, Program
from gpubond.exact.shapes import MAX_RANK, Shape, count, row_major
from gpubond.exact.strided import Ref
from gpubond.exact.views import collapse
from tests.exact.c_cases import Builder
from tests.exact.values import tensor

KINDS = {1: "pass", 2: "copy", 3: "gather", 4: "product", 5: "sum", 6: "maximum"}
shapes = st.lists(st.integers(1, 5), max_size=MAX_RANK).map(tuple)


def kinds(program: Program) -> list[str]:
    """The instructions of a step, in order."""
    words = plan(program, lambda *_: 64).words.tolist()
    found, at = [], 0
    while at < len(words):
        found.append(KINDS[words[at]])
        at += words[at + 1]
    return found


def elements(shape: Shape, offset: int, strides: tuple[int, ...]) -> list[int]:
    """Where each element stands."""
    return [offset + sum(a * b for a, b in zip(index, strides, strict=True)) for index in np.ndindex(shape)]


@st.composite
def views(draw: st.DrawFn, held: int) -> tuple[Shape, tuple[int, ...]]:
    """Shape and parameters of a VIEW of so many elements."""
    shape = draw(shapes)
    left, strides = held - 1, []
    for dim in shape:
        strides.append(draw(st.integers(0, left // (dim - 1))) if dim > 1 else draw(st.integers(0, 9)))
        left -= strides[-1] * (dim - 1)
    return shape, (draw(st.integers(0, left)), *strides, *[0] * (MAX_RANK - len(shape)))


@settings(max_examples=500)
@given(st.data())
def test_a_view_of_a_view_shows_what_the_two_show(data: st.DataObject) -> None:
    own = data.draw(shapes)
    first, one = data.draw(views(count(own)))
    second, other = data.draw(views(count(first)))
    through = elements(first, one[0], one[1 : 1 + len(first)])
    wanted = [through[at] for at in elements(second, other[0], other[1 : 1 + len(second)])]
    middle = Ref.whole(7, own).view(own, first, one)
    assert middle is not None
    found = middle.view(first, second, other)
    if found is not None:
        assert found.root == 7 and elements(second, found.offset, found.strides) == wanted


def test_reshaped_transposed_and_broadcast_views_are_followed() -> None:
    turned = Ref.whole(0, (4, 6)).view((4, 6), (6, 4), (0, 1, 6, 0, 0))
    assert turned is not None
    assert turned.view((6, 4), (2, 3, 4), (0, 12, 4, 1, 0)) == Ref(0, 0, (3, 1, 6))
    assert turned.view((6, 4), (5, 6, 4), (0, 0, 4, 1, 0)) == Ref(0, 0, (0, 1, 6))
    assert turned.view((6, 4), (24,), (0, 1, 0, 0, 0)) is None


@given(shapes.filter(bool), st.data())
def test_collapsed_dimensions_hold_the_same_elements(shape: Shape, data: st.DataObject) -> None:
    strides = [row_major(shape), tuple(data.draw(st.sampled_from((0, stride))) for stride in row_major(shape))]
    dims, found = collapse(shape, strides)
    for before, after in zip(strides, found, strict=True):
        assert elements(tuple(dims), 0, tuple(after)) == elements(shape, 0, before)


def test_a_chain_element_by_element_is_one_pass_and_views_of_it_are_none() -> None:
    build = Builder()
    x, bias = build.state(tensor(1, (6, 5))), build.state(tensor(2, (5,)))
    wide = build.op(Opcode.VIEW, (bias,), (6, 5), 0, 0, 1)
    half = build.op(Opcode.CONST, (), (6, 5), 0x3F000000)
    moved = build.op(Opcode.ADD, (x, wide), (6, 5))
    halved = build.op(Opcode.MUL, (moved, half), (6, 5))
    total = build.op(Opcode.SUM, (build.transposed(halved),), (5,))
    build.op(Opcode.EXP, (total,), (5,))  # which nothing needs
    build.keep(total, build.op(Opcode.MATMUL_NT, (halved, build.op(Opcode.VIEW, (x,), (6, 5), 0, 5, 1)), (6, 6)))
    # The copies are of the state that stays as it is.
    assert kinds(build.case().program) == ["pass", "sum", "product", "copy", "copy"]


def test_a_trace_leaves_nothing_out() -> None:
    build = Builder()
    x = build.state(tensor(1, (6, 5)))
    build.op(Opcode.EXP, (build.transposed(x),), (5, 6))
    build.op(Opcode.CONST, (), (3,), 0)
    build.keep(x)
    traced = plan_trace(build.case().program, lambda *_: 64)
    assert len(traced.ends) == 3 and sorted(traced.ends) == traced.ends and len(set(traced.ends)) == 3


def test_memory_comes_back_when_it_is_not_needed_any_more() -> None:
    build = Builder()
    x = build.state(tensor(1, (100,)))
    for _ in range(50):
        x = build.op(Opcode.SUM, (build.op(Opcode.VIEW, (x,), (100, 1), 0, 1, 0),), (100,))
    build.keep(x)
    program = build.case().program
    assert live_bytes(program) == 4 * 200
    assert 4 * plan(program, lambda *_: 0).arena <= 1.2 * live_bytes(program)


def test_long_programs_are_planned() -> None:
    build = Builder()
    x = build.state(tensor(1, (4, 4)))
    for at in range(6_000):
        code = (Opcode.ADD, Opcode.MATMUL_NT, Opcode.MUL)[at % 3]
        x = build.op(code, (x, 0), (4, 4))
    build.keep(x)
    found = plan(build.case().program, lambda *_: 16)
    assert found.arena <= 1.2 * found.peak
