# SPDX-License-Identifier: Apache-2.0
"""How the gas of a transaction does not grow with the market, as an SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmarks.svg import mark, opening, text

WIDTH, HEIGHT = 880, 480
LEFT, RIGHT, TOP, BOTTOM = 92, 248, 64, 66  # margins around the lines
TICK = 20_000

# The marks differ too, for those who see no colours; that of `expire` is open, since `settle` lies on it.
STYLES = {
    "hire": ("#1b4f9c", "circle"),
    "expire": ("#c2410c", "open square"),
    "settle": ("#15803d", "diamond"),
    "commit": ("#6b21a8", "triangle"),
}


def draw(others: Sequence[int], gas: Mapping[str, Sequence[int]]) -> str:
    """Gas of hire, expire, settle and commit against how many other jobs there are.

    Args:
        others: numbers of jobs, one a point; drawn at equal distances.
        gas: by function, one value a point.

    Returns:
        The SVG's text.
    """
    names = sorted(STYLES, key=lambda name: -gas[name][-1])
    top = TICK * (max(max(gas[name]) for name in names) // TICK + 1)
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM

    def x(point: int) -> float:
        return LEFT + 24 + (right - LEFT - 48) * point / max(len(others) - 1, 1)

    def y(value: float) -> float:
        return bottom - (bottom - TOP) * value / top

    parts = [
        *opening(WIDTH, HEIGHT, "Gas of a transaction against the number of other jobs"),
        text(LEFT, 32, "Gas does not grow with the market", size=18, weight="bold"),
    ]
    for value in range(0, top + 1, TICK):
        parts.append(f'<path d="M{LEFT} {y(value):.1f}H{right}" stroke="{"#222" if value == 0 else "#ddd"}"/>')
        parts.append(text(LEFT - 10, y(value) + 5, f"{value:,}", anchor="end"))
    for point, count in enumerate(others):
        parts.append(f'<path d="M{x(point):.1f} {bottom}v6" stroke="#222"/>')
        parts.append(text(x(point), bottom + 24, f"{count:,}", anchor="middle"))
    parts.append(text((LEFT + right) / 2, HEIGHT - 16, "other offers, jobs and users", anchor="middle"))
    middle = (TOP + bottom) / 2
    parts.append(
        f'<text transform="translate(20 {middle:.1f}) rotate(-90)" text-anchor="middle">gas of a transaction</text>'
    )
    for name in names:
        colour, kind = STYLES[name]
        points = [(x(point), y(value)) for point, value in enumerate(gas[name])]
        line = " ".join(f"{left:.1f},{height:.1f}" for left, height in points)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [mark(kind, left, height, colour) for left, height in points]
    for row, name in enumerate(names):
        colour, kind = STYLES[name]
        height = TOP + 20 + 26 * row
        parts.append(f'<path d="M{right + 24} {height}h28" stroke="{colour}" stroke-width="2"/>')
        parts.append(mark(kind, right + 38, height, colour))
        parts.append(text(right + 62, height + 5, name))
        parts.append(text(WIDTH - 36, height + 5, f"{gas[name][-1]:,} gas", anchor="end"))
    return "\n".join([*parts, "</svg>"]) + "\n"
