# SPDX-License-Identifier: Apache-2.0
"""Check fetched weights against fetched predictions; print loss and accuracy as JSON.

python evaluate.py OUTPUT_DIRECTORY [DATA_DIRECTORY]        data directory: where make_data.py wrote
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np


def main() -> None:
    outputs = Path(sys.argv[1])
    data = Path(sys.argv[2]) if len(sys.argv) > 2 else Path(__file__).parent
    test = np.load(data / "test_images.npy", allow_pickle=False) / np.float32(16)
    with np.load(outputs / "weights.npz", allow_pickle=False) as weights:
        hidden = np.maximum(test @ weights["w1"] + weights["b1"], 0)
        predictions = (hidden @ weights["w2"] + weights["b2"]).argmax(axis=1)
    claimed = np.load(outputs / "predictions.npy", allow_pickle=False)
    metrics = json.loads((outputs / "metrics.json").read_text())
    labels = np.load(data / "secret_labels.npy", allow_pickle=False)
    if predictions.shape != labels.shape or claimed.shape != labels.shape:
        sys.exit(f"the weights give predictions of shape {predictions.shape}; not a result")
    correct = int((predictions == labels).sum())
    result = {
        "accuracy": correct / len(labels),
        "correct": correct,
        "images": len(labels),
        "loss": metrics["loss"],
        "predictions_agree": int((predictions == claimed).sum()),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
