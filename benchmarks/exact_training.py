# SPDX-License-Identifier: Apache-2.0
"""Training by exact programs beside torch: the time of a step, what is learnt, and where the time goes.

Both take the same steps from the same parameters on the same data with as many threads, in turns, so that whatever else
the machine does meets both alike. torch runs in eager mode, with its fused optimizers, in a process of its own.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.exact_where import where  # noqa: E402
from benchmarks.limits import Limits, beside_limits, publish, with_former  # noqa: E402
from gpubond.exact.build import Built, build, data_tensors, initial_state  # noqa: E402
from gpubond.exact.c_engine import CEngine  # noqa: E402
from gpubond.exact.engine import Array  # noqa: E402
from gpubond.exact.graph import Graph  # noqa: E402
from gpubond.exact.models import character_step, perceptron_step  # noqa: E402
from gpubond.exact.optimizers import SGD, AdamW  # noqa: E402
from gpubond.exact.program import Program  # noqa: E402

PEER = ROOT / "benchmarks" / "exact_peers.py"
EXAMPLE_DIGITS = ROOT / "examples" / "exact-digits"
# Names a Python that has torch, if this one has not.
PEER_VARIABLE = "GPUBOND_TORCH_PYTHON"
PARTS = ("mlp", "transformer", "digits", "characters")
LIMITS: Limits = {
    "mlp_step_vs_torch": (1.3, "x"),
    "transformer_step_vs_torch": (2.0, "x"),
    "digits_accuracy": (-0.97, ""),
    "char_loss_vs_torch": (1.02, "x"),
}
SIZES = (784, 512, 10)
TRANSFORMER = {"context": 128, "width": 256, "heads": 4, "layers": 4}
BATCH, TEXTS = 128, 8
EXAMPLE = """\
example:
  python benchmarks/exact_training.py --peer /opt/torch/bin/python     all parts, as a table
  python benchmarks/exact_training.py --quick --json                   few steps, JSON on standard output
"""


class NoPeer(RuntimeError):
    """There is no torch to compare with."""


# A training step, its data by name, and the peer's task, see exact_peers.py.
Training = tuple[Graph, dict[str, Array], dict[str, Any]]


@dataclass(frozen=True)
class Steps:
    """Of each step: seconds by the clock, and of all threads' processor time; the loss."""

    seconds: list[float]
    processor: list[float]
    losses: list[float]


class Peer:
    """torch in a process of its own, which takes steps when told to."""

    def __init__(self, python: str, task: dict[str, Any], arrays: dict[str, Array], folder: Path) -> None:
        file = folder / f"{task['model']}.npz"
        np.savez(file, **arrays)
        description = folder / f"{task['model']}.json"
        description.write_text(json.dumps(task | {"file": str(file)}))
        # A peer measured with somebody else's choice of kernels would be no peer.
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("OPENBLAS", "MKL", "OMP"))}
        self._process = subprocess.Popen(
            [python, str(PEER), str(description)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=kept
        )
        self.environment = self._answer()

    def steps(self, count: int) -> Steps:
        return Steps(**self._ask(str(count)))

    def profile(self) -> list[dict[str, Any]]:
        """Where the time of one more step goes."""
        operations: list[dict[str, Any]] = self._ask("profile")["operations"]
        return operations

    def close(self) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait(60)

    def _ask(self, line: str) -> dict[str, Any]:
        if self._process.stdin is None:
            raise NoPeer("torch's process has no input")
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        text = self._process.stdout.readline() if self._process.stdout is not None else ""
        if not text:
            raise NoPeer(f"torch's process ended with {self._process.wait(60)}")
        found: dict[str, Any] = json.loads(text)
        return found


class Own:
    """A training step by the C engine."""

    def __init__(self, graph: Graph, state: Sequence[Array], given: dict[str, Array], threads: int) -> None:
        self.built: Built = build(graph)
        self.engine = CEngine(threads)
        self.prepared = self.engine.prepare(self.built.program)
        self.state, self.data = list(state), data_tensors(graph, given)
        self.taken = 0

    def steps(self, count: int) -> Steps:
        found = Steps([], [], [])
        loss = self.built.names.metrics["loss"]
        for _ in range(count):
            begin, used = time.perf_counter(), time.process_time()
            self.state = self.prepared.step(self.state, self.data, self.taken)
            found.processor.append(time.process_time() - used)
            found.seconds.append(time.perf_counter() - begin)
            found.losses.append(float(self.state[loss]))
            self.taken += 1
        return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and keep; returns 1 if a figure misses its limit, 2 if nothing could be measured."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print the results as JSON and nothing else")
    parser.add_argument("--quick", action="store_true", help="a small run that checks the script, not the engine")
    parser.add_argument("--only", choices=PARTS, action="append", help="these parts")
    parser.add_argument("--threads", type=int, action="append", help="of both sides (default: 1, and all cores)")
    parser.add_argument("--peer", default=os.environ.get(PEER_VARIABLE), help=f"a Python with torch ({PEER_VARIABLE})")
    parser.add_argument("--output", type=Path, metavar="FILE", help="where the JSON goes, if anywhere")
    options = parser.parse_args(arguments)
    threads = options.threads or sorted({1, len(os.sched_getaffinity(0))})
    try:
        figures = run(options.quick, options.only or PARTS, threads, options.peer)
    except (NoPeer, RuntimeError, OSError, subprocess.SubprocessError) as error:
        print(f"exact_training: nothing was measured: {error}", file=sys.stderr)
        return 2
    if options.only and options.output is not None:
        figures = with_former(figures, options.output)
    results = {"environment": _environment(threads), **figures, "limits": beside_limits(figures, LIMITS)}
    return publish(results, options.output, as_json=options.json)


