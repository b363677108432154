# SPDX-License-Identifier: Apache-2.0
"""Figures beside their limits: what benchmarks keep as JSON and print as a table."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gpubond.cli.output import table

# Figure -> the most that it may be (or, negative, the least), and its unit.
Limits = Mapping[str, tuple[float, str]]


def with_former(figures: dict[str, Any], output: Path) -> dict[str, Any]:
    """The figures by part, with those of a file for the parts that were not measured now."""
    former = json.loads(output.read_text("utf-8")) if output.exists() else {}
    return {name: part for name, part in former.items() if name not in ("environment", "limits")} | figures


def beside_limits(figures: dict[str, Any], limits: Limits) -> list[dict[str, Any]]:
    """Each limited figure that was measured, beside its limit."""
    measured = {name: value for part in figures.values() for name, value in part.items()}
    return [
        {
            "name": name,
            "value": measured[name],
            "unit": unit,
            "limit": abs(limit),
            "least": limit < 0,
            "within": measured[name] >= -limit if limit < 0 else measured[name] <= limit,
        }
        for name, (limit, unit) in limits.items()
        if measured.get(name) is not None
    ]


def publish(results: dict[str, Any], output: Path | None, *, as_json: bool) -> int:
    """Writes and prints results that have `limits`; returns 1 if one is missed, else 0."""
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(json.dumps(results, indent=2) + "\n", "utf-8")
    if as_json:
        print(json.dumps(results, indent=2))
    else:
        rows = [
            (
                entry["name"],
                f"{entry['value']:,} {entry['unit']}",
                ("at least " if entry["least"] else "at most ") + f"{entry['limit']:,}",
                "ok" if entry["within"] else "MISSED",
            )
            for entry in results["limits"]
        ]
        table(("figure", "value", "limit", ""), rows)
    return 0 if all(entry["within"] for entry in results["limits"]) else 1
