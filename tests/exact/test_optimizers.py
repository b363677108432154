# SPDX-License-Identifier: Apache-2.0
"""Optimizers against their formulas and torch's, and training that learns."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from pydoc_data.topics import topics

import numpy as np
import pytest

from gpubond.exact.build import Built, Names, build, data_tensors, initial_state
from gpubond.exact.engine import Array
from gpubond.exact.graph import Graph
from gpubond.exact.models import character_step
from gpubond.exact.numpy_engine import NumpyEngine
from gpubond.exact.optimizers import SGD, AdamW, Optimizer, train
from gpubond.exact.program import Program
from tests.exact.evaluate import step as evaluate

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "exact-digits"
RANDOM = np.random.default_rng(21)
# Of the small transformer.
STEPS = 120
W, B, TARGET = (RANDOM.standard_normal(shape).astype(np.float32) for shape in ((3, 4), (4,), (3, 4)))

OPTIMIZERS: dict[str, Optimizer] = {
    "sgd": SGD(0.1),
    "sgd with momentum": SGD(0.1, momentum=0.9),
    "sgd with decay": SGD(0.1, momentum=0.8, decay=0.05),
    "adamw": AdamW(0.05, decay=0.1),
    "adamw without decay": AdamW(0.05, decay=0.0, betas=(0.8, 0.95)),
}


def fitting(optimizer: Optimizer, steps: int, most: float | None = None) -> Graph:
    """Fits w + b to a target by squares."""
    graph = Graph()
    w = graph.parameter("w", W.shape, lambda *_: W)
    b = graph.parameter("b", B.shape, lambda *_: B)
    apart = w + b - graph.data("target", TARGET.shape, 1)
    train(graph, (apart * apart).sum() * 0.5, optimizer, steps, most)
    return graph


def run(graph: Graph, data: dict[str, Array], steps: int) -> dict[str, Array]:
    """The state after some steps, by name, by the bits of docs/exact.md."""
    built = build(graph)
    prepared = NumpyEngine().prepare(built.program)
    state, tensors = initial_state(graph, 1), data_tensors(graph, data)
    for number in range(steps):
        state = prepared.step(state, tensors, number)
    return dict(zip(built.names.state, state, strict=True))


def by_hand(optimizer: Optimizer, steps: int, most: float = np.inf) -> dict[str, np.ndarray]:
    """The same in double precision, by the books."""
    at = {"w": W.astype(np.float64), "b": B.astype(np.float64)}
    memory = {name: [np.zeros_like(x), np.zeros_like(x)] for name, x in at.items()}
    for t in range(1, steps + 1):
        apart = at["w"] + at["b"] - TARGET
        slopes = {"w": apart, "b": apart.sum(0)}
        size = np.sqrt(sum((slope**2).sum() for slope in slopes.values()))
        for name, slope in slopes.items():
            g, (first, second) = slope * min(1.0, most / size), memory[name]
            if isinstance(optimizer, SGD):
                first = optimizer.momentum * first + g + optimizer.decay * at[name]
                at[name] = at[name] - optimizer.rate * first
            else:
                assert isinstance(optimizer, AdamW)
                b1, b2 = optimizer.betas
                first, second = b1 * first + (1 - b1) * g, b2 * second + (1 - b2) * g * g
                decay = optimizer.decay if at[name].ndim > 1 else 0
                kept = at[name] * (1 - optimizer.rate * decay)
                root = np.sqrt(second / (1 - b2**t)) + optimizer.epsilon
                at[name] = kept - optimizer.rate * first / (1 - b1**t) / root
            memory[name] = [first, second]
    return at


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers_are_their_formulas(name: str) -> None:
    optimizer = OPTIMIZERS[name]
    found = run(fitting(optimizer, 12), {"target": TARGET[None]}, 12)
    for key, expected in by_hand(optimizer, 12).items():
        np.testing.assert_allclose(found[key], expected, rtol=2e-5, atol=2e-6)


def test_clipped_gradients_are_scaled_together() -> None:
    optimizer = SGD(0.1)
    found = run(fitting(optimizer, 5, most=0.5), {"target": TARGET[None]}, 5)
    for key, expected in by_hand(optimizer, 5, most=0.5).items():
        np.testing.assert_allclose(found[key], expected, rtol=1e-5, atol=1e-6)
    # What is small enough stays as it is.
    loose = run(fitting(optimizer, 5, most=1e6), {"target": TARGET[None]}, 5)
    for key, expected in by_hand(optimizer, 5).items():
        np.testing.assert_allclose(loose[key], expected, rtol=1e-5, atol=1e-6)


def test_the_metric_is_the_loss_before_the_step() -> None:
    found = run(fitting(SGD(0.1), 1), {"target": TARGET[None]}, 1)
    np.testing.assert_allclose(found["loss"], 0.5 * ((W + B - TARGET) ** 2).sum(), rtol=1e-6)


def test_rates_warm_up_and_fall_along_a_cosine() -> None:
    optimizer = AdamW(1e-2, warmup=4, final=0.1)
    rates = optimizer.rates(24)
    assert rates[:4] == pytest.approx([0.0025, 0.005, 0.0075, 0.01])
    assert rates[4] == pytest.approx(0.01) and rates[-1] == pytest.approx(0.001)
    assert rates[4:] == sorted(rates[4:], reverse=True)
    schedule = optimizer.schedule(24)
    assert schedule.shape == (24, 3) and schedule.dtype == np.float32
    assert AdamW().rates(3) == [1e-3] * 3


def test_optimizers_agree_with_torch() -> None:
    torch = pytest.importorskip("torch", reason="torch is no dependency of gpubond")
    for mine, theirs in (
        (SGD(0.1, momentum=0.9, decay=0.01), lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, weight_decay=0.01)),
        (
            AdamW(0.05, decay=0.1),
            lambda p: torch.optim.AdamW(
                [{"params": p[:1]}, {"params": p[1:], "weight_decay": 0}], 0.05, weight_decay=0.1
            ),
        ),
    ):
        parameters = [torch.tensor(x.copy(), requires_grad=True) for x in (W, B)]
        optimizer = theirs(parameters)
        for _ in range(20):
            optimizer.zero_grad()
            (((parameters[0] + parameters[1] - torch.tensor(TARGET)) ** 2).sum() * 0.5).backward()
            optimizer.step()
        found = run(fitting(mine, 20), {"target": TARGET[None]}, 20)
        for name, parameter in zip("wb", parameters, strict=True):
            np.testing.assert_allclose(found[name], parameter.detach().numpy(), rtol=1e-4, atol=1e-5)


def taken(program: Program, state: list[Array], data: list[Array], steps: int) -> tuple[list[Array], list[float]]:
    """The last state and the loss of each step: with the C engine if it was built, else by plain NumPy."""
    try:
        from gpubond.exact.c_engine import CEngine

        take = CEngine(1).prepare(program).step
    except (ImportError, OSError):

        def take(state: list[Array], data: list[Array], number: int) -> list[Array]:
            return evaluate(program, state, data, number, np.float32)

    losses = []
    for number in range(steps):
        state = take(state, data, number)
        losses.append(float(state[-1]))
    return state, losses


def test_the_digits_example_learns(tmp_path: Path) -> None:
    pytest.importorskip("sklearn", reason="the data set comes with scikit-learn, extra `examples`")
    numpy_files = pytest.importorskip("safetensors.numpy", reason="safetensors are in the extra `cuda`")

    def script(name: str, *arguments: str) -> str:
        command = [sys.executable, str(EXAMPLE / name), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True, cwd=EXAMPLE.parents[1]).stdout

    printed = script("make_program.py", str(tmp_path))
    assert "9,610" in printed and "1200 steps" in printed
    program = Program.parse((tmp_path / "digits.gpx").read_bytes())
    names = Names.parse((tmp_path / "digits.json").read_text())
    assert names.metrics == {"loss": len(names.state) - 1}
    initial = numpy_files.load_file(tmp_path / "initial.safetensors")
    data = numpy_files.load_file(tmp_path / "data.safetensors")
    state, losses = taken(
        program,
        [initial[f"state.{at}"] for at in range(len(program.state))],
        [data[f"data.{at}"] for at in range(len(program.data))],
        1200,
    )
    numpy_files.save_file({f"state.{at}": np.asarray(x) for at, x in enumerate(state)}, tmp_path / "final.safetensors")
    assert losses[0] > 1 and np.mean(losses[-100:]) < 0.05
    result = json.loads(script("evaluate.py", str(tmp_path / "final.safetensors"), str(tmp_path)))
    assert result["images"] == 540
    assert result["accuracy"] >= 0.97


def text_slices(slices: int, batch: int, context: int) -> tuple[Array, int]:
    """Stretches of Python's own manual, as numbers of characters, and how many different ones there are."""
    text = "".join(topics[name] for name in sorted(topics))
    alphabet = {character: at for at, character in enumerate(sorted(set(text)))}
    numbers = np.array([alphabet[character] for character in text], np.float32)
    begins = np.random.default_rng(4).integers(0, len(numbers) - context, (slices, batch))
    return numbers[begins[..., None] + np.arange(context + 1)], len(alphabet)


