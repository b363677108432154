# SPDX-License-Identifier: Apache-2.0
"""Gradients, against central differences of an evaluation in double precision that shares no code with them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpubond.exact import functions, losses
from gpubond.exact.adjoint import adjoint
from gpubond.exact.autodiff import gradients, identity
from gpubond.exact.build import build
from gpubond.exact.graph import Graph, Tensor
from gpubond.exact.layers import Attention, Embedding, LayerNorm, Linear, RMSNorm
from gpubond.exact.program import Opcode
from gpubond.exact.refusal import Refused
from gpubond.exact.strides import View
from tests.exact.evaluate import step, values, watch

Make = Callable[..., Tensor]


def weighted(graph: Graph, y: Tensor) -> Tensor:
    """One number that depends on every element of y in its own way."""
    if not y.shape:
        return y * y
    places = np.prod(y.shape)
    weights = functions.count_up(y, int(places)).reshape(*y.shape) * 0.1 + 0.3
    return (y * weights + y * y * 0.5).sum()


def check(make: Make, *inputs: np.ndarray, tolerance: float = 1e-6) -> None:
    """The gradients of `make` of state tensors agree with central differences at these values."""
    graph = Graph()
    tensors = [graph.state(f"x{at}", x.shape) for at, x in enumerate(inputs)]
    loss = weighted(graph, make(*tensors))
    slopes = gradients(loss, tensors)
    program = watch(graph, [loss, *slopes])
    spare = [np.zeros(tensor.shape) for tensor in program.state[len(inputs) :]]

    def evaluate(at: list[np.ndarray]) -> list[np.ndarray]:
        return step(program, [*at, *spare], [], 0, np.float64)[-1 - len(inputs) :]

    _, *found = evaluate(list(inputs))
    h = 1e-5
    for at, x in enumerate(inputs):
        expected = np.zeros(x.shape)
        for place in np.ndindex(*x.shape):
            ends = []
            for sign in (1, -1):
                moved = [y.copy() for y in inputs]
                moved[at][place] += sign * h
                ends.append(float(evaluate(moved)[0]))
            expected[place] = (ends[0] - ends[1]) / (2 * h)
        np.testing.assert_allclose(found[at], expected, rtol=tolerance, atol=tolerance, err_msg=f"input {at}")


def values_of(*shape: int, low: float = -2.0, high: float = 2.0, seed: int = 5) -> np.ndarray:
    """Random numbers in a range, no two of them nearly equal, so that nothing sits upon a kink."""
    random = np.random.default_rng(seed + sum(shape))
    count = int(np.prod(shape))
    return (low + (high - low) * (random.permutation(count) + 0.37 + 0.01 * seed) / max(1, count)).reshape(shape)


A, B, C = values_of(3, 4), values_of(3, 4, seed=6), values_of(3, 4, seed=7)
POSITIVE = values_of(3, 4, low=0.5, high=3.0, seed=8)
ROW, COLUMN = values_of(4, seed=9), values_of(3, 1, seed=10)

OPERATIONS: dict[str, tuple[Make, tuple[np.ndarray, ...]]] = {
    "ADD": (lambda a, b: a + b, (A, B)),
    "SUB": (lambda a, b: a - b, (A, B)),
    "MUL": (lambda a, b: a * b, (A, B)),
    "MUL of itself": (lambda a: a * a * a, (A,)),
    "DIV": (lambda a, b: a / b, (A, POSITIVE)),
    "MAX": (lambda a, b: a.graph.maximum(a, b), (A, B)),
    "GT": (lambda a, b: a.graph.greater(a, b) * a, (A, B)),
    "FMA": (lambda a, b, c: a.graph.fma(a, b, c), (A, B, C)),
    "SELECT": (lambda a, b, c: a.graph.select(a.graph.greater(a, 0.1), b, c), (A, B, C)),
    "SQRT": (lambda a: a.graph.sqrt(a), (POSITIVE,)),
    "NEG": (lambda a: -a, (A,)),
    "EXP": (lambda a: a.graph.exp(a), (A,)),
    "LOG": (lambda a: a.graph.log(a), (POSITIVE,)),
    "BF16": (lambda a: a.graph.bf16(a), (A,)),
    "SUM": (lambda a: a.sum(-1), (A,)),
    "SUM of the first axis": (lambda a: a.sum(0), (A,)),
    "ROWMAX": (lambda a: a.graph.row_max(a), (A,)),
    "CONCAT": (lambda a, b: a.graph.concat(a, b, 1), (A, values_of(3, 2))),
    "MATMUL_NT": (lambda a, b: a.graph.matmul_nt(a, b), (A, values_of(5, 4))),
    "MATMUL_NT batched": (lambda a, b: a.graph.matmul_nt(a, b), (values_of(2, 2, 3, 4), values_of(2, 2, 5, 4))),
    "MATMUL_NT with itself": (lambda a: a.graph.matmul_nt(a, a), (A,)),
    "broadcast row": (lambda a, b: a * b, (A, ROW)),
    "broadcast column": (lambda a, b: a / b, (POSITIVE, COLUMN + 4)),
    "broadcast outer": (lambda a, b: a * b, (ROW, COLUMN)),
    "broadcast middle": (lambda a, b: a * b, (values_of(2, 3, 4), values_of(2, 1, 4))),
    "broadcast scalar": (lambda a, b: a * b, (A, values_of())),
    "transpose": (lambda a: a.transpose(2, 0, 1), (values_of(2, 3, 4),)),
    "reshape": (lambda a: a.reshape(2, 6), (A,)),
    "slice": (lambda a: a.slice(1, 1, 4, 2), (A,)),
    "slice of rows": (lambda a: a.slice(0, 1, 3), (A,)),
    "two slices": (lambda a: a.slice(1, 0, 2) * a.slice(1, 1, 3), (A,)),
    "slice of a transpose": (lambda a: a.transpose(1, 0).slice(0, 1, 3), (A,)),
    "stack": (lambda a, b: a.graph.stack([a, b, a], 1), (A, B)),
    "relu": (functions.relu, (A,)),
    "sigmoid": (functions.sigmoid, (A,)),
    "silu": (functions.silu, (A,)),
    "tanh": (functions.tanh, (A,)),
    "gelu": (functions.gelu, (A,)),
    "softmax": (functions.softmax, (A,)),
    "normalise": (lambda a: functions.normalise(a, 1e-5), (A,)),
    "normalise by root": (lambda a: functions.normalise_by_root(a, 1e-5), (A,)),
    "dropout": (lambda a: functions.dropout(a, 0.4, (1, 2)), (A,)),
    "squared error": (losses.squared_error, (A, B)),
    "attention": (functions.attention, tuple(values_of(1, 2, 5, 3, seed=s) for s in (1, 2, 3))),
    "attention both ways": (
        lambda q, k, v: functions.attention(q, k, v, causal=False),
        tuple(values_of(2, 4, 3, seed=s) for s in (1, 2, 3)),
    ),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_gradient_agrees_with_central_differences(name: str) -> None:
    make, inputs = OPERATIONS[name]
    check(make, *inputs)


def test_every_operation_with_a_derivative_is_among_them() -> None:
    without = {Opcode.CONST, Opcode.UNIFORM, Opcode.VIEW, Opcode.GATHER}
    assert {code.name for code in Opcode if code not in without} <= set(OPERATIONS)


def test_gradient_of_gather_sums_rows_taken_twice_and_none_for_no_row() -> None:
    index = np.array([[2.0, 0.0, 2.0], [np.nan, 1.5, 7.0]])
    graph = Graph()
    table, places = graph.state("table", (4, 3)), graph.state("index", (2, 3))
    y = graph.gather(table, places)
    slopes = gradients((y * y).sum(), [table, places])
    rows = values_of(4, 3)
    found = values(slopes, [rows, index])
    np.testing.assert_allclose(found[0], 2 * rows * np.array([[1], [0], [2], [0]]))
    assert not found[1].any()


def test_cross_entropy_has_the_gradient_of_its_logits() -> None:
    labels = np.array([0.0, 3.0, 1.0])

    def make(logits: Tensor) -> Tensor:
        graph = logits.graph
        index = graph.stack([graph.constant(x) for x in labels])
        return losses.cross_entropy(logits, index)

    check(make, A)


@pytest.mark.parametrize("size", [0, 1, 2, 5])
def test_identity_matrix_and_counting(size: int) -> None:
    graph = Graph()
    x = graph.state("x", (1,))
    found = values([identity(graph, size), functions.count_up(x, size)], [np.zeros(1)])
    np.testing.assert_array_equal(found[0], np.eye(size))
    np.testing.assert_array_equal(found[1], np.arange(size))


@st.composite
def views(draw: st.DrawFn) -> tuple[tuple[int, ...], View]:
    """A shape, and any view of it: repeated, transposed, with gaps, with windows that overlap."""
    shape = tuple(draw(st.lists(st.integers(1, 5), min_size=0, max_size=3)))
    left = int(np.prod(shape)) - 1
    offset = draw(st.integers(0, left))
    left -= offset
    sizes, strides = [], []
    for _ in range(draw(st.integers(0, 4))):
        stride = draw(st.integers(0, 7))
        size = draw(st.integers(0 if draw(st.integers(0, 9)) == 0 else 1, min(4, left // stride + 1 if stride else 4)))
        left -= max(0, size - 1) * stride
        sizes.append(size)
        strides.append(stride)
    return shape, View.of(offset, sizes, strides)


@settings(max_examples=150, deadline=None)
@given(views())
def test_adjoint_of_any_view_sums_what_was_seen(case: tuple[tuple[int, ...], View]) -> None:
    shape, view = case
    graph = Graph()
    seen = graph.state("seen", view.shape)
    gradient = 1 + np.arange(int(np.prod(view.shape)), dtype=np.float64).reshape(view.shape)
    expected = np.zeros(int(np.prod(shape)))
    for at in np.ndindex(*view.shape):
        expected[view.offset + sum(i * s for i, s in zip(at, view.strides, strict=True))] += gradient[at]
    found = values([adjoint(seen, view, shape) + 0.5], [gradient])[0]
    np.testing.assert_array_equal(found, expected.reshape(shape) + 0.5)


def test_windows_that_need_too_many_additions_are_refused() -> None:
    graph = Graph()
    x = graph.state("x", (4000,))
    windows = graph.view(x, View.of(0, (2000, 2000), (1, 1)))
    with pytest.raises(Refused, match="more than 1024 additions"):
        gradients(windows.sum(), [x])


def test_simple_views_go_back_as_simple_ones() -> None:
    graph = Graph()
    x = graph.state("x", (4, 6, 2))
    y = x.transpose(2, 0, 1)
    back = adjoint(graph.state("g", y.shape), View.parse(y.shape, graph.nodes[y.node].parameters), x.shape)
    assert graph.nodes[back.node].code == Opcode.VIEW
    assert graph.nodes[graph.nodes[back.node].inputs[0]].code is None


@pytest.mark.parametrize(
    "layer",
    [
        lambda graph: Linear(graph, "linear", 4, 3),
        lambda graph: Linear(graph, "linear", 4, 3, bias=False),
        lambda graph: LayerNorm(graph, "norm", 4),
        lambda graph: RMSNorm(graph, "norm", 4),
        lambda graph: Attention(graph, "attention", 4, 2),
    ],
)
def test_gradients_of_layers_reach_input_and_parameters(layer: Callable[[Graph], Callable[[Tensor], Tensor]]) -> None:
    sizes = Graph()
    layer(sizes)
    inputs = [values_of(2, 3, 4)] + [values_of(*x.shape, seed=at) for at, x in enumerate(sizes.trained)]

    def make(x: Tensor, *parameters: Tensor) -> Tensor:
        graph = x.graph
        made = layer(graph)
        # The layer's own parameters are replaced by those that the check moves.
        for own, given_ in zip(graph.trained, parameters, strict=True):
            _replace(made, own, given_)
        return made(x)

    check(make, *inputs, tolerance=1e-5)


def _replace(layer: object, own: Tensor, given_: Tensor) -> None:
    for name, value in vars(layer).items():
        if isinstance(value, Tensor) and value.node == own.node:
            setattr(layer, name, given_)
        elif isinstance(value, Linear):
            _replace(value, own, given_)


def test_what_the_loss_does_not_depend_on_has_a_zero_gradient() -> None:
    graph = Graph()
    a, b = graph.state("a", (3,)), graph.state("b", (2, 2))
    slopes = gradients((graph.stop_gradient(b) * 2.0).sum() + a.sum(), [a, b])
    found = values(slopes, [np.ones(3), np.ones((2, 2))])
    np.testing.assert_array_equal(found[0], np.ones(3))
    np.testing.assert_array_equal(found[1], np.zeros((2, 2)))


def test_only_one_number_has_a_gradient() -> None:
    graph = Graph()
    a = graph.state("a", (3,))
    with pytest.raises(Refused, match="only what has one element"):
        gradients(a, [a])


def test_ties_share_the_gradient_of_a_maximum_and_equals_give_it_to_the_second() -> None:
    graph = Graph()
    a = graph.state("a", (1, 4))
    b, c = graph.state("b", (1,)), graph.state("c", (1,))
    slopes = gradients(graph.row_max(a).sum() + graph.maximum(b, c).sum(), [a, b, c])
    found = values(slopes, [np.array([[1.0, 3, 3, 2]]), np.ones(1), np.ones(1)])
    assert [x.tolist() for x in found] == [[[0, 0.5, 0.5, 0]], [0], [1]]


def test_an_embedding_learns_only_the_rows_it_gave() -> None:
    graph = Graph()
    embedding = Embedding(graph, "embedding", 5, 2)
    y = embedding(graph.data("index", (3,), 1))
    (slope,) = gradients(y.sum(), [embedding.table])
    found = values([slope], [np.zeros((5, 2))], [np.array([[4.0, 1.0, 4.0]])])[0]
    np.testing.assert_array_equal(found[:, 0], [0, 1, 0, 0, 2])


def test_a_gradient_of_a_gradient() -> None:
    graph = Graph()
    a = graph.state("a", (3,))
    (once,) = gradients((a * a * a).sum(), [a])
    (twice,) = gradients(once.sum(), [a])
    np.testing.assert_allclose(values([twice], [np.array([1.0, 2, 3])])[0], [6, 12, 18])


def test_gradients_add_no_operation_that_a_program_does_not_need() -> None:
    graph = Graph()
    x, w = graph.data("x", (8, 5), 1), graph.state("w", (3, 5), trained=True)
    (slope,) = gradients(graph.matmul_nt(x, w).sum(), [w])
    graph.becomes(w, slope)
    found = [op.code for op in build(graph).program.ops]
    assert found.count(Opcode.MATMUL_NT) == 1 and Opcode.SUM not in found
