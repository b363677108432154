# SPDX-License-Identifier: Apache-2.0
"""Print how far a fetched product is from NumPy's in double precision, as JSON.

python evaluate.py OUTPUT_DIRECTORY [DATA_DIRECTORY]        data directory: where make_data.py wrote
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file


def main() -> None:
    outputs = Path(sys.argv[1])
    data = Path(sys.argv[2]) if len(sys.argv) > 2 else Path(__file__).parent
    product = np.load(outputs / "product.npy", allow_pickle=False)
    factors = load_file(data / "factors.safetensors")
    exact = factors["a"].astype(np.float64) @ factors["b"].astype(np.float64)
    if product.shape != exact.shape or product.dtype != np.float32:
        sys.exit(f"product.npy has shape {product.shape} and type {product.dtype}; not a result")
    print(json.dumps({"largest_error": float(np.abs(product - exact).max()), "elements": product.size}))


if __name__ == "__main__":
    main()
