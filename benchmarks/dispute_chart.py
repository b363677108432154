# SPDX-License-Identifier: Apache-2.0
"""How the gas of a game grows with the run that it is about, as an SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import log10

from benchmarks.svg import mark, opening, text

WIDTH, HEIGHT = 880, 480
LEFT, RIGHT, TOP, BOTTOM = 112, 232, 78, 66  # margins around the lines
TICK = 250_000

# The marks differ too, for those who see no colours.
STYLES = {
    "elements": ("#1b4f9c", "circle", "elements of a tensor"),
    "steps": ("#c2410c", "square", "steps"),
    "interval": ("#15803d", "diamond", "checkpoint interval"),
    "ops": ("#6b21a8", "triangle", "operations of a step"),
}


def draw(growth: Mapping[str, Sequence[Mapping[str, int]]], base: int) -> str:
    """Gas of a whole game against the size of what it is about, one thing grown at a time.

    Args:
        growth: by what grows, its points: `size` and `gas`.
        base: gas of the game whose other sizes each point has.

    Returns:
        The SVG's text.
    """
    points = [point for name in STYLES for point in growth[name]]
    first = int(log10(min(point["size"] for point in points)))
    last = -int(-log10(max(point["size"] for point in points)) // 1)
    top = TICK * (max(point["gas"] for point in points) // TICK + 1)
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM

    def x(size: float) -> float:
        return LEFT + 12 + (right - LEFT - 24) * (log10(size) - first) / (last - first)

    def y(value: float) -> float:
        return bottom - (bottom - TOP) * value / top

    parts = [
        *opening(WIDTH, HEIGHT, "Gas of a whole dispute against the size of the run that it is about"),
        text(LEFT, 32, "A dispute grows with the logarithm of the run", size=18, weight="bold"),
        text(LEFT, 54, "all transactions of both sides, from opening to conviction", colour="#555"),
    ]
    for value in range(0, top + 1, TICK):
        parts.append(f'<path d="M{LEFT} {y(value):.1f}H{right}" stroke="{"#222" if value == 0 else "#ddd"}"/>')
        parts.append(text(LEFT - 10, y(value) + 5, f"{value:,}", anchor="end"))
    for power in range(first, last + 1):
        parts.append(f'<path d="M{x(10**power):.1f} {bottom}v6" stroke="#222"/>')
        parts.append(
            f'<text x="{x(10**power):.1f}" y="{bottom + 24}" text-anchor="middle">10'
            f'<tspan dy="-6" font-size="10">{power}</tspan></text>'
        )
    parts.append(text((LEFT + right) / 2, HEIGHT - 16, "how many", anchor="middle"))
    parts.append(
        f'<text transform="translate(20 {(TOP + bottom) / 2:.1f}) rotate(-90)" text-anchor="middle">gas</text>'
    )
    parts.append(f'<path d="M{LEFT} {y(base):.1f}H{right}" stroke="#888" stroke-dasharray="4 4"/>')
    for row, (name, (colour, kind, label)) in enumerate(STYLES.items()):
        places = [(x(point["size"]), y(point["gas"])) for point in growth[name]]
        line = " ".join(f"{across:.1f},{down:.1f}" for across, down in places)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [mark(kind, across, down, colour) for across, down in places]
        height = TOP + 20 + 26 * row
        parts.append(f'<path d="M{right + 20} {height}h28" stroke="{colour}" stroke-width="2"/>')
        parts.append(mark(kind, right + 34, height, colour))
        parts.append(text(right + 58, height + 5, label))
    height = TOP + 20 + 26 * len(STYLES)
    parts.append(f'<path d="M{right + 20} {height}h28" stroke="#888" stroke-dasharray="4 4"/>')
    parts.append(text(right + 58, height + 5, f"{base:,} gas"))
    return "\n".join([*parts, "</svg>"]) + "\n"
