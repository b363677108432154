# SPDX-License-Identifier: Apache-2.0
"""`gpubond exact inspect`: what a program, a file of tensors or a run is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from gpubond.cli.command import reporting
from gpubond.cli.exact_task import in_words, read_program
from gpubond.cli.output import facts, print_json, table
from gpubond.errors import BadInput
from gpubond.exact import commitments, shapes, tensors
from gpubond.exact.build import Names
from gpubond.exact.engine import Array
from gpubond.exact.live import live_bytes
from gpubond.exact.manifest import MANIFEST, Manifest, read_manifest
from gpubond.exact.memory import data_bytes, state_bytes
from gpubond.exact.program import Program
from gpubond.exact.refusal import Refused
from gpubond.exact.summary import Cost, size


@click.command()
@click.argument("path", metavar="PATH", type=click.Path(path_type=Path))
@reporting
def inspect(path: Path, as_json: bool) -> None:
    """Show a program (.gpx), a file of tensors (.safetensors), or a run: its folder or manifest.json.

    Of a program: operations, shapes, fused multiply-adds, memory. Of tensors: shapes and commitments. Nothing is run.

    Example: gpubond exact inspect digits/digits.gpx
    """
    with in_words():
        if path.is_dir() or path.name == MANIFEST:
            _show_run(path if path.is_dir() else path.parent, as_json)
        elif path.suffix == ".gpx":
            _show_program(path, as_json)
        elif path.suffix == ".safetensors":
            _show_tensors(path, as_json)
        else:
            raise BadInput(
                "is no kind of file that this command knows",
                field="PATH",
                value=str(path),
                remedy="name a .gpx, a .safetensors, a manifest.json or a run's folder",
            )


def _show_program(path: Path, as_json: bool) -> None:
    program = read_program(path)
    layers = _layers(path, program)
    first = program.first_output
    rows: list[dict[str, Any]] = []
    whole = Cost()
    for at, op in enumerate(program.ops):
        cost = Cost()
        for one in (cost, whole):
            one.take(op)
        rows.append(
            {
                "op": at,
                "operation": op.code.name,
                "inputs": [_name(number, program) for number in op.inputs],
                "shape": list(op.shape),
                "fmas": cost.products + cost.terms + cost.elements,
                "layer": layers[at] if layers else "",
            }
        )
    live = live_bytes(program)
    document = {
        "program": commitments.program(program).hex(),
        "state": [{"shape": list(one.shape), "next": _name(one.next, program)} for one in program.state],
        "data": [list(shape) for shape in program.data],
        "fmas": whole.products + whole.terms + whole.elements,
        "state_bytes": state_bytes(program),
        "data_bytes": data_bytes(program),
        "live_bytes": live,
        "ops": rows,
    }
    if as_json:
        print_json(document)
        return
    tensors_of = [
        *((f"state.{at}", _shape(one.shape), _name(one.next, program)) for at, one in enumerate(program.state)),
        *((f"data.{at}", _shape(shape), "") for at, shape in enumerate(program.data)),
    ]
    table(("tensor", "shape", "becomes"), tensors_of)
    head = ("op", "operation", "inputs", "output", "FMAs", *(("layer",) if layers else ()))
    table(
        head,
        [
            (
                row["op"],
                row["operation"],
                " ".join(row["inputs"]),
                _shape(row["shape"]),
                f"{row['fmas']:,}" if row["fmas"] else "",
                *((row["layer"],) if layers else ()),
            )
            for row in rows
        ],
    )
    facts(
        [
            ("program root", document["program"]),
            ("operations", f"{len(program.ops):,}; the first output is tensor {first}"),
            ("FMAs a step", f"{document['fmas']:,}"),
            (
                "memory",
                f"state {size(state_bytes(program))}, data {size(data_bytes(program))}, live outputs {size(live)}",
            ),
        ]
    )


def _layers(path: Path, program: Program) -> list[str]:
    """The layer of each operation, if a file beside the program tells it."""
    beside = path.with_suffix(".json")
    try:
        names = list(Names.parse(beside.read_text()).operations)
    except (OSError, Refused, UnicodeDecodeError):
        return []
    return names if len(names) == len(program.ops) else []


def _show_tensors(path: Path, as_json: bool) -> None:
    entries, _ = tensors.layout(path)
    rows = []
    for name, entry in entries.items():
        row = {"name": name, "dtype": entry["dtype"], "shape": entry["shape"], "commitment": None}
        shape = tuple(entry["shape"])
        if entry["dtype"] == "F32":
            shapes.check(f"{path.name}.{name}", shape)
            array = tensors.read_tensor(path, name, shape)
            tensors.check_nans(f"{path.name}.{name}", array)
            row["commitment"] = commitments.tensor(array).hex()
        rows.append(row)
    roots: dict[str, str] = {}
    for prefix, of in ((tensors.STATE, commitments.state), (tensors.DATA, commitments.data)):
        numbered: list[Array] = []
        while (name := f"{prefix}.{len(numbered)}") in entries and entries[name]["dtype"] == "F32":
            numbered.append(tensors.read_tensor(path, name, tuple(entries[name]["shape"])))
        if numbered:
            roots[prefix] = of(numbered).hex()
    if as_json:
        print_json({"tensors": rows, **roots})
        return
    table(
        ("tensor", "type", "shape", "commitment"),
        [(row["name"], row["dtype"], _shape(row["shape"]), row["commitment"] or "") for row in rows],
    )
    if roots:
        facts([(f"{name} root", root) for name, root in roots.items()])


def _show_run(folder: Path, as_json: bool) -> None:
    manifest = read_manifest(folder)
    kept = sorted(item.name for item in folder.glob("checkpoint-*.safetensors"))
    agrees = _agrees(manifest)
    if as_json:
        print_json(manifest.as_dict() | {"agrees_with_itself": agrees, "kept": kept})
        return
    newest = manifest.checkpoints[-1].step if manifest.checkpoints else 0
    facts(
        [
            ("statement", manifest.statement.hex()),
            ("program", manifest.program.hex()),
            ("initial state", manifest.initial.hex()),
            ("data", manifest.data.hex()),
            ("steps", f"{newest:,} of {manifest.steps:,}, a checkpoint each {manifest.interval:,}"),
            ("checkpoints", f"{len(manifest.checkpoints):,}, the states of {len(kept):,} are here"),
            ("run root", "none yet: the run has not ended" if manifest.run is None else manifest.run.hex()),
        ]
    )
    if agrees is False:
        click.echo("note: the run root is not that of its own checkpoints")
    click.echo("This is what it says; `gpubond exact verify` computes it again.")


def _agrees(manifest: Manifest) -> bool | None:
    """Whether the run root is that of the checkpoints; None while there is none."""
    if manifest.run is None:
        return None
    return commitments.run([item.state for item in manifest.checkpoints]) == manifest.run


def _name(number: int, program: Program) -> str:
    """A tensor of a step, for people."""
    if number < len(program.state):
        return f"state.{number}"
    if number < program.first_output:
        return f"data.{number - len(program.state)}"
    return f"op.{number - program.first_output}"


def _shape(shape: Any) -> str:
    return json.dumps(list(shape))
