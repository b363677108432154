# SPDX-License-Identifier: Apache-2.0
"""What lies between two checkpoints, made again when somebody asks: states of an interval, outputs of a step, a chain.

All is streamed: of an interval and of a step only hashes are kept. What is written for others to look at is one step,
or one element, in a folder `trace` of the run:

    states-<begin>.json                        {"states": [...]}: commitments after step begin + 1, begin + 2, …
    step-<t>/op-<j>.safetensors                `output`: what operation j gave in step t, from 0
    step-<t>/op-<j>-element-<e>.safetensors    `results`: of every micro-step of element e of that output
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gpubond.exact import commitments, reference, shapes
from gpubond.exact.engine import Array, Prepared
from gpubond.exact.files import write_whole
from gpubond.exact.merkle import Growing, Kind, constant_root, elements_root, root
from gpubond.exact.program import Op, Opcode, Program
from gpubond.exact.refusal import Refused
from gpubond.exact.tensors import put_tensors, read_tensor
from gpubond.exact.views import View

TRACE = "trace"
OUTPUT, RESULTS = "output", "results"
_STATES = re.compile(r"states-(\d{1,20})\.json")
_STEP = re.compile(r"step-(\d{1,20})")
_OP = re.compile(r"op-(\d{1,5})\.safetensors")
_CHAIN = re.compile(r"op-(\d{1,5})-element-(\d{1,10})\.safetensors")
_MOST_BYTES = 1 << 30


def states_of(
    prepared: Prepared, data: Sequence[Array], state: Sequence[Array], begin: int, end: int
) -> Iterator[tuple[int, Sequence[Array]]]:
    """The states after step begin + 1 to `end`, each with its number of steps; `state` is that after `begin`."""
    for step in range(begin, end):
        state = prepared.step(state, data, step)
        yield step + 1, state


def interval_root(prepared: Prepared, data: Sequence[Array], state: Sequence[Array], begin: int, end: int) -> bytes:
    """The root over the states strictly between two checkpoints, the first of which is `state`."""
    tree = Growing(Kind.INTERVAL)
    for _, between in states_of(prepared, data, state, begin, end - 1):
        tree.add(commitments.state(between))
    return tree.root()


def step_root(program: Program, prepared: Prepared, data: Sequence[Array], state: Sequence[Array], step: int) -> bytes:
    """The root over the outputs of all operations of one step."""
    return root(Kind.STEP, output_commitments(program, prepared, data, state, step))


def output_commitments(
    program: Program, prepared: Prepared, data: Sequence[Array], state: Sequence[Array], step: int
) -> list[bytes]:
    """The commitments of all outputs of one step; no output is hashed that is a reshape of another."""
    found: list[bytes] = []
    # Of the elements of each output.
    roots: list[bytes] = []

    def add(index: int, array: Array) -> None:
        op = program.ops[index]
        source = _reshaped(op) - program.first_output
        if op.code is Opcode.CONST:
            above = constant_root(op.parameters[0].to_bytes(4, "little"), array.size)
        else:
            above = roots[source] if source >= 0 else elements_root(commitments.content(array))
        roots.append(above)
        found.append(commitments.tensor_of_root(op.shape, above))

    prepared.step(state, data, step, add)
    return found


def _reshaped(op: Op) -> int:
    """The number of the tensor whose elements the output has, all and in order; -1 if there is none."""
    if op.code is not Opcode.VIEW or shapes.count(op.shape) != shapes.count(op.input_shapes[0]):
        return -1
    shown = View.parse(op.shape, op.parameters)
    return op.inputs[0] if shown.offset == 0 and shown.contiguous else -1


def outputs_of(
    prepared: Prepared, data: Sequence[Array], state: Sequence[Array], step: int, wanted: Iterable[int]
) -> dict[int, Array]:
    """Copies of the outputs of some operations of a step, by position."""
    found: dict[int, Array] = {}
    chosen = frozenset(wanted)

    def take(index: int, array: Array) -> None:
        if index in chosen:
            found[index] = np.array(array)

    prepared.step(state, data, step, take)
    return found


def inputs_of(
    program: Program, index: int, state: Sequence[Array], data: Sequence[Array], step: int, outputs: dict[int, Array]
) -> list[Array]:
    """The inputs of operation `index` in a step. outputs: those of the operations that it reads."""
    before = [*state, *(array[step % array.shape[0], ...] for array in data)]
    first = program.first_output
    return [before[at] if at < first else outputs[at - first] for at in program.ops[index].inputs]


def needed_by(program: Program, index: int) -> set[int]:
    """The operations whose outputs operation `index` reads."""
    return {at - program.first_output for at in program.ops[index].inputs if at >= program.first_output}


def chain_of(op: Op, inputs: Sequence[Array], element: int, step: int, index: int) -> list[reference.MicroStep]:
    """Every micro-step of one element. Raises Refused if there is no such element."""
    if not 0 <= element < shapes.count(op.shape):
        raise Refused("element", element, f"the output of operation {index} has {shapes.count(op.shape)} elements")
    return list(reference.chain(op, inputs, element, step, index))


def write_states(folder: Path, begin: int, states: Sequence[bytes]) -> None:
    """Writes commitments of the states after step begin + 1, … for others to look at. Raises OSError."""
    text = json.dumps({"states": [item.hex() for item in states]}).encode()
    path = folder / TRACE / f"states-{begin}.json"
    path.parent.mkdir(exist_ok=True)
    write_whole(path, lambda stream: stream.write(text))


def write_outputs(
    folder: Path, prepared: Prepared, data: Sequence[Array], state: Sequence[Array], step: int, *, op: int | None = None
) -> None:
    """Writes what the operations of a step give, or one of them, one file each, as they come. Raises OSError."""
    place = _step_folder(folder, step)

    def put(index: int, array: Array) -> None:
        if op is None or index == op:
            _put(place / f"op-{index}.safetensors", OUTPUT, array)

    prepared.step(state, data, step, put)


def write_chain(folder: Path, step: int, index: int, element: int, chain: Sequence[reference.MicroStep]) -> None:
    """Writes what every micro-step of an element gave. Raises OSError."""
    results = np.array([micro.result for micro in chain], np.uint32).view(np.float32)
    _put(_step_folder(folder, step) / f"op-{index}-element-{element}.safetensors", RESULTS, results)


@dataclass(frozen=True)
class TracedStep:
    """What a run's folder says about a step. outputs: files by operation. chains: by operation and element."""

    outputs: dict[int, Path]
    chains: dict[tuple[int, int], Path]

    def output(self, index: int, op: Op) -> Array | None:
        """What it says that operation `index` gave. Raises Refused, OSError."""
        path = self.outputs.get(index)
        return None if path is None else read_tensor(path, OUTPUT, op.shape)

    def results(self, index: int, element: int, op: Op) -> Array | None:
        """What it says that the micro-steps of an element gave. Raises Refused, OSError."""
        path = self.chains.get((index, element))
        return None if path is None else read_tensor(path, RESULTS, (reference.micro_steps(op),))


