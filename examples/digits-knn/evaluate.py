# SPDX-License-Identifier: Apache-2.0
"""Print the accuracy of fetched predictions as JSON.

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
    predictions = np.load(outputs / "predictions.npy", allow_pickle=False)
    labels = np.load(data / "secret_labels.npy", allow_pickle=False)
    if predictions.shape != labels.shape or predictions.dtype.kind != "i":
        sys.exit(f"predictions.npy has shape {predictions.shape} and type {predictions.dtype}; not a result")
    correct = int((predictions == labels).sum())
    print(json.dumps({"accuracy": correct / len(labels), "correct": correct, "images": len(labels)}))


if __name__ == "__main__":
    main()
