# SPDX-License-Identifier: Apache-2.0
"""From a graph to its program, the names that people read it by, and the tensors to start a run with."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from gpubond.exact.engine import Array
from gpubond.exact.graph import Graph
from gpubond.exact.nodes import Kind
from gpubond.exact.program import Op, Opcode, Program, StateTensor
from gpubond.exact.refusal import Refused
from gpubond.exact.shapes import Shape, row_major
from gpubond.exact.views import View


@dataclass(frozen=True)
class Names:
    """What people call the parts of a program; means nothing to machines. Kept beside `x.gpx`, as `x.json`.

    metrics: name -> the state tensor that holds it. trained: state tensors that are parameters. operations: the path of
    the layer that each operation belongs to.
    """

    state: tuple[str, ...]
    data: tuple[str, ...]
    metrics: Mapping[str, int]
    trained: tuple[int, ...]
    operations: tuple[str, ...]

    def encode(self) -> str:
        """As JSON."""
        return json.dumps(
            {
                "version": 1,
                "state": self.state,
                "data": self.data,
                "metrics": {name: f"state.{at}" for name, at in self.metrics.items()},
                "trained": self.trained,
                "operations": self.operations,
            },
            indent=1,
        )

    @classmethod
    def parse(cls, text: str) -> Names:
        """Raises Refused, naming the field."""
        try:
            found = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise Refused("names", text[:40], f"is no JSON: {error}") from None
        if not isinstance(found, dict) or found.get("version") != 1:
            raise Refused("names.version", found.get("version") if isinstance(found, dict) else found, "must be 1")
        lists = {name: found.get(name) for name in ("state", "data", "operations", "trained")}
        for name, value in lists.items():
            wanted = int if name == "trained" else str
            if not isinstance(value, list) or not all(type(item) is wanted for item in value):
                raise Refused(f"names.{name}", value, f"must be a list of {wanted.__name__}")
        known = {f"state.{at}": at for at in range(len(found["state"]))}
        metrics = found.get("metrics")
        if not isinstance(metrics, dict) or not all(isinstance(at, str) and at in known for at in metrics.values()):
            raise Refused("names.metrics", metrics, f'must be as {{"loss": "state.0"}}, up to {len(known) - 1}')
        for at in found["trained"]:
            if at not in known.values():
                raise Refused("names.trained", at, "there is no such state tensor")
        return cls(
            tuple(found["state"]),
            tuple(found["data"]),
            {name: known[at] for name, at in metrics.items()},
            tuple(found["trained"]),
            tuple(found["operations"]),
        )


@dataclass(frozen=True)
class Built:
    """A program and its names."""

    program: Program
    names: Names


def build(graph: Graph) -> Built:
    """The program of a graph: only what the next state needs, each thing once. Raises Refused."""
    actual = _actual(graph)
    needed = _needed(graph, actual)
    number = {entry.node: at for at, entry in enumerate(graph.state_entries)}
    number |= {entry.node: len(number) + at for at, entry in enumerate(graph.data_entries)}
    first = len(number)
    known: dict[tuple[object, ...], int] = {}
    ops: list[Op] = []
    paths: list[str] = []
    for at, node in enumerate(graph.nodes):
        if at not in needed or node.kind != Kind.OPERATION or node.code is None:
            continue
        inputs = tuple(number[actual[x]] for x in node.inputs)
        key = (node.code, inputs, node.shape, node.parameters)
        # Again, because rules for gradients kept apart what is the same to a machine.
        if key in known and node.code != Opcode.UNIFORM:
            number[at] = known[key]
            continue
        number[at] = known[key] = first + len(ops)
        shapes = tuple(graph.nodes[x].shape for x in node.inputs)
        ops.append(Op(node.code, inputs, shapes, node.shape, node.parameters))
        paths.append(node.path)
    state = []
    shown: dict[int, int] = {}
    for entry in graph.state_entries:
        node = graph.nodes[entry.node]
        following = number[actual[graph.nexts.get(entry.node, entry.node)]]
        if len(graph.state_entries) <= following < first:
            # A slice of the data has no commitment, what shows it has.
            if following not in shown:
                shown[following] = first + len(ops)
                ops.append(_whole(following, node.shape))
                paths.append(node.path)
            following = shown[following]
        state.append(StateTensor(node.shape, following))
    data = tuple((entry.slices, *graph.nodes[entry.node].shape) for entry in graph.data_entries)
    names = Names(
        tuple(entry.name for entry in graph.state_entries),
        tuple(entry.name for entry in graph.data_entries),
        {entry.name: at for at, entry in enumerate(graph.state_entries) if entry.metric},
        tuple(at for at, entry in enumerate(graph.state_entries) if entry.trained),
        tuple(paths),
    )
    return Built(Program(tuple(state), data, tuple(ops)), names)


def initial_state(graph: Graph, seed: int) -> list[Array]:
    """The tensors of a state to begin with: the same for the same seed and the same NumPy."""
    random = np.random.Generator(np.random.PCG64(seed))
    return [
        np.array(entry.initial(random, graph.nodes[entry.node].shape), np.float32, order="C")
        for entry in graph.state_entries
    ]


def data_tensors(graph: Graph, given: Mapping[str, Array]) -> list[Array]:
    """The data tensors in order: those given by name, and those that the graph itself knows. Raises Refused."""
    unknown = set(given) - {entry.name for entry in graph.data_entries}
    if unknown:
        raise Refused("data", sorted(unknown), "the graph has no data tensors of these names")
    found = []
    for entry in graph.data_entries:
        values = given.get(entry.name, entry.values)
        shape = (entry.slices, *graph.nodes[entry.node].shape)
        if values is None:
            raise Refused(f"data.{entry.name}", None, f"must be given, with the shape {shape}")
        if values.shape != shape:
            raise Refused(f"data.{entry.name}", values.shape, f"must have the shape {shape}")
        found.append(np.array(values, np.float32, order="C"))
    return found


def _actual(graph: Graph) -> list[int]:
    """Each node, or for an alias what it stands for."""
    found: list[int] = []
    for at, node in enumerate(graph.nodes):
        found.append(found[node.inputs[0]] if node.kind == Kind.ALIAS else at)
    return found


def _whole(number: int, shape: Shape) -> Op:
    """A view of a tensor as it is."""
    return Op(Opcode.VIEW, (number,), (shape,), shape, View.of(0, shape, row_major(shape)).parameters)


def _needed(graph: Graph, actual: list[int]) -> set[int]:
    """Nodes that a state tensor comes from."""
    needed = {actual[node] for node in graph.nexts.values()}
    for at in range(len(graph.nodes) - 1, -1, -1):
        if at in needed:
            needed |= {actual[x] for x in graph.nodes[at].inputs}
    return needed
