# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import copy
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpubond.errors import BadInput
from gpubond.jobs.paths import check_job_path, find_clash
from gpubond.jobs.spec import JobSpec, json_schema, load_job_file, parse_spec

PYTHON: dict[str, Any] = {
    "version": 1,
    "name": "training",
    "runtime": "python",
    "inputs": [{"path": "main.py"}, {"path": "data/x.bin", "source": "local.bin"}],
    "outputs": ["model.npz"],
    "python": {"script": "main.py", "args": ["5"]},
}
CUDA: dict[str, Any] = {
    "version": 1,
    "name": "scale",
    "runtime": "cuda",
    "inputs": [{"path": "k.cu"}, {"path": "a.npy"}],
    "outputs": ["b.npy"],
    "cuda": {
        "source": "k.cu",
        "buffers": {
            "a": {"dtype": "float32", "shape": [8], "from": "a.npy"},
            "b": {"dtype": "float32", "shape": [8], "to": "b.npy"},
        },
        "launches": [
            {
                "kernel": "scale",
                "grid": [1, 1, 1],
                "block": [8, 1, 1],
                "args": [{"buffer": "a"}, {"buffer": "b"}, {"f32": 2.5}],
            }
        ],
    },
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("main.py", "local.bin", "k.cu", "a.npy"):
        (tmp_path / name).write_bytes(name.encode())
    return tmp_path


def write(folder: Path, job: Any) -> Path:
    path = folder / "job.json"
    path.write_text(job if isinstance(job, str) else json.dumps(job))
    return path


def changed(job: dict[str, Any], where: str, value: Any) -> dict[str, Any]:
    """A copy with one field set, by its dotted path; `...` removes it."""
    result = copy.deepcopy(job)
    *parents, last = where.split(".")
    place: Any = result
    for part in parents:
        place = place[int(part)] if isinstance(place, list) else place[part]
    key: Any = int(last) if isinstance(place, list) else last
    if value is ...:
        del place[key]
    elif isinstance(place, list) and key == len(place):
        place.append(value)
    else:
        place[key] = value
    return result


def test_job_file_is_completed_from_local_files(folder: Path) -> None:
    spec, files = load_job_file(write(folder, PYTHON))
    digest = hashlib.sha256(b"local.bin").hexdigest()
    assert spec.inputs[1].sha256 == digest
    assert spec.inputs[1].size == 9
    assert files[digest] == folder / "local.bin"
    assert set(files) == {item.sha256 for item in spec.inputs}
    assert spec.limits.seconds == 600


def test_canonical_form_is_rfc8785_and_hashed(folder: Path) -> None:
    spec, _ = load_job_file(write(folder, CUDA))
    text = spec.canonical().decode()
    assert text.startswith('{"cuda":{"buffers":{"a":{"dtype":"float32","from":"a.npy","shape":[8]}')
    assert ": " not in text
    assert spec.hash() == hashlib.sha256(spec.canonical()).digest()
    assert parse_spec(spec.canonical(), spec.hash()) == spec


def test_order_of_fields_does_not_change_the_hash_but_content_does(folder: Path) -> None:
    spec, _ = load_job_file(write(folder, CUDA))
    reordered, _ = load_job_file(write(folder, dict(reversed(CUDA.items()))))
    assert reordered.hash() == spec.hash()
    whole, _ = load_job_file(write(folder, changed(CUDA, "cuda.launches.0.args.2", {"f32": 2})))
    fraction, _ = load_job_file(write(folder, changed(CUDA, "cuda.launches.0.args.2", {"f32": 2.0})))
    assert whole.hash() == fraction.hash() != spec.hash()
    (folder / "a.npy").write_bytes(b"other")
    assert load_job_file(write(folder, CUDA))[0].hash() != spec.hash()


def test_parse_refuses_another_hash_and_other_forms(folder: Path) -> None:
    spec, _ = load_job_file(write(folder, PYTHON))
    with pytest.raises(BadInput, match="another hash") as caught:
        parse_spec(spec.canonical(), bytes(32))
    assert caught.value.field == "spec_hash"
    spaced = json.dumps(json.loads(spec.canonical()), indent=1).encode()
    with pytest.raises(BadInput, match="canonical"):
        parse_spec(spaced, hashlib.sha256(spaced).digest())
    without_defaults = spec.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_defaults=True)
    short = json.dumps(without_defaults, separators=(",", ":"), sort_keys=True).encode()
    with pytest.raises(BadInput, match="canonical"):
        parse_spec(short, hashlib.sha256(short).digest())


