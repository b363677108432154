# SPDX-License-Identifier: Apache-2.0
"""The builder: shapes, broadcasting, views of views, sharing, what becomes a program, errors that name the layer."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpubond.exact.build import Names, build, data_tensors, initial_state
from gpubond.exact.graph import Graph, Tensor, bits_of
from gpubond.exact.layers import Attention, Linear
from gpubond.exact.models import Transformer, character_step, perceptron_step
from gpubond.exact.program import CANONICAL_NAN, Opcode, Program
from gpubond.exact.refusal import Refused
from gpubond.exact.shapes import row_major
from gpubond.exact.summary import live_bytes, summarise
from gpubond.exact.views import View, compose
from tests.exact.evaluate import step, values

RANDOM = np.random.default_rng(3)


def codes(program: Program) -> list[str]:
    return [op.code.name for op in program.ops]


def shown(view: View, elements: np.ndarray) -> np.ndarray:
    """What a view shows, by its definition."""
    found = [
        elements.reshape(-1)[view.offset + sum(i * s for i, s in zip(at, view.strides, strict=True))]
        for at in np.ndindex(*view.shape)
    ]
    return np.array(found).reshape(view.shape)


def check(x: Tensor, expected: np.ndarray, *state: np.ndarray) -> None:
    """A tensor is what NumPy says, its shape included."""
    assert x.shape == expected.shape
    np.testing.assert_allclose(values([x], state)[0], expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("left", "right"),
    [((3, 4), (4,)), ((3, 1), (1, 4)), ((), (2, 3)), ((2, 1, 4), (3, 1)), ((0, 3), (3,)), ((1,), (1,))],
)
def test_operands_broadcast_as_in_numpy(left: tuple[int, ...], right: tuple[int, ...]) -> None:
    graph = Graph()
    a, b = graph.state("a", left), graph.state("b", right)
    x, y = RANDOM.random(left) + 1, RANDOM.random(right) + 1
    for found, expected in (
        (a + b, x + y),
        (a - b, x - y),
        (a * b, x * y),
        (a / b, x / y),
        (2.0 - a, 2 - x),
        (3.0 / b, 3 / y),
        (np.float64(0.5) * a, x * 0.5),
        (-a, -x),
        (graph.maximum(a, b), np.maximum(x, y)),
        (graph.greater(a, b), (x > y) * 1.0),
        (graph.fma(a, b, 0.5), x * y + 0.5),
        (graph.select(graph.greater(a, b), a, b), np.where(x > y, x, y)),
    ):
        check(found, np.asarray(expected), x, y)


def test_sums_and_means_go_over_any_axes() -> None:
    graph = Graph()
    a = graph.state("a", (2, 3, 4, 5))
    x = RANDOM.random((2, 3, 4, 5))
    for axes in ((0,), (1,), (3,), (-1,), (0, 2), (1, 3), (0, 1, 2), (0, 1, 2, 3)):
        check(a.sum(*axes), np.asarray(x.sum(axes)), x)
        check(a.sum(*axes, keep=True), x.sum(axes, keepdims=True), x)
        check(a.mean(*axes), np.asarray(x.mean(axes)), x)
    check(a.sum(), np.asarray(x.sum()), x)


def test_views_show_what_numpy_shows() -> None:
    graph = Graph()
    a = graph.state("a", (4, 6, 5))
    x = RANDOM.random((4, 6, 5))
    check(a.transpose(), x.swapaxes(-1, -2), x)
    check(a.transpose(2, 0, 1), x.transpose(2, 0, 1), x)
    check(a.reshape(3, -1, 4), x.reshape(3, -1, 4), x)
    check(a.slice(1, 1, 6, 2), x[:, 1:6:2], x)
    check(a.slice(-1, 2, 2), x[:, :, 2:2], x)
    check(a.transpose(1, 0, 2).reshape(6, 20).slice(1, 5, 15), x.transpose(1, 0, 2).reshape(6, 20)[:, 5:15], x)
    check(graph.stack([a, a * 2.0, a * 3.0], 1).reshape(4, 90), np.stack([x, 2 * x, 3 * x], 1).reshape(4, 90), x)
    check(graph.concat(a, a, -2), np.concatenate([x, x], -2), x)


@st.composite
def two_views(draw: st.DrawFn) -> tuple[View, View]:
    """A view of at most 400 elements, and a view of that."""

    def draw_view(held: int) -> View:
        shape, strides, left = [], [], held - 1
        offset = draw(st.integers(0, min(3, left)))
        left -= offset
        for _ in range(draw(st.integers(0, 4))):
            stride = draw(st.sampled_from([0, 1, 2, 3, 4, 6, 12]))
            size = draw(st.integers(1, min(6, left // stride + 1 if stride else 6)))
            left -= (size - 1) * stride
            shape.append(size)
            strides.append(stride)
        return View.of(offset, shape, strides)

    inner = draw_view(400)
    return inner, draw_view(int(np.prod(inner.shape)))


@settings(max_examples=200, deadline=None)
@given(two_views())
def test_a_view_of_a_view_shows_the_same_as_both(views: tuple[View, View]) -> None:
    inner, outer = views
    elements = np.arange(400)
    joined = compose(inner, outer)
    if joined is not None:
        np.testing.assert_array_equal(shown(joined, elements), shown(outer, shown(inner, elements)))


def test_views_that_are_one_become_one() -> None:
    rows = View.of(0, (6, 4), (1, 6))
    assert compose(rows, View.of(0, (4, 6), (1, 4))) == View.of(0, (4, 6), row_major((4, 6)))
    assert compose(rows, View.of(0, (24,), (1,))) is None
    graph = Graph()
    a = graph.state("a", (4, 6))
    assert a.transpose().transpose() is not a and a.transpose().transpose().node == a.node
    assert a.reshape(2, 12).reshape(4, 6).node == a.node
    heads = a.reshape(2, 2, 2, 3).transpose(0, 2, 1, 3).transpose()
    assert graph.nodes[heads.node].inputs == (a.node,)


def test_equal_expressions_are_one_operation_but_random_numbers_are_not() -> None:
    graph = Graph()
    a, b = graph.state("a", (3,)), graph.state("b", (3,))
    graph.becomes(a, (a * b + 1.0) + (a * b + 1.0))
    graph.becomes(b, graph.uniform((3,), (1, 2)) + graph.uniform((3,), (1, 2)))
    assert sorted(codes(build(graph).program)) == ["ADD", "ADD", "ADD", "CONST", "MUL", "UNIFORM", "UNIFORM"]


def test_constants_are_folded_and_neutral_ones_vanish() -> None:
    graph = Graph()
    a = graph.state("a", (3,))
    assert (a * 1.0).node == a.node and (a + 0.0).node == a.node and (1.0 * a).node == a.node
    two = graph.constant(1.0, (3,)) + graph.constant(1.0)
    assert two.node == graph.constant(2.0, (3,)).node
    assert graph.constant(5.0).broadcast(2, 2).node == graph.constant(5.0, (2, 2)).node
    assert bits_of(float("nan")) == CANONICAL_NAN and bits_of(-0.0) == 0x80000000 and bits_of(1e300) == 0x7F800000


def test_a_program_holds_only_what_the_next_state_needs() -> None:
    graph = Graph()
    a = graph.state("a", (2, 2))
    kept = graph.state("kept", (5,))
    graph.data("unused", (7,), 3)
    graph.exp(a)
    graph.becomes(a, graph.sqrt(a))
    graph.metric("loss", graph.stop_gradient(a).sum())
    program = build(graph).program
    assert codes(program) == ["SQRT", "VIEW", "SUM"]
    assert [tensor.next for tensor in program.state] == [4, kept.node, 6]
    assert Program.parse(program.encode()) == program


def test_a_state_tensor_that_becomes_a_slice_of_the_data_is_a_view_of_it() -> None:
    graph = Graph()
    newest, same = graph.state("newest", (2, 3)), graph.state("same", (2, 3))
    given = graph.data("given", (2, 3), 2)
    graph.becomes(newest, given)
    graph.becomes(same, graph.stop_gradient(given))
    built = build(graph)
    assert codes(built.program) == ["VIEW"] and built.names.operations == ("",)
    assert [tensor.next for tensor in built.program.state] == [3, 3]
    data = np.arange(12, dtype=np.float32).reshape(2, 2, 3)
    assert all((one == data[1]).all() for one in step(built.program, initial_state(graph, 1), [data], 1, np.float32))


def test_a_graph_where_nothing_happens_is_no_program() -> None:
    graph = Graph()
    graph.state("a", (2,))
    with pytest.raises(Refused, match=r"header\.ops = 0"):
        build(graph)


def test_names_come_back_from_their_file() -> None:
    built = build(perceptron_step((4, 3, 2), 5, slices=2))
    names = Names.parse(built.names.encode())
    assert names == built.names
    assert names.state[:2] == ("model.layer[0].weight", "model.layer[0].bias")
    assert names.data == ("images", "labels")
    assert names.state[names.metrics["loss"]] == "loss"
    assert len(names.operations) == len(built.program.ops) and "model.layer[1]" in names.operations


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("{", "names"),
        ("[]", "names.version"),
        ('{"version": 1, "state": [], "data": [], "operations": [], "trained": [0], "metrics": {}}', "names.trained"),
        ('{"version": 2}', "names.version"),
        ('{"version": 1, "state": [1]}', "names.state"),
        ('{"version": 1, "state": [], "data": [], "operations": [], "trained": [true]}', "names.trained"),
        (
            '{"version": 1, "state": [], "data": [], "operations": [], "trained": [], "metrics": {"a": "b"}}',
            "names.metrics",
        ),
        (
            '{"version": 1, "state": [], "data": [], "operations": [], "trained": [], "metrics": {"a": "state.0"}}',
            "names.metrics",
        ),
    ],
)
def test_names_that_are_none_are_refused(text: str, field: str) -> None:
    with pytest.raises(Refused) as refusal:
        Names.parse(text)
    assert refusal.value.field == field


def test_a_state_begins_the_same_for_the_same_seed() -> None:
    graph = perceptron_step((6, 4, 3), 5)
    first, again, other = (initial_state(graph, seed) for seed in (1, 1, 2))
    assert [x.shape for x in first] == [tensor.shape for tensor in build(graph).program.state]
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0], other[0])
    assert all(x.dtype == np.float32 for x in first)


def test_data_are_taken_by_name_and_checked() -> None:
    graph = perceptron_step((6, 3), 5, slices=2)
    images, labels = np.zeros((2, 5, 6), np.float32), np.ones((2, 5), np.float32)
    assert [x.shape for x in data_tensors(graph, {"labels": labels, "images": images})] == [(2, 5, 6), (2, 5)]
    for wrong, field in (
        ({"images": images}, "data.labels"),
        ({"images": images, "labels": labels[:1]}, "data.labels"),
        ({"images": images, "labels": labels, "more": labels}, "data"),
    ):
        with pytest.raises(Refused) as refusal:
            data_tensors(graph, wrong)
        assert refusal.value.field == field


def test_shape_errors_name_the_layer_and_the_shapes() -> None:
    graph = Graph()
    with graph.scope("transformer.block[2]"):
        attention = Attention(graph, "attention", 8, 2)
        other = Linear(graph, "other", 4, 3)
    wrong = graph.data("wrong", (2, 5, 6), 1)
    for layer, path in ((attention, "transformer.block[2].attention.q"), (other, "transformer.block[2].other")):
        with pytest.raises(Refused) as refusal:
            layer(wrong)
        assert refusal.value.field == path
        assert "(2, 5, 6)" in str(refusal.value)
    assert graph.path == ""
    with (
        pytest.raises(Refused, match=r"transformer\.block\[2\]\.odd.*multiple of the heads, 3"),
        graph.scope("transformer.block[2]"),
    ):
        Attention(graph, "odd", 8, 3)
    with pytest.raises(Refused, match="at most 4 places"):
        Transformer(graph, "t", vocabulary=3, context=4, width=4, heads=1, layers=1)(graph.data("long", (1, 5), 1))


def test_shapes_that_do_not_fit_are_refused() -> None:
    graph = Graph()
    a, b = graph.state("a", (3, 4)), graph.state("b", (3, 5))
    other = Graph().state("a", (3, 4))
    for wrong in (
        lambda: a + b,
        lambda: graph.matmul_nt(a, b),
        lambda: graph.matmul_nt(a, a.reshape(1, 3, 4)),
        lambda: graph.gather(a.reshape(12), b),
        lambda: a.reshape(5, 3),
        lambda: a.reshape(-1, 5),
        lambda: a.transpose(0, 0),
        lambda: a.slice(0, 2, 4),
        lambda: a.slice(2, 0, 1),
        lambda: a.broadcast(3, 5),
        lambda: a.broadcast(4),
        lambda: graph.concat(a, b.reshape(5, 3)),
        lambda: graph.stack([]),
        lambda: graph.row_max(graph.constant(1.0)),
        lambda: graph.becomes(a, b),
        lambda: graph.becomes(a + 1.0, a),
        lambda: a + other,
        lambda: graph.state("a", (1,)),
        lambda: graph.state("big", (1 << 16, 1 << 16)),
        lambda: graph.constant(1.0, (1, 1, 1, 1, 1)),
        lambda: graph.view(a, View.of(0, (13,), (1,))),
        lambda: graph.data("d", (2,), 0, np.zeros((1, 2), np.float32)),
    ):
        with pytest.raises(Refused):
            wrong()


def test_the_summary_counts_parameters_products_and_memory() -> None:
    built = build(perceptron_step((784, 512, 10), 128))
    summary = summarise(built)
    assert summary.parameters == 784 * 512 + 512 + 512 * 10 + 10
    # Forward, the weights' gradients, and the hidden layer's gradient: nobody needs that of the images.
    assert summary.whole.products == 128 * (2 * 784 * 512 + 3 * 512 * 10)
    assert summary.state_bytes == 2 * 4 * summary.parameters + 4
    assert summary.data_bytes == 4 * 128 * (784 + 1)
    # At the end the next state lives, and the gradient that the last big update reads.
    assert 4 * 2 * 784 * 512 <= summary.live_bytes <= summary.state_bytes * 1.5
    text = "\n".join(summary.lines())
    assert "407,050" in text and "model.layer[0]" in text and "FMAs a step" in text


def test_programs_have_few_operations_and_no_transposed_weight_on_the_way_forward() -> None:
    program = build(perceptron_step((784, 512, 10), 128)).program
    assert len(program.ops) <= 65
    first = next(op for op in program.ops if op.code == Opcode.MATMUL_NT)
    assert all(number < program.first_output for number in first.inputs)
    transformer = build(character_step(vocabulary=65, slices=2, steps=2)).program
    assert codes(transformer).count("MATMUL_NT") == 3 + 4 * (6 + 2) * 3 + 1
    assert len(transformer.ops) < 1_600


def test_the_example_in_the_docs_makes_a_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    page = (Path(__file__).resolve().parents[2] / "docs" / "exact-models.md").read_text()
    (source,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    found: dict[str, object] = {}
    exec(compile(source, "docs/exact-models.md", "exec"), found)  # noqa: S102 - our own page
    program = Program.parse((tmp_path / "net.gpx").read_bytes())
    assert Names.parse((tmp_path / "net.json").read_text()).data == ("images", "labels", "adamw.schedule")
    state = found["state"]
    assert isinstance(state, list) and len(state) == len(program.state)
    refused = re.search(r"^    (transformer\S+) = '(.*)': (.*)$", page, re.MULTILINE)
    assert refused is not None
    graph = Graph()
    with graph.scope("transformer.block[2]"):
        attention = Attention(graph, "attention", 8, 2)
    with pytest.raises(Refused, match=re.escape(refused[0].strip())):
        attention(graph.data("x", (2, 5, 6), 1))


def test_the_live_memory_of_a_chain_is_two_of_its_tensors() -> None:
    graph = Graph()
    x = graph.state("x", (10, 10))
    y = graph.exp(x)
    for _ in range(5):
        y = graph.sqrt(y.reshape(100)).reshape(10, 10)
    graph.becomes(x, y)
    assert live_bytes(build(graph).program) == 2 * 400
    # What a branch still needs lives on; a stretch of a tensor is that tensor.
    graph.becomes(x, y + graph.exp(x) + graph.constant(1.0, (10, 10)))
    assert live_bytes(build(graph).program) == 3 * 400
