# SPDX-License-Identifier: Apache-2.0
"""Write the job's input: two random matrices in one safetensors file.

python make_data.py [DIRECTORY]        default: beside this file
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

M, N, K = 300, 200, 500


def main() -> None:
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
    target.mkdir(parents=True, exist_ok=True)
    random = np.random.RandomState(0)
    factors = {"a": random.normal(size=(M, K)).astype("<f4"), "b": random.normal(size=(K, N)).astype("<f4")}
    save_file(factors, target / "factors.safetensors")
    print(f"two matrices, {M} x {K} and {K} x {N}, in {target}")


if __name__ == "__main__":
    main()
