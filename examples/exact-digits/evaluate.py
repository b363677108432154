# SPDX-License-Identifier: Apache-2.0
"""How good the network of a final state is on digits that it has not seen; prints JSON.

python evaluate.py STATE [DIRECTORY]        STATE: a safetensors file, or the folder of a job's outputs;
                                            DIRECTORY: where make_program.py wrote
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from gpubond.exact.build import Names


def main() -> None:
    folder = Path(sys.argv[2]) if len(sys.argv) > 2 else Path(__file__).parent
    names = Names.parse((folder / "digits.json").read_text())
    given = Path(sys.argv[1])
    tensors = load_file(given / "final.safetensors" if given.is_dir() else given)
    state = {name: tensors[f"state.{at}"] for at, name in enumerate(names.state)}
    with np.load(folder / "test.npz", allow_pickle=False) as test:
        images, labels = test["images"], test["labels"]
    hidden = np.maximum(images @ state["model.layer[0].weight"].T + state["model.layer[0].bias"], 0)
    scores = hidden @ state["model.layer[1].weight"].T + state["model.layer[1].bias"]
    correct = int((scores.argmax(axis=1) == labels).sum())
    result = {
        "accuracy": correct / len(labels),
        "correct": correct,
        "images": len(labels),
        "loss": float(state["loss"]),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
