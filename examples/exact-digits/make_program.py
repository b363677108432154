# SPDX-License-Identifier: Apache-2.0
"""Write the program that trains a network on handwritten digits (64-128-10), its initial state and its data.

python make_program.py [DIRECTORY]        default: beside this file
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file
from sklearn.datasets import load_digits

from gpubond.exact.build import build, data_tensors, initial_state
from gpubond.exact.models import table_step
from gpubond.exact.optimizers import SGD
from gpubond.exact.summary import summarise

TRAIN, BATCH, STEPS = 1257, 64, 1200
SEED = 7


def main() -> None:
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
    target.mkdir(parents=True, exist_ok=True)
    digits = load_digits()
    order = np.random.RandomState(0).permutation(len(digits.target))
    images = digits.data[order].astype(np.float32) / np.float32(16)
    labels = digits.target[order].astype(np.float32)

    graph = table_step((64, 128, 10), BATCH, examples=TRAIN, steps=STEPS, optimizer=SGD(0.05, momentum=0.9, decay=1e-4))
    built = build(graph)
    data = data_tensors(
        graph,
        {
            "examples": images[None, :TRAIN],
            "classes": labels[None, :TRAIN, None],
            "order": picks(np.random.default_rng(SEED)),
        },
    )
    (target / "digits.gpx").write_bytes(built.program.encode())
    (target / "digits.json").write_text(built.names.encode() + "\n")
    save_file({f"state.{at}": x for at, x in enumerate(initial_state(graph, SEED))}, target / "initial.safetensors")
    save_file({f"data.{at}": x for at, x in enumerate(data)}, target / "data.safetensors")
    np.savez(target / "test.npz", images=images[TRAIN:], labels=labels[TRAIN:])
    print("\n".join(summarise(built).lines()))
    print(f"{STEPS} steps; in {target}")


def picks(random: np.random.Generator) -> np.ndarray:
    """Which examples each step learns from: all of them, newly shuffled again and again."""
    rounds = -(-STEPS * BATCH // TRAIN)
    flat = np.concatenate([random.permutation(TRAIN) for _ in range(rounds)])
    return flat[: STEPS * BATCH].reshape(STEPS, BATCH).astype(np.float32)


if __name__ == "__main__":
    main()
