# SPDX-License-Identifier: Apache-2.0
"""Offsets in one piece of memory for tensors that live at different times."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Lifetime:
    """From instruction `begin` to `end`, both included. size: in any unit."""

    begin: int
    end: int
    size: int


def arrange(lives: Sequence[Lifetime]) -> list[int]:
    """An offset for each, such that none that live at one time meet: the largest first, each as low as it fits."""
    order = sorted(range(len(lives)), key=lambda at: (-lives[at].size, lives[at].begin))
    offsets = [0] * len(lives)
    begins, ends, lows, highs = (np.zeros(len(lives), dtype=np.int64) for _ in range(4))
    for placed, at in enumerate(order):
        life = lives[at]
        meet = (begins[:placed] <= life.end) & (ends[:placed] >= life.begin)
        low, high = lows[:placed][meet], highs[:placed][meet]
        by_low = np.argsort(low, kind="stable")
        low, high = low[by_low], np.maximum.accumulate(high[by_low]) if len(low) else high
        # The gap before each neighbour begins where the ones below it end.
        floors = np.concatenate(([0], high))
        fits = np.nonzero(low - floors[:-1] >= life.size)[0]
        offset = int(floors[fits[0]] if len(fits) else floors[-1])
        offsets[at] = offset
        begins[placed], ends[placed], lows[placed], highs[placed] = life.begin, life.end, offset, offset + life.size
    return offsets
