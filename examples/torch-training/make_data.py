# SPDX-License-Identifier: Apache-2.0
"""Write the job's inputs, and apart from them the labels that the provider never sees.

python make_data.py [DIRECTORY]        default: beside this file
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

TRAIN = 1257


def main() -> None:
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
    target.mkdir(parents=True, exist_ok=True)
    digits = load_digits()
    order = np.random.RandomState(0).permutation(len(digits.target))
    images = digits.data[order].astype("<f4")
    labels = digits.target[order].astype("<i4")
    np.save(target / "train_images.npy", images[:TRAIN])
    np.save(target / "train_labels.npy", labels[:TRAIN])
    np.save(target / "test_images.npy", images[TRAIN:])
    np.save(target / "secret_labels.npy", labels[TRAIN:])
    print(f"{TRAIN} images to compare with and {len(labels) - TRAIN} to classify, in {target}")


if __name__ == "__main__":
    main()