def small_transformer(dropout: float = 0.0) -> tuple[Built, list[Array], list[Array]]:
    slices, vocabulary = text_slices(STEPS, 8, 16)
    graph = character_step(
        vocabulary=vocabulary,
        slices=STEPS,
        steps=STEPS,
        batch=8,
        context=16,
        width=32,
        heads=2,
        layers=2,
        dropout=dropout,
        optimizer=AdamW(1e-2, warmup=5),
        most=1.0,
    )
    return build(graph), initial_state(graph, 3), data_tensors(graph, {"text": slices})


def test_a_character_transformer_learns() -> None:
    built, state, data = small_transformer()
    _, losses = taken(built.program, state, data, STEPS)
    counts = np.array(list(Counter("".join(topics.values())).values()))
    shares = counts / counts.sum()
    # At first all characters are alike; at last it knows more than how often each comes.
    assert losses[0] == pytest.approx(np.log(len(counts)), abs=0.3)
    assert np.mean(losses[-20:]) < -(shares * np.log(shares)).sum()


def test_the_engine_that_is_exact_takes_the_same_steps() -> None:
    built, state, data = small_transformer(dropout=0.0)
    plain = evaluate(built.program, state, data, 0, np.float64)
    exact = NumpyEngine().prepare(built.program).step(state, data, 0)
    for name, one, other in zip(built.names.state, exact, plain, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4, err_msg=name)


def test_dropout_makes_training_steps_differ() -> None:
    built, state, data = small_transformer(dropout=0.5)
    _, losses = taken(built.program, state, [np.repeat(x[:1], STEPS, 0) for x in data], 2)
    assert losses[0] != losses[1]
    assert any(op.code.name == "UNIFORM" for op in built.program.ops)
