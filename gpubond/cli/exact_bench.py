# SPDX-License-Identifier: Apache-2.0
"""`gpubond exact bench`: what this machine does with exact programs."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import click

from gpubond.cli.command import reporting
from gpubond.cli.exact_task import in_words
from gpubond.cli.output import print_json, progress, table
from gpubond.errors import JobFailed
from gpubond.exact import measure
from gpubond.exact.engines import best

_ROUNDS = 5
_PARTS = ("products", *measure.NETWORKS)


@click.command()
@click.option(
    "--threads",
    type=click.IntRange(1, 1024),
    multiple=True,
    help="Threads of the C engine; may be repeated.  [default: 1, and all]",
)
@click.option(
    "--seconds",
    type=click.FloatRange(0.01, 600),
    default=0.3,
    show_default=True,
    help="Seconds for each product, of either side. Longer is steadier.",
)
@click.option("--only", type=click.Choice(_PARTS), multiple=True, help="These parts; may be repeated.  [default: all]")
@reporting
def bench(threads: tuple[int, ...], seconds: float, only: tuple[str, ...], as_json: bool) -> None:
    """Measure this machine: products beside NumPy's BLAS, training steps, checkpoints and traces. Takes half a minute.

    Products are in GFLOP/s; a ratio above 1 says that ours is faster. `overhead` is what checkpoints at the default
    interval take of a run's time, `trace` a step with the commitments of all its outputs, beside the step alone.
    Nothing is kept.

    Example: gpubond exact bench
    """
    counts = sorted({*threads} or {1, len(os.sched_getaffinity(0))})
    with in_words():
        engines = [best(count, "c") for count in counts]
    found: dict[str, Any] = {"products": {}, "networks": {}}
    parts = only or _PARTS
    for count in counts if "products" in parts else ():
        progress(f"products, {count} thread{'s' if count > 1 else ''}")
        try:
            found["products"][str(count)] = measure.products_apart(count, measure.SHORT, seconds)
        except RuntimeError as error:
            raise JobFailed(str(error), field="products", value=count, remedy="see what it says") from None
    for name in [name for name in measure.NETWORKS if name in parts]:
        progress(f"{name}: {measure.NETWORKS[name]}")
        program, state, data = measure.task_of(name)
        found["networks"][name] = {}
        for count, engine in zip(counts, engines, strict=True):
            with tempfile.TemporaryDirectory(prefix="gpubond-exact-") as folder, in_words():
                prepared = engine.prepare(program)
                figures = measure.accountability(program, prepared, state, data, Path(folder), _ROUNDS)
            found["networks"][name][str(count)] = figures
    document = {"engine": engines[-1].name, "load": round(os.getloadavg()[0], 2), **found}
    if as_json:
        print_json(document)
    else:
        _show(document)


def _show(document: dict[str, Any]) -> None:
    click.echo(f"{document['engine']}; load of the machine {document['load']}")
    products = [
        (size.replace("x", " x "), count, each["ours_gflops"], each["openblas_gflops"], each["ratio"])
        for count, measured in document["products"].items()
        for size, each in measured["sizes"].items()
    ]
    networks = [
        (
            name,
            count,
            f"{each['step_ms']} ms",
            each["step_gflops"],
            f"{each['hash_ms'] + each['write_ms']:.3f} ms",
            f"{each['interval']:,} steps",
            f"{each['overhead_percent']} %",
            f"{each['trace_over_step']} x",
        )
        for name, measured in document["networks"].items()
        for count, each in measured.items()
    ]
    if products:
        table(("product", "threads", "GFLOP/s", "BLAS", "ratio"), products)
    if networks:
        head = ("network", "threads", "step", "GFLOP/s", "checkpoint", "each", "overhead", "trace")
        table(head, networks)
