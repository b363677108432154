# SPDX-License-Identifier: Apache-2.0
"""Exact programs on a CUDA GPU. State stays on the device while several steps are taken."""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from gpubond.exact.cuda.device import Device, DeviceFailed, Gpu, Parameters
from gpubond.exact.cuda.launches import STEP, Choices, Launch, launches, scratch_bytes
from gpubond.exact.cuda.layout import Area, Layout, Place, plan
from gpubond.exact.engine import Array, OnOutput
from gpubond.exact.program import Program
from gpubond.exact.refusal import Refused
from gpubond.exact.shapes import Shape


class CudaEngine:
    """Runs programs on a device; `open` finds the GPU.

    choices: how work is divided, for tests; by default as the device's size suggests.
    """

    def __init__(self, device: Device, choices: Choices | None = None) -> None:
        self.name = f"cuda ({device.name})"
        self._device = device
        self._choices = choices or Choices(processors=device.processors)

    @classmethod
    def open(cls, cache: Path | None = None, ordinal: int = 0) -> CudaEngine:
        """The engine of a GPU.

        cache: a directory, writable by its owner only, in which compiled kernels are kept; None keeps none.
        ordinal: of the device, among those that are visible. Raises: Refused if there is no GPU to be used.
        """
        return cls(Gpu(cache, ordinal))

    def prepare(self, program: Program) -> CudaPrepared:
        """Plans the device's memory and takes it. Raises MemoryError if it is not to be had."""
        return CudaPrepared(self._device, program, self._choices)


@dataclass(frozen=True)
class _Bound:
    """A launch with addresses in its parameters. steps: which of them are the number of the step."""

    kernel: str
    grid: tuple[int, int]
    threads: int
    parameters: Parameters
    steps: tuple[int, ...]


class CudaPrepared:
    """A program whose memory on the device is taken.

    memory_bytes: all that it holds, on the device and not in the machine's memory: state, next state, slices of data,
    outputs and block sums. `close` gives it back; so does whoever drops the object.
    """

    def __init__(self, device: Device, program: Program, choices: Choices) -> None:
        self._device = device
        self._program = program
        self._layout = plan(program, partial(scratch_bytes, choices=choices))
        self.memory_bytes = sum(self._layout.sizes.values())
        self._addresses: dict[Area, int] = {}
        # The memory on the device is one.
        self._busy = threading.Lock()
        self.close = weakref.finalize(self, _release, device, self._addresses)
        try:
            for area, size in self._layout.sizes.items():
                self._addresses[area] = device.allocate(max(size, 1))
        except MemoryError:
            self.close()
            raise MemoryError(
                f"the program needs {self.memory_bytes} bytes on {device.name}, which it has not free"
            ) from None
        # Each launch with state and next state where they are now, and where they are when they have changed places.
        made = _all_launches(program, self._layout, choices)
        self._turned = 0
        self._bound: list[list[list[_Bound]]] = []
        for _ in (Area.STATE, Area.NEXT):
            self._bound.append([[self._bind(launch) for launch in of_one] for of_one in made])
            self._turn()

    def step(
        self, state: Sequence[Array], data: Sequence[Array], step: int, on_output: OnOutput | None = None
    ) -> list[Array]:
        """The next state, see `engine.Prepared`."""
        return self.steps(state, data, step, 1, on_output)

    def steps(
        self,
        state: Sequence[Array],
        data: Sequence[Array],
        first: int,
        count: int,
        on_output: OnOutput | None = None,
    ) -> list[Array]:
        """The state after `count` steps from step number `first` on; it is copied to the device and back but once."""
        own = [tensor.shape for tensor in self._program.state]
        _check_arrays("state", state, own)
        _check_arrays("data", data, list(self._program.data))
        with self._busy:
            for array, place in zip(state, self._layout.tensors, strict=False):
                self._upload(place, array)
            for number in range(first, first + count):
                self._upload_slices(data, number)
                self._take(number, on_output)
            return [self._download(self._layout.tensors[at], shape) for at, shape in enumerate(own)]

    def _take(self, step: int, on_output: OnOutput | None) -> None:
        """One step on the device."""
        first = self._program.first_output
        for position, bound in enumerate(self._bound[self._turned]):
            if on_output is None and position not in self._layout.needed:
                continue
            for launch in bound:
                for at in launch.steps:
                    launch.parameters.words[at] = step
                self._device.launch(launch.kernel, launch.grid, launch.threads, launch.parameters)
            if on_output is not None:
                shape = self._program.ops[position].shape
                on_output(position, self._download(self._layout.tensors[first + position], shape))
        for source, target, size in self._layout.moves:
            if size:
                self._device.copy(self._address(target), self._address(source), size)
        self._turn()

    def _turn(self) -> None:
        """The next state becomes the state."""
        places = self._addresses
        places[Area.STATE], places[Area.NEXT] = places[Area.NEXT], places[Area.STATE]
        self._turned = 1 - self._turned

    def _upload_slices(self, data: Sequence[Array], step: int) -> None:
        before = len(self._program.state)
        for at, array in enumerate(data):
            self._upload(self._layout.tensors[before + at], array[step % len(array), ...])

    def _upload(self, place: Place, array: Array) -> None:
        if array.size:
            self._device.upload(self._address(place), np.ascontiguousarray(array))

    def _download(self, place: Place, shape: Shape) -> Array:
        array: Array = np.empty(shape, np.float32)
        if array.size:
            self._device.download(array, self._address(place))
        return array

    def _bind(self, launch: Launch) -> _Bound:
        words = [self._address(word) if isinstance(word, Place) else word for word in launch.words]
        steps = tuple(at for at, word in enumerate(words) if word == STEP)
        parameters = Parameters([0 if isinstance(word, str) else word for word in words])
        return _Bound(launch.kernel, launch.grid, launch.threads, parameters, steps)

    def _address(self, place: Place) -> int:
        return self._addresses[place.area] + place.offset


def _all_launches(program: Program, layout: Layout, choices: Choices) -> list[list[Launch]]:
    """What each operation launches."""
    found = []
    for position, op in enumerate(program.ops):
        inputs = [layout.tensors[number] for number in op.inputs]
        output = layout.tensors[program.first_output + position]
        found.append(launches(op, position, inputs, output, layout.scratch[position], choices))
    return found


def _check_arrays(field: str, arrays: Sequence[Array], wanted: Sequence[Shape]) -> None:
    if len(arrays) != len(wanted):
        raise Refused(field, len(arrays), f"the program has {len(wanted)} such tensors")
    for at, (array, shape) in enumerate(zip(arrays, wanted, strict=True)):
        if array.shape != shape or array.dtype != np.float32:
            raise Refused(f"{field}[{at}]", (array.dtype.name, array.shape), f"must be float32 of the shape {shape}")


def _release(device: Device, addresses: dict[Area, int]) -> None:
    # What failed has nothing to give back, and was told when it failed.
    with contextlib.suppress(DeviceFailed):
        for address in addresses.values():
            device.free(address)
    addresses.clear()
