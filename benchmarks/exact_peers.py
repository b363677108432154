# SPDX-License-Identifier: Apache-2.0
"""The models of gpubond/exact/models.py written with torch, parameters in the same order, and steps of them measured.

For comparisons only, and run by whichever Python has torch: needs nothing else of this project.

python exact_peers.py TASK.json        then, for each line of standard input, that many steps; answers in JSON

A task: `model`, `sizes`, `threads`, `optimizer` (`name`, `rates` of each step, more), `file`: an .npz with the first
parameters, `p0`, `p1`, …, and the data by name; `device`, "cpu" if it is not given.
"""

from __future__ import annotations

import json
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional


class TorchPerceptron(nn.Module):
    """See Perceptron."""

    def __init__(self, sizes: tuple[int, ...]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(n, to) for n, to in pairwise(sizes))

    def forward(self, x: Any) -> Any:
        for layer in self.layers[:-1]:
            x = torch.relu(layer(x))
        return self.layers[-1](x)

    def loss(self, x: Any, labels: Any) -> Any:
        return functional.cross_entropy(self(x), labels)


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v, self.out = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x: Any) -> Any:
        batch, places, width = x.shape
        q, k, v = (
            layer(x).view(batch, places, self.heads, width // self.heads).transpose(1, 2)
            for layer in (self.q, self.k, self.v)
        )
        seen = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out(seen.transpose(1, 2).reshape(batch, places, width))


class _Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm_1 = nn.LayerNorm(width)
        self.attention = _Attention(width, heads)
        self.norm_2 = nn.LayerNorm(width)
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)

    def forward(self, x: Any) -> Any:
        x = x + self.attention(self.norm_1(x))
        return x + self.down(functional.gelu(self.up(self.norm_2(x)), approximate="tanh"))


class TorchTransformer(nn.Module):
    """See Transformer."""

    def __init__(self, *, vocabulary: int, context: int, width: int, heads: int, layers: int) -> None:
        super().__init__()
        self.characters = nn.Embedding(vocabulary, width)
        self.places = nn.Embedding(context, width)
        self.blocks = nn.ModuleList(_Block(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary, bias=False)

    def forward(self, characters: Any) -> Any:
        x = self.characters(characters) + self.places.weight[: characters.shape[1]]
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))

    def loss(self, text: Any) -> Any:
        """Of [batch, places + 1] characters, as of character_step."""
        logits = self(text[:, :-1])
        return functional.cross_entropy(logits.reshape(-1, logits.shape[-1]), text[:, 1:].reshape(-1))


class Peer:
    """A model, its optimizer and its data."""

    def __init__(self, task: dict[str, Any]) -> None:
        torch.set_num_threads(task["threads"])
        device = task.get("device", "cpu")
        with np.load(task["file"], allow_pickle=False) as held:
            arrays = {name: torch.tensor(held[name], device=device) for name in held.files}
        self.model: Any
        if task["model"] == "perceptron":
            self.model = TorchPerceptron(tuple(task["sizes"]))
            self.batches = list(zip(arrays["images"], arrays["labels"].long(), strict=True))
        else:
            self.model = TorchTransformer(**task["sizes"])
            self.batches = [(text,) for text in arrays["text"].long()]
        self.model.to(device)
        with torch.no_grad():
            for at, parameter in enumerate(self.model.parameters()):
                parameter.copy_(arrays[f"p{at}"])
        chosen = task["optimizer"]
        self.rates = chosen["rates"]
        parameters = list(self.model.parameters())
        if chosen["name"] == "sgd":
            self.optimizer: Any = torch.optim.SGD(parameters, self.rates[0], momentum=chosen["momentum"], fused=True)
        else:
            groups = [
                {"params": [p for p in parameters if p.ndim > 1], "weight_decay": chosen["decay"]},
                {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
            ]
            self.optimizer = torch.optim.AdamW(groups, self.rates[0], betas=tuple(chosen["betas"]), fused=True)
        self.steps = 0

    def step(self) -> float:
        """One training step; the loss before it."""
        return float(self.enqueue())

    def enqueue(self) -> Any:
        """One training step, which a GPU may not have taken yet; the loss before it, as a tensor."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.rates[self.steps % len(self.rates)]
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.model.loss(*self.batches[self.steps % len(self.batches)])
        loss.backward()
        self.optimizer.step()
        self.steps += 1
        return loss.detach()

    def profile(self) -> list[dict[str, Any]]:
        """Where the time of a step goes, by torch's own operations, greatest first."""
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
            self.step()
        found = [
            {"operation": event.key, "times": event.count, "ms": round(event.self_cpu_time_total / 1000, 3)}
            for event in profile.key_averages()
        ]
        return sorted(found, key=lambda row: -row["ms"])[:16]


def main() -> None:
    peer = Peer(json.loads(Path(sys.argv[1]).read_text()))
    print(json.dumps({"torch": torch.__version__, "threads": torch.get_num_threads()}), flush=True)
    for line in sys.stdin:
        if line.strip() == "profile":
            print(json.dumps({"operations": peer.profile()}), flush=True)
            continue
        seconds, processor, losses = [], [], []
        for _ in range(int(line)):
            begin, used = time.perf_counter(), time.process_time()
            losses.append(peer.step())
            processor.append(time.process_time() - used)
            seconds.append(time.perf_counter() - begin)
        print(json.dumps({"seconds": seconds, "processor": processor, "losses": losses}), flush=True)


if __name__ == "__main__":
    main()
