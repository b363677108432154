# SPDX-License-Identifier: Apache-2.0
"""States and data in files: what is read is what was written, and all else is refused with a name."""

from __future__ import annotations

import json
import pickle
import random
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from gpubond.exact.program import Op, Opcode, Program, StateTensor
from gpubond.exact.refusal import Refused
from gpubond.exact.tensors import (
    DATA,
    STATE,
    file_bytes,
    put_tensors,
    read_data,
    read_state,
    read_tensor,
    write_tensors,
)

SHAPES = ((3, 5), (), (0, 4), (70,))
PROGRAM = Program(
    tuple(StateTensor(shape, at) for at, shape in enumerate(SHAPES)), ((2, 3),), (Op(Opcode.CONST, (), (), (), (0,)),)
)


def tensors() -> list[np.ndarray]:
    chance = np.random.default_rng(5)
    return [chance.standard_normal(shape).astype(np.float32) for shape in SHAPES]


def named() -> dict[str, np.ndarray]:
    return {f"state.{at}": array for at, array in enumerate(tensors())}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "initial.safetensors"


def same(one: list[np.ndarray], other: list[np.ndarray]) -> bool:
    return all(a.shape == b.shape and a.tobytes() == b.tobytes() for a, b in zip(one, other, strict=True))


def test_what_is_written_is_read_back_and_by_the_library(path: Path) -> None:
    special = tensors()
    special[3][:4] = np.array([0x7FC00000, 0x80000000, 0x00000001, 0xFF800000], np.uint32).view(np.float32)
    write_tensors(path, STATE, special, {"made by": "a test"})
    assert same(read_state(path, PROGRAM), special)
    assert same([load_file(path)[f"state.{at}"] for at in range(4)], special)
    assert path.stat().st_size <= file_bytes(SHAPES)


def test_what_the_library_writes_is_read_and_other_names_mean_nothing(path: Path) -> None:
    save_file(named() | {"names": np.zeros(3, np.int64), "data.0": np.ones((2, 3), np.float32)}, path)
    assert same(read_state(path, PROGRAM), tensors())
    assert same(read_data(path, PROGRAM), [np.ones((2, 3), np.float32)])


def test_what_is_read_is_mapped_and_cannot_be_changed(path: Path) -> None:
    write_tensors(path, STATE, tensors())
    state = read_state(path, PROGRAM)
    with pytest.raises(ValueError, match="read-only"):
        state[0][0, 0] = 1


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"state.0": np.zeros((3, 5), np.float64)}, "initial.safetensors.state.0.dtype"),
        ({"state.0": np.zeros((3, 5), np.int32)}, "initial.safetensors.state.0.dtype"),
        ({"state.0": np.zeros((3, 5), np.float16)}, "initial.safetensors.state.0.dtype"),
        ({"state.0": np.zeros((5, 3), np.float32)}, "initial.safetensors.state.0.shape"),
        ({"state.1": np.zeros((1,), np.float32)}, "initial.safetensors.state.1.shape"),
        ({"state.2": np.zeros((4, 0), np.float32)}, "initial.safetensors.state.2.shape"),
        ({"state.3": None}, "initial.safetensors.state.3"),
        ({"state.3": None, "state.03": np.zeros(70, np.float32)}, "initial.safetensors.state.03"),
        ({"state.4": np.zeros(1, np.float32)}, "initial.safetensors.state.4"),
    ],
)
def test_a_wrong_tensor_is_named(path: Path, change: dict[str, np.ndarray | None], field: str) -> None:
    save_file({name: array for name, array in (named() | change).items() if array is not None}, path)
    with pytest.raises(Refused) as refused:
        read_state(path, PROGRAM)
    assert refused.value.field == field


@pytest.mark.parametrize("bits", [0x7FC00001, 0xFFC00000, 0x7F800001, 0xFFFFFFFF])
@pytest.mark.parametrize("element", [0, 69])
def test_a_nan_that_is_not_canonical_is_named(path: Path, bits: int, element: int) -> None:
    state = tensors()
    state[3].view(np.uint32)[element] = bits
    write_tensors(path, STATE, state)
    with pytest.raises(Refused) as refused:
        read_state(path, PROGRAM)
    assert refused.value.field == f"initial.safetensors.state.3.element[{element}]"
    assert refused.value.value == f"0x{bits:08x}"
    assert same(read_state(path, PROGRAM, nans=False), state)


def test_data_must_be_there(path: Path) -> None:
    with pytest.raises(Refused) as refused:
        read_data(None, PROGRAM)
    assert refused.value.field == "data"
    write_tensors(path, DATA, [np.zeros((2, 2), np.float32)])
    with pytest.raises(Refused) as refused:
        read_data(path, PROGRAM)
    assert refused.value.field == "initial.safetensors.data.0.shape"