def run(quick: bool, parts: Sequence[str], threads: Sequence[int], peer: str | None) -> dict[str, Any]:
    """All figures, by part. Raises NoPeer if a part needs torch and there is none."""
    python = peer or (sys.executable if importlib.util.find_spec("torch") else None)
    if python is None and set(parts) != {"digits"}:
        raise NoPeer(f"no torch here; name a Python that has it: --peer, or {PEER_VARIABLE}")
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="gpubond-exact-") as directory:
        folder = Path(directory)
        for part in parts:
            _note(part)
            if part == "mlp":
                rounds, steps = (3, 10) if quick else (15, 40)
                figures[part] = _worst(part, [mlp(str(python), folder, each, rounds, steps) for each in threads])
            elif part == "transformer":
                rounds, steps = (2, 1) if quick else (9, 3)
                figures[part] = _worst(
                    part, [transformer(str(python), folder, each, rounds, steps) for each in threads]
                )
            elif part == "digits":
                figures[part] = digits(folder, threads[-1])
            else:
                figures[part] = characters(str(python), folder, threads[-1], 4 if quick else 200)
    return figures


def _worst(part: str, found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The figure that has a limit is the worst of all numbers of threads; what it comes from is beside it."""
    name = f"{part}_step_vs_torch"
    return {name: max(each["vs_torch"] for each in found), "by_threads": found}


def mlp(python: str, folder: Path, threads: int, rounds: int, steps: int) -> dict[str, Any]:
    """784-512-10, batches of 128, SGD with momentum."""
    with _both(python, folder, *perceptron_task(), threads) as (own, peer):
        return _turns(own, peer, rounds, steps)


def transformer(python: str, folder: Path, threads: int, rounds: int, steps: int) -> dict[str, Any]:
    """4 layers, width 256, 4 heads, 8 texts of 128 characters, AdamW."""
    total = rounds * steps + 4
    with _transformer(python, folder, threads, total, AdamW(1e-3)) as (own, peer):
        return _turns(own, peer, rounds, steps)


def characters(python: str, folder: Path, threads: int, steps: int) -> dict[str, Any]:
    """The same transformer learns from Python's own manual; mean loss of the last tenth of the steps, and torch's."""
    with _transformer(python, folder, threads, steps, AdamW(1e-3, warmup=steps // 10, final=0.1)) as (own, peer):
        losses, theirs = own.steps(steps).losses, peer.steps(steps).losses
    last = max(1, steps // 10)
    mine, other = statistics.mean(losses[-last:]), statistics.mean(theirs[-last:])
    return {
        "char_steps": steps,
        "char_first_loss": round(losses[0], 4),
        "char_loss": round(mine, 4),
        "char_loss_torch": round(other, 4),
        "char_loss_vs_torch": round(mine / other, 4),
    }


def digits(folder: Path, threads: int) -> dict[str, Any]:
    """The example's network, trained, on digits that it has not seen."""
    from safetensors.numpy import load_file, save_file

    def script(name: str, *arguments: str) -> str:
        command = [sys.executable, str(EXAMPLE_DIGITS / name), *arguments]
        return subprocess.run(
            command, check=True, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)}
        ).stdout

    script("make_program.py", str(folder))
    program = Program.parse((folder / "digits.gpx").read_bytes())
    held, given = load_file(folder / "initial.safetensors"), load_file(folder / "data.safetensors")
    state = [held[f"state.{at}"] for at in range(len(program.state))]
    data = [given[f"data.{at}"] for at in range(len(program.data))]
    prepared = CEngine(threads).prepare(program)
    begin = time.perf_counter()
    for step in range(data[2].shape[0]):
        state = prepared.step(state, data, step)
    seconds = time.perf_counter() - begin
    save_file({f"state.{at}": x for at, x in enumerate(state)}, folder / "final.safetensors")
    result = json.loads(script("evaluate.py", str(folder / "final.safetensors"), str(folder)))
    return {
        "digits_accuracy": round(result["accuracy"], 4),
        "digits_images": result["images"],
        "digits_steps": data[2].shape[0],
        "digits_seconds": round(seconds, 3),
    }