@pytest.mark.parametrize(
    ("where", "value", "field"),
    [
        ("surprise", 1, "surprise"),
        ("python.shell", True, "python.shell"),
        ("version", 2, "version"),
        ("version", "1", "version"),
        ("version", True, "version"),
        ("version", 1.0, "version"),
        ("name", "", "name"),
        ("name", "a\nb", "name"),
        ("name", 5, "name"),
        ("runtime", "bash", "runtime"),
        ("runtime", ..., "runtime"),
        ("inputs", {}, "inputs"),
        ("inputs.0", "main.py", "inputs.0"),
        ("inputs.0.path", 3, "inputs.0.path"),
        ("inputs.0.path", "/etc/passwd", "inputs.0.path"),
        ("inputs.0.path", "../secret", "inputs.0.path"),
        ("inputs.0.path", "a/../../b", "inputs.0.path"),
        ("inputs.0.path", "a\\b", "inputs.0.path"),
        ("inputs.0.path", "a\u0000b", "inputs.0.path"),
        ("inputs.0.path", "a\u202eb", "inputs.0.path"),
        ("inputs.0.path", "a//b", "inputs.0.path"),
        ("inputs.0.path", "./a", "inputs.0.path"),
        ("inputs.0.path", "", "inputs.0.path"),
        ("inputs.0.path", "x" * 256, "inputs.0.path"),
        ("inputs.0.sha256", "ABC", "inputs.0.sha256"),
        ("inputs.0.size", -1, "inputs.0.size"),
        ("inputs.0.size", "7", "inputs.0.size"),
        ("inputs.0.mode", 7, "inputs.0.mode"),
        ("outputs", [], "outputs"),
        ("outputs.0", "../up", "outputs.0"),
        ("limits", {"seconds": 0}, "limits.seconds"),
        ("limits", {"seconds": 1.5}, "limits.seconds"),
        ("limits", {"seconds": "60"}, "limits.seconds"),
        ("limits", {"memory_mib": 1}, "limits.memory_mib"),
        ("limits", {"gpus": 1}, "limits.gpus"),
        ("python.args", ["a\u0000b"], "python.args.0"),
        ("python.args", "5", "python.args"),
    ],
)
def test_bad_field_is_named_with_its_value_and_a_remedy(folder: Path, where: str, value: Any, field: str) -> None:
    with pytest.raises(BadInput) as caught:
        load_job_file(write(folder, changed(PYTHON, where, value)))
    assert caught.value.field == field
    assert caught.value.remedy
    assert field in str(caught.value)


@pytest.mark.parametrize(
    ("where", "value", "said"),
    [
        ("python", ..., "section 'python' is needed"),
        ("cuda", CUDA["cuda"], "section 'cuda' must be left out"),
        ("python.script", "other.py", "not among the inputs"),
        ("outputs", ["main.py"], "named twice"),
        ("outputs", ["model.npz", "model.npz"], "named twice"),
        ("outputs", ["data"], "is a file, so 'data/x.bin'"),
        ("outputs", ["main.py/x"], "is a file, so 'main.py/x'"),
    ],
)
def test_parts_of_a_job_must_agree(folder: Path, where: str, value: Any, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        load_job_file(write(folder, changed(PYTHON, where, value)))


@pytest.mark.parametrize(
    ("where", "value", "field"),
    [
        ("cuda.launches.0.block", [0, 1, 1], "cuda.launches.0.block.0"),
        ("cuda.launches.0.block", [1024, 2, 1], "cuda.launches.0.block"),
        ("cuda.launches.0.block", [1, 1, 65], "cuda.launches.0.block"),
        ("cuda.launches.0.block", [8, 1], "cuda.launches.0.block.2"),
        ("cuda.launches.0.grid", [1, 65536, 1], "cuda.launches.0.grid"),
        ("cuda.launches.0.kernel", "f(); evil", "cuda.launches.0.kernel"),
        ("cuda.launches.0.args.2", {"f32": "2"}, "cuda.launches.0.args.2.f32"),
        ("cuda.launches.0.args.2", {"f32": 1e39}, "cuda.launches.0.args.2.f32"),
        ("cuda.launches.0.args.2", {"i32": 1 << 31}, "cuda.launches.0.args.2.i32"),
        ("cuda.launches.0.args.2", {"u32": -1}, "cuda.launches.0.args.2.u32"),
        ("cuda.launches.0.args.2", {"i64": 1 << 53}, "cuda.launches.0.args.2.i64"),
        ("cuda.launches.0.args.2", {}, "cuda.launches.0.args.2"),
        ("cuda.launches.0.args.2", {"i32": 1, "f32": 1.0}, "cuda.launches.0.args.2"),
        ("cuda.launches.0.args.2", {"f16": 1.0}, "cuda.launches.0.args.2.f16"),
        ("cuda.launches", [], "cuda.launches"),
        ("cuda.buffers.a.dtype", "complex64", "cuda.buffers.a.dtype"),
        ("cuda.buffers.a.shape", [0], "cuda.buffers.a.shape.0"),
        ("cuda.buffers.a.shape", [], "cuda.buffers.a.shape"),
        ("cuda.buffers.a.shape", [1 << 30, 1 << 30], "cuda.buffers.a"),
        ("cuda.options", {"std": "c++98"}, "cuda.options.std"),
        ("cuda.options", {"define": {"A": "1 -include /etc/passwd"}}, "cuda.options.define.A"),
        ("cuda.options", {"define": {"A=1 -v": "1"}}, "cuda.options.define.A=1 -v.[key]"),
        ("cuda.options", {"include": ["/"]}, "cuda.options.include"),
    ],
)
def test_bad_cuda_field_is_named(folder: Path, where: str, value: Any, field: str) -> None:
    with pytest.raises(BadInput) as caught:
        load_job_file(write(folder, changed(CUDA, where, value)))
    assert caught.value.field == field
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("where", "value", "said"),
    [
        ("cuda.source", "b.cu", "not among the inputs"),
        ("cuda.buffers.a.from", "z.npy", "not among the inputs"),
        ("cuda.buffers.b.to", "z.npy", "not among the outputs"),
        ("cuda.buffers.b.to", ..., "'b.npy' is not the `to` of any buffer"),
        ("cuda.buffers.a.to", "b.npy", "written by another buffer already"),
        ("cuda.launches.0.args.0", {"buffer": "c"}, "no buffer is named 'c'"),
        ("cuda.buffers.a.shape", [1 << 29], "more than limits.memory_mib"),
    ],
)
def test_parts_of_a_cuda_job_must_agree(folder: Path, where: str, value: Any, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        load_job_file(write(folder, changed(CUDA, where, value)))


def test_all_errors_are_listed_at_once(folder: Path) -> None:
    job = changed(changed(changed(PYTHON, "name", 5), "extra", 1), "limits", {"seconds": 0})
    with pytest.raises(BadInput) as caught:
        load_job_file(write(folder, job))
    for field in ("name", "extra", "limits.seconds"):
        assert f"\n  {field}: " in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value"), [("sha256", "0" * 64), ("size", 8), ("size", True)], ids=["hash", "size", "boolean"]
)
def test_stated_hash_or_size_that_does_not_match_is_refused(folder: Path, key: str, value: Any) -> None:
    with pytest.raises(BadInput) as caught:
        load_job_file(write(folder, changed(PYTHON, f"inputs.0.{key}", value)))
    assert caught.value.field == f"inputs.0.{key}"
    assert caught.value.value == value
    right = changed(PYTHON, "inputs.0.sha256", hashlib.sha256(b"main.py").hexdigest())
    load_job_file(write(folder, changed(right, "inputs.0.size", 7)))


