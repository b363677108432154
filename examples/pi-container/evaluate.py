# SPDX-License-Identifier: Apache-2.0
"""How many of the digits are right, by another formula: `python evaluate.py FOLDER`."""

import json
import sys
from decimal import Decimal, localcontext
from pathlib import Path


def digits_of_pi(count: int) -> str:
    """By Gauss and Legendre's iteration, which doubles the digits each time."""
    with localcontext() as context:
        context.prec = count + 20
        a, b, t, p = Decimal(1), 1 / Decimal(2).sqrt(), Decimal(1) / 4, Decimal(1)
        for _ in range(count.bit_length() + 2):
            a, b, t, p = (a + b) / 2, (a * b).sqrt(), t - p * ((a - b) / 2) ** 2, 2 * p
        return str((a + b) ** 2 / (4 * t))[2 : count + 2]


found = (Path(sys.argv[1]) / "pi.txt").read_text().strip()
expected = digits_of_pi(len(found))
correct = sum(one == other for one, other in zip(found, expected, strict=True))
print(json.dumps({"digits": len(found), "correct": correct}))