@dataclass(frozen=True)
class Trace:
    """What a run's folder says beyond its checkpoints. states: commitments, by steps taken. steps: by number."""

    states: dict[int, bytes]
    steps: dict[int, TracedStep]

    @classmethod
    def read(cls, folder: Path) -> Trace:
        """Raises Refused, OSError. Files of other names mean nothing."""
        states: dict[int, bytes] = {}
        steps: dict[int, TracedStep] = {}
        place = folder / TRACE
        for path in sorted(place.iterdir()) if place.is_dir() else []:
            if named := _STATES.fullmatch(path.name):
                begin = int(named[1])
                states |= {begin + 1 + at: item for at, item in enumerate(_read_states(path))}
            elif named := _STEP.fullmatch(path.name):
                steps[int(named[1])] = _read_step(path)
        return cls(states, steps)


def _read_states(path: Path) -> list[bytes]:
    if path.stat().st_size > _MOST_BYTES:
        raise Refused(path.name, path.stat().st_size, f"is larger than {_MOST_BYTES} bytes")
    try:
        found = [bytes.fromhex(item) for item in json.loads(path.read_bytes())["states"]]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise Refused(path.name, path.name, f'must be as {{"states": ["00…", …]}}: {error}') from None
    for at, item in enumerate(found):
        if len(item) != 32:
            raise Refused(f"{path.name}.states[{at}]", item.hex(), "must be 32 bytes")
    return found


def _read_step(folder: Path) -> TracedStep:
    outputs: dict[int, Path] = {}
    chains: dict[tuple[int, int], Path] = {}
    for path in folder.iterdir():
        if named := _OP.fullmatch(path.name):
            outputs[int(named[1])] = path
        elif named := _CHAIN.fullmatch(path.name):
            chains[int(named[1]), int(named[2])] = path
    return TracedStep(outputs, chains)


def _step_folder(folder: Path, step: int) -> Path:
    place = folder / TRACE / f"step-{step}"
    place.mkdir(parents=True, exist_ok=True)
    return place


def _put(path: Path, name: str, array: Array) -> None:
    write_whole(path, lambda stream: put_tensors(stream, {name: array}))