def test_a_file_that_was_cut_off_is_refused_at_every_length(path: Path) -> None:
    write_tensors(path, STATE, tensors())
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(Refused):
            read_state(path, PROGRAM)
    path.write_bytes(whole + b"\0")
    with pytest.raises(Refused):
        read_state(path, PROGRAM)


def test_a_header_with_a_flipped_bit_is_refused_or_says_the_same(path: Path) -> None:
    write_tensors(path, STATE, tensors())
    whole = path.read_bytes()
    end = 8 + struct.unpack_from("<Q", whole)[0]
    refused = 0
    for bit in range(8 * end):
        changed = bytearray(whole)
        changed[bit // 8] ^= 1 << bit % 8
        path.write_bytes(changed)
        try:
            assert same(read_state(path, PROGRAM), tensors())
        except Refused:
            refused += 1
    # All but spaces that become other spaces, or zeros of offsets that become the same number.
    assert refused > 8 * end - 80


def raw(path: Path, header: Any, content: bytes) -> None:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + content)


ONE = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    ("header", "content"),
    [
        (
            b'{"output":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},'
            + b'"output":'
            + json.dumps(ONE).encode()
            + b"}",
            8,
        ),
        ({"output": ONE | {"data_offsets": [8, 0]}}, 8),
        ({"output": ONE | {"data_offsets": [0, 1 << 62]}}, 8),
        ({"output": ONE | {"shape": [1 << 62, 4]}}, 8),
        ({"output": ONE | {"shape": [-2]}}, 8),
        ({"output": ONE | {"shape": [2.0]}}, 8),
        ({"output": ONE | {"dtype": "F33"}}, 8),
        ({"output": ONE | {"data_offsets": [4, 12]}}, 12),
        ({"output": ONE, "more": ONE}, 8),
        ({"output": ONE}, 12),
        ({"output": [ONE]}, 8),
        (b"[" * 100_000, 8),
        (b"", 8),
        (b"\xff\xfe", 8),
    ],
)
def test_a_header_that_lies_is_refused(path: Path, header: Any, content: int) -> None:
    raw(path, header, bytes(content))
    with pytest.raises(Refused):
        read_tensor(path, "output", (2,))


def test_tensors_that_lie_at_odd_places_are_read(path: Path) -> None:
    text = json.dumps({"output": ONE}).encode()
    for spaces in range(8):
        raw(path, text + b" " * spaces, np.array([1, 2], "<f4").tobytes())
        array = read_tensor(path, "output", (2,))
        assert array.tolist() == [1, 2] and array.flags.aligned


def test_an_endless_header_is_not_read(path: Path) -> None:
    path.write_bytes(struct.pack("<Q", 1 << 60) + b"{}")
    with pytest.raises(Refused, match="header"):
        read_state(path, PROGRAM)


class Trap:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("sprung"),))


def test_nothing_is_unpickled(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(path.parent)
    path.write_bytes(pickle.dumps(Trap()))
    with pytest.raises(Refused):
        read_state(path, PROGRAM)
    np.save(path.with_suffix(".npy"), np.array([Trap()], object), allow_pickle=True)
    with pytest.raises(Refused):
        read_state(path.with_suffix(".npy"), PROGRAM)
    assert not Path("sprung").exists()


def test_noise_is_refused(path: Path) -> None:
    write_tensors(path, STATE, tensors())
    whole = path.read_bytes()
    end = 8 + struct.unpack_from("<Q", whole)[0]
    chance = random.Random(11)  # noqa: S311
    for _ in range(300):
        changed = bytearray(whole)
        for _ in range(chance.randint(1, 6)):
            at = chance.randrange(end)
            changed[at : at + chance.randint(0, 3)] = chance.randbytes(chance.randint(0, 4))
        path.write_bytes(changed)
        try:
            state = read_state(path, PROGRAM)
        except Refused:
            continue
        assert [array.shape for array in state] == list(SHAPES)


def test_a_write_that_fails_leaves_what_was_there(path: Path) -> None:
    write_tensors(path, STATE, tensors())
    before = path.read_bytes()
    with pytest.raises(AttributeError):
        write_tensors(path, STATE, [tensors()[0], None])  # type: ignore[list-item]
    assert path.read_bytes() == before
    assert [item.name for item in path.parent.iterdir()] == [path.name]


def test_streams_get_the_bytes_of_arrays_in_any_order(path: Path) -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    with path.open("wb") as stream:
        put_tensors(stream, {"output": array.T})
    assert read_tensor(path, "output", (3, 2)).tolist() == array.T.tolist()
