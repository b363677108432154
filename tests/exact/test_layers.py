# SPDX-License-Identifier: Apache-2.0
"""Layers and losses: forward against plain NumPy formulas in single precision, and against torch where it is there."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from gpubond.exact import functions, losses
from gpubond.exact.autodiff import gradients
from gpubond.exact.build import build
from gpubond.exact.graph import Graph, Tensor
from gpubond.exact.layers import Attention, Dropout, Embedding, LayerNorm, Linear, RMSNorm
from gpubond.exact.models import Perceptron, Transformer
from gpubond.exact.numpy_engine import NumpyEngine
from gpubond.exact.refusal import Refused
from tests.exact.evaluate import values, watch

RANDOM = np.random.default_rng(11)
X = RANDOM.standard_normal((6, 8)).astype(np.float32) * 3
EXTREME = np.array([[-1e4, -90, -20, -1e-3], [0, 1e-3, 20, 1e4]], np.float32)


def exact(wanted: list[Tensor], *state: np.ndarray) -> list[np.ndarray]:
    """What tensors of a graph are by the bits of docs/exact.md, of single precision."""
    program = watch(wanted[0].graph, wanted)
    given = [np.asarray(x, np.float32) for x in state]
    given += [np.zeros(tensor.shape, np.float32) for tensor in program.state[len(state) :]]
    return NumpyEngine().prepare(program).step(given, [], 0)[-len(wanted) :]


def softmax(x: np.ndarray) -> np.ndarray:
    raised = np.exp(x - x.max(-1, keepdims=True))
    return raised / raised.sum(-1, keepdims=True)


ACTIVATIONS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Any], Any]]] = {
    "relu": (functions.relu, lambda x: np.maximum(x, 0)),
    "sigmoid": (functions.sigmoid, lambda x: 1 / (1 + np.exp(-x))),
    "tanh": (functions.tanh, np.tanh),
    "silu": (functions.silu, lambda x: x / (1 + np.exp(-x))),
    "gelu": (functions.gelu, lambda x: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))),
    "softmax": (functions.softmax, softmax),
    "normalise": (
        lambda x: functions.normalise(x, 1e-5),
        lambda x: (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5),
    ),
    "normalise by root": (
        lambda x: functions.normalise_by_root(x, 1e-5),
        lambda x: x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-5),
    ),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("x", [X, EXTREME], ids=["ordinary", "extreme"])
def test_functions_are_their_formulas(name: str, x: np.ndarray) -> None:
    function, formula = ACTIVATIONS[name]
    graph = Graph()
    y = function(graph.state("x", x.shape))
    (slope,) = gradients((y * y).sum(), [Tensor(graph, 0)])
    found, slope_found = exact([y, slope], x)
    with np.errstate(over="ignore"):
        expected = formula(x.astype(np.float64))
    np.testing.assert_allclose(found, expected, rtol=3e-6, atol=3e-6)
    assert np.isfinite(slope_found).all()


def test_linear_is_a_product_and_a_bias() -> None:
    graph = Graph()
    x = graph.state("x", (2, 3, 8))
    layer = Linear(graph, "linear", 8, 5)
    given = RANDOM.standard_normal((2, 3, 8)).astype(np.float32)
    weight, bias = RANDOM.standard_normal((5, 8)).astype(np.float32), RANDOM.standard_normal(5).astype(np.float32)
    found = exact([layer(x)], given, weight, bias)[0]
    np.testing.assert_allclose(found, given @ weight.T + bias, rtol=1e-5, atol=1e-5)


def test_norms_have_gain_and_bias() -> None:
    gain, bias = RANDOM.standard_normal(8).astype(np.float32), RANDOM.standard_normal(8).astype(np.float32)
    graph = Graph()
    layer = LayerNorm(graph, "norm", 8)
    x = graph.state("x", X.shape)
    expected = ACTIVATIONS["normalise"][1](X) * gain + bias
    np.testing.assert_allclose(exact([layer(x)], gain, bias, X)[0], expected, rtol=1e-5, atol=1e-5)
    graph = Graph()
    root = RMSNorm(graph, "norm", 8)
    x = graph.state("x", X.shape)
    expected = ACTIVATIONS["normalise by root"][1](X) * gain
    np.testing.assert_allclose(exact([root(x)], gain, X)[0], expected, rtol=1e-5, atol=1e-5)


def test_an_embedding_gives_rows_and_zeros_for_none() -> None:
    graph = Graph()
    layer = Embedding(graph, "embedding", 4, 3)
    index = graph.state("index", (2, 3))
    table = RANDOM.standard_normal((4, 3)).astype(np.float32)
    found = exact([layer(index)], table, np.array([[0, 3, 4], [-1, 1.5, 2]]))[0]
    expected = np.zeros((2, 3, 3), np.float32)
    for at, row in (((0, 0), 0), ((0, 1), 3), ((1, 2), 2)):
        expected[at] = table[row]
    np.testing.assert_array_equal(found, expected)


def plain_attention(q: np.ndarray, k: np.ndarray, v: np.ndarray) -> np.ndarray:
    scores = q @ k.swapaxes(-1, -2) / math.sqrt(q.shape[-1])
    scores = np.where(np.tri(q.shape[-2], dtype=bool), scores, -np.inf)
    return softmax(scores) @ v


@pytest.mark.parametrize("places", [1, 2, 7])
def test_attention_looks_back_only(places: int) -> None:
    q, k, v = (RANDOM.standard_normal((2, 3, places, 4)).astype(np.float32) for _ in range(3))
    graph = Graph()
    tensors = [graph.state(name, q.shape) for name in "qkv"]
    found = exact([functions.attention(*tensors)], q, k, v)[0]
    np.testing.assert_allclose(found, plain_attention(q, k, v), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found[:, :, 0], v[:, :, 0], rtol=1e-6)


def test_heads_of_attention_are_apart() -> None:
    graph = Graph()
    layer = Attention(graph, "attention", 6, 2)
    x = graph.state("x", (2, 5, 6))
    shapes = [parameter.shape for parameter in graph.trained]
    weights = [RANDOM.standard_normal(shape).astype(np.float32) for shape in shapes]
    given = RANDOM.standard_normal((2, 5, 6)).astype(np.float32)
    found = exact([layer(x)], *weights, given)[0]

    def heads(at: int) -> np.ndarray:
        y = given @ weights[at].T + weights[at + 1]
        return y.reshape(2, 5, 2, 3).transpose(0, 2, 1, 3)

    seen = plain_attention(heads(0), heads(2), heads(4)).transpose(0, 2, 1, 3).reshape(2, 5, 6)
    np.testing.assert_allclose(found, seen @ weights[6].T + weights[7], rtol=1e-4, atol=1e-4)


def test_cross_entropy_is_minus_the_logarithm_of_the_chance() -> None:
    labels = np.array([0, 7, 3, 3, 1, 2], np.float32)
    graph = Graph()
    logits, index = graph.state("logits", X.shape), graph.state("labels", (6,))
    loss = losses.cross_entropy(logits, index)
    (slope,) = gradients(loss, [logits])
    found, slope_found = exact([loss, slope], X, labels)
    chances = softmax(X.astype(np.float64))
    expected = -np.log(chances[np.arange(6), labels.astype(int)]).mean()
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    np.testing.assert_allclose(slope_found, (chances - np.eye(8)[labels.astype(int)]) / 6, rtol=1e-5, atol=1e-7)
    huge = exact([loss], X * 1e30, labels)[0]
    assert np.isfinite(huge)


def test_dropout_drops_its_share_and_keeps_the_mean() -> None:
    graph = Graph()
    x = graph.state("x", (200, 100))
    layer = Dropout(graph, "dropout", 0.25, (5, 6))
    y = layer(x)
    again = layer(x)
    (slope,) = gradients(y.sum(), [x])
    one, other, slope_found = exact([y, again, slope], np.ones((200, 100)))
    assert set(np.unique(one)) == {np.float32(0), np.float32(1 / 0.75)}
    # 20,000 draws: one deviation is 0.003.
    assert abs((one == 0).mean() - 0.25) < 0.02
    np.testing.assert_array_equal(one, slope_found)
    assert not np.array_equal(one, other)


def test_dropout_of_nothing_is_nothing_and_of_all_is_refused() -> None:
    graph = Graph()
    x = graph.state("x", (2,))
    assert functions.dropout(x, 0.0, (1, 2)).node == x.node
    for chance in (1.0, -0.1, math.nan):
        with pytest.raises(Refused, match="chance"):
            functions.dropout(x, chance, (1, 2))


@pytest.mark.parametrize("shape", [(0, 4), (3, 0), (1, 1)])
def test_odd_shapes_go_through_layers(shape: tuple[int, int]) -> None:
    graph = Graph()
    x = graph.state("x", shape)
    wanted = [Linear(graph, "a", shape[1], 3)(x), LayerNorm(graph, "b", shape[1])(x), functions.softmax(x)]
    slopes = gradients(wanted[0].sum(), [x, *graph.trained])
    state = [np.zeros(entry.shape) for entry in (graph.nodes[e.node] for e in graph.state_entries)]
    found = values([*wanted, *slopes], state)
    assert [y.shape for y in found] == [y.shape for y in (*wanted, *slopes)]


def test_errors_in_models_name_the_layer() -> None:
    graph = Graph()
    model = Perceptron(graph, "model", (8, 4, 2))
    with pytest.raises(Refused) as refusal:
        model(graph.data("x", (3, 7), 1))
    assert refusal.value.field == "model.layer[0]"
    with pytest.raises(Refused) as refusal:
        losses.cross_entropy(model(graph.data("y", (3, 8), 1)), graph.data("labels", (4,), 1))
    assert refusal.value.field == "loss" and "(3, 2) and (4,)" in str(refusal.value)


# ------------------------------------------------------------------ against torch


def test_layers_agree_with_torch() -> None:
    torch = pytest.importorskip("torch", reason="torch is no dependency of gpubond")
    x = torch.tensor(X, requires_grad=True)
    for name, theirs in (
        ("relu", torch.relu),
        ("silu", torch.nn.functional.silu),
        ("gelu", lambda y: torch.nn.functional.gelu(y, approximate="tanh")),
        ("softmax", lambda y: torch.softmax(y, -1)),
        ("normalise", lambda y: torch.nn.functional.layer_norm(y, (8,))),
    ):
        graph = Graph()
        mine = graph.state("x", X.shape)
        y = ACTIVATIONS[name][0](mine)
        found, slope = exact([y, gradients((y * y).sum(), [mine])[0]], X)
        x.grad = None
        expected = theirs(x)
        (expected * expected).sum().backward()
        np.testing.assert_allclose(found, expected.detach().numpy(), rtol=1e-5, atol=1e-5, err_msg=name)
        np.testing.assert_allclose(slope, x.grad.numpy(), rtol=1e-4, atol=1e-4, err_msg=name)


def test_a_transformer_agrees_with_torch() -> None:
    torch = pytest.importorskip("torch", reason="torch is no dependency of gpubond")
    from benchmarks.exact_peers import TorchTransformer

    sizes = {"vocabulary": 11, "context": 6, "width": 8, "heads": 2, "layers": 2}
    graph = Graph()
    model = Transformer(graph, "transformer", **sizes)
    text = graph.data("text", (3, 7), 1)
    loss = losses.cross_entropy(model(text.slice(1, 0, 6)).reshape(18, 11), text.slice(1, 1, 7).reshape(18))
    slopes = gradients(loss, graph.trained)
    graph.metric("loss", loss)
    for at, slope in enumerate(slopes):
        graph.metric(f"slope {at}", slope)
    weights = [0.2 * RANDOM.standard_normal(p.shape).astype(np.float32) for p in graph.trained]
    given = RANDOM.integers(0, 11, (1, 3, 7)).astype(np.float32)
    program = build(graph).program
    state = weights + [np.zeros(tensor.shape, np.float32) for tensor in program.state[len(weights) :]]
    after = NumpyEngine().prepare(program).step(state, [given], 0)[len(weights) :]
    theirs = TorchTransformer(**sizes)
    parameters = list(theirs.parameters())
    assert [tuple(p.shape) for p in parameters] == [w.shape for w in weights]
    with torch.no_grad():
        for parameter, weight in zip(parameters, weights, strict=True):
            parameter.copy_(torch.tensor(weight))
    expected = theirs.loss(torch.tensor(given[0].astype(np.int64)))
    expected.backward()
    np.testing.assert_allclose(after[0], expected.item(), rtol=1e-5)
    for name, slope, parameter in zip([e.name for e in graph.state_entries], after[1:], parameters, strict=False):
        np.testing.assert_allclose(slope, parameter.grad.numpy(), rtol=2e-3, atol=2e-5, err_msg=name)
