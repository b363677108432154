# SPDX-License-Identifier: Apache-2.0
"""Train a convolutional network on handwritten digits in PyTorch; write the trained state, metrics, predictions.

python train.py EPOCHS

On the GPU that was hired, or else on the processor. The last part of the training images is held out: nothing is fitted
to it, and `metrics.json` has the accuracy on it after each epoch, the last one included, whatever it is.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

# Before CUDA starts: without it cuBLAS may add up in another order each time.
os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

SEED, SIDE, CLASSES, BATCH, RATE, HELD_OUT = 7, 8, 10, 32, 1e-3, 257


class Network(nn.Module):
    """Two convolutions, the second of every other place, one linear layer.

    No pooling: its gradient has no deterministic implementation for CUDA in PyTorch.
    """

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 16, 3, padding=1)
        self.second = nn.Conv2d(16, 32, 3, stride=2, padding=1)
        self.last = nn.Linear(32 * (SIDE // 2) ** 2, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        """Scores of each class. images: count x 1 x 8 x 8, values from 0 to 1."""
        hidden = functional.relu(self.second(functional.relu(self.first(images))))
        return self.last(hidden.flatten(1))


def load(name: str, device: torch.device) -> Tensor:
    images = torch.from_numpy(np.load(name, allow_pickle=False)) / 16
    return images.reshape(-1, 1, SIDE, SIDE).to(device)


def accuracy(network: Network, images: Tensor, labels: Tensor) -> float:
    with torch.no_grad():
        return float((network(images).argmax(1) == labels).float().mean())


def main() -> None:
    epochs = int(sys.argv[1])
    torch.manual_seed(SEED)
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.allow_tf32 = False
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "the processor"
    print(f"PyTorch {torch.__version__} on {name}", flush=True)

    images = load("train_images.npy", device)
    labels = torch.from_numpy(np.load("train_labels.npy", allow_pickle=False)).long().to(device)
    fitted, held = slice(0, len(labels) - HELD_OUT), slice(len(labels) - HELD_OUT, None)
    x, y = images[fitted], labels[fitted]
    network = Network().to(device)
    optimizer = torch.optim.Adam(network.parameters(), lr=RATE)

    begin, history = time.perf_counter(), []
    for epoch in range(1, epochs + 1):
        total = 0.0
        # On the processor, so that the order is the same on every device.
        for batch in torch.randperm(len(y)).split(BATCH):
            loss = functional.cross_entropy(network(x[batch]), y[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(batch)
        history.append({"loss": total / len(y), "held_out_accuracy": accuracy(network, images[held], labels[held])})
        print(
            f"epoch {epoch}/{epochs}: loss {history[-1]['loss']:.5f}, accuracy on the {HELD_OUT} held out "
            f"{history[-1]['held_out_accuracy']:.4f}, {time.perf_counter() - begin:.1f} s",
            flush=True,
        )

    with torch.no_grad():
        predictions = network(load("test_images.npy", device)).argmax(1).cpu().numpy().astype("<i4")
    # Tensors and their names alone: a pickle could run code on the machine of whoever reads it.
    save_file({key: value.cpu().contiguous() for key, value in network.state_dict().items()}, "state.safetensors")
    np.save("predictions.npy", predictions)
    metrics = {
        "torch": torch.__version__,
        "device": name,
        "seed": SEED,
        "epochs": history,
        "fitted": len(y),
        "held_out": HELD_OUT,
    }
    Path("metrics.json").write_text(json.dumps(metrics))


if __name__ == "__main__":
    main()
