# SPDX-License-Identifier: Apache-2.0
"""Apply the fetched state to the test images, without PyTorch, and print how good it is, as JSON.

python evaluate.py OUTPUT_DIRECTORY [DATA_DIRECTORY]        data directory: where make_data.py wrote

The network is computed anew in NumPy and double precision, and compared with labels that the provider never saw; the
accuracy on held-out images that the provider claims is checked as well.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

SHAPES = {
    "first.weight": (16, 1, 3, 3),
    "first.bias": (16,),
    "second.weight": (32, 16, 3, 3),
    "second.bias": (32,),
    "last.weight": (10, 512),
    "last.bias": (10,),
}
Array = np.ndarray[Any, Any]


def convolved(images: Array, weight: Array, bias: Array, stride: int) -> Array:
    """count x channels x rows x columns, with zeros around; negative values become zero."""
    padded = np.pad(images, ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))[:, :, ::stride, ::stride]
    sums = np.einsum("nchwij,ocij->nohw", windows, weight, optimize=True) + bias[:, None, None]
    return np.maximum(sums, 0)


def classified(images: Array, state: dict[str, Array]) -> Array:
    """The class of each image of 64 values from 0 to 16."""
    hidden = images.reshape(-1, 1, 8, 8).astype(np.float64) / 16
    for layer, stride in (("first", 1), ("second", 2)):
        hidden = convolved(hidden, state[f"{layer}.weight"], state[f"{layer}.bias"], stride)
    return (hidden.reshape(len(images), -1) @ state["last.weight"].T + state["last.bias"]).argmax(axis=1)


def main() -> None:
    outputs = Path(sys.argv[1])
    data = Path(sys.argv[2]) if len(sys.argv) > 2 else Path(__file__).parent
    state = {name: value.astype(np.float64) for name, value in load_file(outputs / "state.safetensors").items()}
    shapes = {name: value.shape for name, value in state.items()}
    if shapes != SHAPES or not all(np.isfinite(value).all() for value in state.values()):
        sys.exit(f"state.safetensors has {shapes}, or numbers that are none; not a result")
    claimed = np.load(outputs / "predictions.npy", allow_pickle=False)
    metrics = json.loads((outputs / "metrics.json").read_text())
    labels = np.load(data / "secret_labels.npy", allow_pickle=False)
    predictions = classified(np.load(data / "test_images.npy", allow_pickle=False), state)
    if claimed.shape != labels.shape:
        sys.exit(f"predictions.npy has the shape {claimed.shape}; not a result")
    held = slice(-int(metrics["held_out"]), None)
    images, known = (np.load(data / f"train_{what}.npy", allow_pickle=False)[held] for what in ("images", "labels"))
    correct = int((predictions == labels).sum())
    result = {
        "accuracy": correct / len(labels),
        "correct": correct,
        "images": len(labels),
        "predictions_agree": int((predictions == claimed).sum()),
        "held_out_accuracy": float((classified(images, state) == known).mean()),
        "held_out_accuracy_claimed": metrics["epochs"][-1]["held_out_accuracy"],
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
