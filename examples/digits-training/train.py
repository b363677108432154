# SPDX-License-Identifier: Apache-2.0
"""Train a small network (64-128-10) on handwritten digits, in NumPy alone; write weights, metrics, predictions.

python train.py EPOCHS
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np

HIDDEN, CLASSES, BATCH, RATE = 128, 10, 32, 0.05


def main() -> None:
    epochs = int(sys.argv[1])
    images = np.load("train_images.npy", allow_pickle=False) / np.float32(16)
    labels = np.load("train_labels.npy", allow_pickle=False)
    test = np.load("test_images.npy", allow_pickle=False) / np.float32(16)
    random = np.random.default_rng(7)
    w1 = random.normal(0, np.sqrt(2 / images.shape[1]), (images.shape[1], HIDDEN)).astype(np.float32)
    w2 = random.normal(0, np.sqrt(2 / HIDDEN), (HIDDEN, CLASSES)).astype(np.float32)
    b1, b2 = np.zeros(HIDDEN, np.float32), np.zeros(CLASSES, np.float32)
    wanted = np.eye(CLASSES, dtype=np.float32)[labels]

    begin = time.perf_counter()
    loss = 0.0
    for epoch in range(1, epochs + 1):
        order = random.permutation(len(labels))
        loss = 0.0
        for start in range(0, len(order), BATCH):
            batch = order[start : start + BATCH]
            x, y = images[batch], wanted[batch]
            hidden = np.maximum(x @ w1 + b1, 0)
            scores = hidden @ w2 + b2
            shifted = np.exp(scores - scores.max(axis=1, keepdims=True))
            chances = shifted / shifted.sum(axis=1, keepdims=True)
            loss -= float(np.log(np.maximum((chances * y).sum(axis=1), 1e-12)).sum())
            gradient = (chances - y) / np.float32(len(batch))
            inner = (gradient @ w2.T) * (hidden > 0)
            w2 -= np.float32(RATE) * (hidden.T @ gradient)
            b2 -= np.float32(RATE) * gradient.sum(axis=0)
            w1 -= np.float32(RATE) * (x.T @ inner)
            b1 -= np.float32(RATE) * inner.sum(axis=0)
        loss /= len(labels)
        if epoch == 1 or epoch % 20 == 0 or epoch == epochs:
            print(f"epoch {epoch}/{epochs}: loss {loss:.5f}, {time.perf_counter() - begin:.1f} s", flush=True)

    predictions = (np.maximum(test @ w1 + b1, 0) @ w2 + b2).argmax(axis=1).astype("<i4")
    np.savez("weights.npz", w1=w1, b1=b1, w2=w2, b2=b2)
    np.save("predictions.npy", predictions)
    Path("metrics.json").write_text(json.dumps({"epochs": epochs, "loss": loss, "images": len(labels)}))


if __name__ == "__main__":
    main()