def test_missing_local_file_is_named(folder: Path) -> None:
    with pytest.raises(BadInput, match=r"gone\.bin does not exist") as caught:
        load_job_file(write(folder, changed(PYTHON, "inputs.1.source", "gone.bin")))
    assert (caught.value.field, caught.value.value) == ("inputs.1.source", "gone.bin")
    (folder / "main.py").unlink()
    with pytest.raises(BadInput) as caught:
        load_job_file(write(folder, PYTHON))
    assert caught.value.field == "inputs.0.path"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "not JSON"),
        ("[]", "must be a JSON object"),
        ('{"version": 1, "version": 1}', "twice"),
        ('{"version": NaN}', "NaN"),
        ("[" * 100000, "nested too deeply"),
        ('{"a":' * 100000, "nested too deeply"),
    ],
)
def test_text_that_is_no_job_file(folder: Path, text: str, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        load_job_file(write(folder, text))


def test_job_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="cannot be read"):
        load_job_file(tmp_path / "job.json")


@given(st.text(alphabet=st.sampled_from("a./\\\0 é\n"), max_size=12))
def test_a_path_that_passes_stays_inside_the_job(path: str) -> None:
    try:
        check_job_path(path)
    except ValueError:
        return
    resolved = Path("/job", path)
    assert ".." not in resolved.parts
    assert str(resolved) == f"/job/{path}"
    assert resolved != Path("/job")


@given(st.lists(st.text(alphabet="ab/", min_size=1, max_size=5).filter(lambda p: not p.startswith("/"))))
def test_clashes_are_exactly_equal_paths_and_directories(paths: list[str]) -> None:
    expected = len(set(paths)) < len(paths) or any(b.startswith(a + "/") for a in paths for b in paths if a != b)
    assert (find_clash(paths) is not None) == expected


def test_schema_is_published_and_closed() -> None:
    schema = json_schema()
    assert schema["additionalProperties"] is False
    assert schema["$defs"]["Buffer"]["properties"].keys() == {"dtype", "shape", "from", "to", "tensor"}
    json.dumps(schema)


def test_spec_is_frozen(folder: Path) -> None:
    spec, _ = load_job_file(write(folder, PYTHON))
    with pytest.raises(ValueError, match="frozen"):
        spec.name = "other"  # type: ignore[misc]
    assert isinstance(spec, JobSpec)
