# SPDX-License-Identifier: Apache-2.0
"""Parts of charts as SVG, so that a picture of the figures needs no plotting library."""

from __future__ import annotations

from html import escape


def opening(width: int, height: int, title: str) -> list[str]:
    """How a picture begins: its size, font, title and white ground. `</svg>` ends it."""
    return [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        'font-family="Helvetica, Arial, sans-serif" font-size="14" fill="#222">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
    ]


def text(
    x: float,
    y: float,
    words: str,
    *,
    anchor: str = "start",
    size: int = 14,
    weight: str = "normal",
    colour: str | None = None,
) -> str:
    """Words at a place; in the picture's own colour if none is given."""
    fill = "" if colour is None else f' fill="{colour}"'
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" font-weight="{weight}"{fill}>'
        f"{escape(words)}</text>"
    )


def mark(kind: str, x: float, y: float, colour: str) -> str:
    """A point: a circle, square, open square, diamond or triangle. Not for colours alone: some see none."""
    if kind == "open square":
        return (
            f'<rect x="{x - 8:.1f}" y="{y - 8:.1f}" width="16" height="16" '
            f'fill="none" stroke="{colour}" stroke-width="2"/>'
        )
    if kind == "square":
        return f'<rect x="{x - 5:.1f}" y="{y - 5:.1f}" width="10" height="10" fill="{colour}"/>'
    if kind == "circle":
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="{colour}"/>'
    outline = {"diamond": [(0, -6), (6, 0), (0, 6), (-6, 0)], "triangle": [(0, -6), (6, 5), (-6, 5)]}[kind]
    points = " ".join(f"{x + left:.1f},{y + down:.1f}" for left, down in outline)
    return f'<polygon points="{points}" fill="{colour}"/>'