@contextmanager
def _transformer(python: str, folder: Path, threads: int, steps: int, optimizer: AdamW) -> Iterator[tuple[Own, Peer]]:
    with _both(python, folder, *transformer_task(steps, optimizer), threads) as both:
        yield both


def perceptron_task() -> Training:
    """784-512-10, batches of 128, SGD with momentum."""
    optimizer = SGD(0.01, momentum=0.9)
    random = np.random.default_rng(1)
    given = {
        "images": random.random((8, BATCH, SIZES[0]), np.float32),
        "labels": random.integers(0, SIZES[-1], (8, BATCH)).astype(np.float32),
    }
    task = {
        "model": "perceptron",
        "sizes": SIZES,
        "optimizer": {"name": "sgd", "rates": [optimizer.rate], "momentum": optimizer.momentum},
    }
    return perceptron_step(SIZES, BATCH, slices=8, optimizer=optimizer), given, task


def transformer_task(steps: int, optimizer: AdamW) -> Training:
    """4 layers, width 256, 4 heads, 8 texts of 128 characters of Python's own manual, for so many steps."""
    text, vocabulary = _text(steps)
    graph = character_step(
        vocabulary=vocabulary, slices=steps, steps=steps, batch=TEXTS, optimizer=optimizer, **TRANSFORMER
    )
    task = {
        "model": "transformer",
        "sizes": {"vocabulary": vocabulary, **TRANSFORMER},
        "optimizer": {
            "name": "adamw",
            "rates": optimizer.rates(steps),
            "betas": optimizer.betas,
            "decay": optimizer.decay,
        },
    }
    return graph, {"text": text}, task


@contextmanager
def _both(
    python: str, folder: Path, graph: Graph, given: dict[str, Array], task: dict[str, Any], threads: int
) -> Iterator[tuple[Own, Peer]]:
    """Both sides, with the same parameters."""
    state = initial_state(graph, 1)
    own = Own(graph, state, given, threads)
    parameters = {f"p{at}": state[number] for at, number in enumerate(own.built.names.trained)}
    peer = Peer(python, task | {"threads": threads}, parameters | given, folder)
    try:
        yield own, peer
    finally:
        peer.close()


def _turns(own: Own, peer: Peer, rounds: int, steps: int) -> dict[str, Any]:
    """Rounds of steps in turns. The figure is the median over the rounds of the medians' ratio."""
    own.steps(2)
    peer.steps(2)
    ratios, by_processor, mine, theirs, apart = [], [], [], [], 0.0
    for number in range(rounds):
        sides: list[Own | Peer] = [own, peer] if number % 2 == 0 else [peer, own]
        found = {side is own: side.steps(steps) for side in sides}
        left, right = found[True], found[False]
        mine.append(statistics.median(left.seconds))
        theirs.append(statistics.median(right.seconds))
        ratios.append(mine[-1] / theirs[-1])
        by_processor.append(statistics.median(left.processor) / statistics.median(right.processor))
        apart = max(apart, *(abs(a / b - 1) for a, b in zip(left.losses, right.losses, strict=True)))
    return {
        "vs_torch": round(statistics.median(ratios), 3),
        "vs_torch_by_processor_time": round(statistics.median(by_processor), 3),
        "step_ms": round(1000 * statistics.median(mine), 3),
        "step_torch_ms": round(1000 * statistics.median(theirs), 3),
        "rounds": rounds,
        "load": round(os.getloadavg()[0], 2),
        "largest_difference_of_loss": round(apart, 6),
        "engine": own.engine.name,
        "torch": peer.environment,
        "where": where(own.prepared, own.state, own.data, own.taken)[:24],
        "where_torch": peer.profile(),
    }


def _text(slices: int) -> tuple[Array, int]:
    """Stretches of Python's own manual, as numbers of characters, and how many different ones there are."""
    text = "".join(topics[name] for name in sorted(topics))
    alphabet = {character: at for at, character in enumerate(sorted(set(text)))}
    numbers = np.array([alphabet[character] for character in text], np.float32)
    context = TRANSFORMER["context"]
    begins = np.random.default_rng(4).integers(0, len(numbers) - context, (slices, TEXTS))
    return numbers[begins[..., None] + np.arange(context + 1)], len(alphabet)


def _environment(threads: Sequence[int]) -> dict[str, Any]:
    return {
        "cores": os.cpu_count(),
        "threads": list(threads),
        "python": sys.version.split()[0],
        "numpy": np.__version__,
        "load": round(os.getloadavg()[0], 2),
        "turns": "own steps and torch's alternate; the same parameters, data, optimizer and threads",
    }


def _note(text: str) -> None:
    print(f"exact_training: {text}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
