# SPDX-License-Identifier: Apache-2.0
"""The job specification, version 1: what a buyer asks for, by content.

A specification names every input by SHA-256, so its own hash fixes the whole job. Its canonical form is
RFC 8785 JSON; the SHA-256 of that is the `spec hash` in the job's terms on chain. A *job file* is the same JSON
as a person writes it: inputs may name a local file and leave out hash and size.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, StringConstraints, ValidationError, model_validator

from gpubond.errors import BadInput
from gpubond.exact.program import Program
from gpubond.exact.refusal import Refused
from gpubond.jobs.answer_time import MOST_SECONDS, answer_seconds
from gpubond.jobs.container_section import ContainerSection
from gpubond.jobs.cuda_section import SAFETENSORS, CudaSection
from gpubond.jobs.exact_section import ExactSection
from gpubond.jobs.model import Model, bad_input, each_bad_input, read_json
from gpubond.jobs.packages import Requires
from gpubond.jobs.paths import JobPath, find_clash
from gpubond.jobs.urls import check_url

MAX_SPEC_BYTES = 1 << 20
MAX_BLOB_BYTES = 1 << 40
_CHUNK = 1 << 20
# Folder of the states that a run of tier EXACT leaves behind beside its outputs, and how many there may be.
KEPT_STATES = ".states"
MAX_KEPT_STATES = 65_536

Sha256Hex = Annotated[str, StringConstraints(strict=True, pattern=r"^[0-9a-f]{64}$")]
JobName = Annotated[
    str, StringConstraints(strict=True, pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._-]{0,63}$", strip_whitespace=False)
]


class InputFile(Model):
    """An input: where the job sees it, its content by hash and size (bytes), and where the worker may fetch it."""

    path: JobPath
    sha256: Sha256Hex
    size: Annotated[int, Field(strict=True, ge=0, le=MAX_BLOB_BYTES)]
    url: Annotated[str, Field(strict=True), AfterValidator(check_url)] | None = None


class Limits(Model):
    """What the job may use. Going beyond ends it, with a reason that says which limit.

    seconds: wall clock, compilation included. memory_mib: all processes together, own /tmp
    included, compilers and GPU drivers not. device_memory_mib: what a `cuda` job allocates on the
    device, by default as much as memory_mib; on class `cpu-sim` that is memory of the machine too.
    disk_mib: what lies in the job's directory. processes: processes and threads at one time.
    """

    seconds: Annotated[int, Field(strict=True, ge=1, le=7 * 86400)] = 600
    memory_mib: Annotated[int, Field(strict=True, ge=256, le=1 << 22)] = 2048
    device_memory_mib: Annotated[int, Field(strict=True, ge=1, le=1 << 22)] | None = None
    disk_mib: Annotated[int, Field(strict=True, ge=1, le=1 << 24)] = 1024
    processes: Annotated[int, Field(strict=True, ge=16, le=32768)] = 256


class PythonSection(Model):
    """Run `script` (one of the inputs) by the provider's Python with NumPy, in the job's directory.

    requires: packages that this Python must have, name -> versions as PEP 440 writes them.
    """

    script: JobPath
    args: Annotated[
        tuple[
            Annotated[str, StringConstraints(strict=True, max_length=4096, pattern=r"^[^\x00]*$")],
            ...,
        ],
        Field(max_length=256),
    ] = ()
    requires: Requires | None = None


def _only_version_1(version: int) -> int:
    if version != 1:
        raise ValueError("must be 1, the only version there is")
    return version


# Not Literal[1], which true and 1.0 would pass.
Version = Annotated[int, Field(strict=True), AfterValidator(_only_version_1)]


class JobSpec(Model):
    """A whole job. See the module's docstring for its hash.

    tier: `exact` for a job whose result anybody may dispute; None for BASIC.
    """

    version: Version
    name: JobName
    runtime: Literal["python", "cuda", "container", "exact"]
    tier: Literal["exact"] | None = None
    inputs: Annotated[tuple[InputFile, ...], Field(max_length=1024)]
    outputs: Annotated[tuple[JobPath, ...], Field(min_length=1, max_length=1024)]
    limits: Limits = Field(default_factory=Limits)
    python: PythonSection | None = None
    cuda: CudaSection | None = None
    container: ContainerSection | None = None
    exact: ExactSection | None = None

    @model_validator(mode="after")
    def _sections_agree(self) -> JobSpec:
        sections = {"python": self.python, "cuda": self.cuda, "container": self.container, "exact": self.exact}
        if sections[self.runtime] is None:
            raise ValueError(f"runtime is {self.runtime!r}, so the section {self.runtime!r} is needed")
        for name, section in sections.items():
            if name != self.runtime and section is not None:
                raise ValueError(f"runtime is {self.runtime!r}, so the section {name!r} must be left out")
        if self.runtime != "cuda" and self.limits.device_memory_mib is not None:
            raise ValueError(f"limits.device_memory_mib is for the runtime 'cuda', not {self.runtime!r}")
        if self.tier is not None and self.exact is None:
            raise ValueError(f"tier {self.tier!r} is for the runtime 'exact', not {self.runtime!r}")
        if self.tier is None and self.exact is not None and self.exact.answer_seconds is not None:
            raise ValueError("exact.answer_seconds is for the tier 'exact': add `tier`, or leave it out")
        return self

    @model_validator(mode="after")
    def _paths_agree(self) -> JobSpec:
        inputs = {item.path for item in self.inputs}
        clash = find_clash([*(item.path for item in self.inputs), *self.outputs])
        if clash is not None:
            one, other = clash
            raise ValueError(
                f"the path {one!r} is named twice among inputs and outputs"
                if one == other
                else f"the path {one!r} is a file, so {other!r} cannot lie below it"
            )
        if self.python is not None and self.python.script not in inputs:
            raise ValueError(f"python.script {self.python.script!r} is not among the inputs")
        if self.cuda is not None:
            self._check_cuda_paths(self.cuda, inputs)
        if self.exact is not None:
            self._check_exact_paths(self.exact, inputs)
        return self

    def _check_exact_paths(self, exact: ExactSection, inputs: set[str]) -> None:
        for field, path in exact.read.items():
            if path not in inputs:
                raise ValueError(f"exact.{field} {path!r} is not among the inputs")
        if sorted(exact.written.values()) != sorted(self.outputs):
            named = ", ".join(f"{field} {path!r}" for field, path in exact.written.items())
            raise ValueError(f"the outputs must be those of the section 'exact': {named}")
        taken = [path for path in (*inputs, *self.outputs) if path.split("/")[0] == KEPT_STATES]
        if self.tier is not None and taken:
            raise ValueError(f"the path {taken[0]!r} is where the states of a job of tier 'exact' are kept")
        if self.tier is not None and exact.steps > MAX_KEPT_STATES * exact.interval:
            raise ValueError(f"exact.interval: with tier 'exact' at most {MAX_KEPT_STATES} checkpoints are allowed")

    def _check_cuda_paths(self, cuda: CudaSection, inputs: set[str]) -> None:
        if cuda.source not in inputs:
            raise ValueError(f"cuda.source {cuda.source!r} is not among the inputs")
        for name, constant in (cuda.constants or {}).items():
            if constant.source not in inputs:
                raise ValueError(f"cuda.constants.{name}.from {constant.source!r} is not among the inputs")
        written: set[tuple[str, str]] = set()
        for name, buffer in cuda.buffers.items():
            if buffer.source is not None and buffer.source not in inputs:
                raise ValueError(f"cuda.buffers.{name}.from {buffer.source!r} is not among the inputs")
            if buffer.target is None:
                continue
            if buffer.target not in self.outputs:
                raise ValueError(f"cuda.buffers.{name}.to {buffer.target!r} is not among the outputs")
            place = (buffer.target, (buffer.tensor or name) if buffer.target.endswith(SAFETENSORS) else "")
            if place in written:
                what = f" as {place[1]!r}" if place[1] else ""
                raise ValueError(f"cuda.buffers.{name}.to {buffer.target!r} is written by another buffer already{what}")
            written.add(place)
        targets = {target for target, _ in written}
        for output in self.outputs:
            if output not in targets:
                raise ValueError(f"the output {output!r} is not the `to` of any buffer in cuda.buffers")
        field = "memory_mib" if self.limits.device_memory_mib is None else "device_memory_mib"
        most = getattr(self.limits, field)
        if cuda.device_bytes > most << 20:
            raise ValueError(f"the buffers hold {cuda.device_bytes} bytes, more than limits.{field} = {most}")
        passed = sum(buffer.size for buffer in cuda.buffers.values() if buffer.source or buffer.target)
        if passed > self.limits.memory_mib << 20:
            raise ValueError(
                f"the buffers with `from` or `to` hold {passed} bytes, more than limits.memory_mib ="
                f" {self.limits.memory_mib}; they pass through the machine's memory"
            )

    @property
    def kept_states(self) -> dict[int, str]:
        """Of a job of tier `exact`: where the run leaves the states that it must be able to show, by the number of
        steps taken; the last state is an output anyway."""
        if self.exact is None or self.tier is None:
            return {}
        steps = range(self.exact.interval, self.exact.steps, self.exact.interval)
        return {step: f"{KEPT_STATES}/{step}.safetensors" for step in steps}

    def hash(self) -> bytes:
        """SHA-256 (32 bytes) of the canonical form."""
        return hashlib.sha256(self.canonical()).digest()


def json_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of the specification."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **JobSpec.model_json_schema(by_alias=True),
    }


def _validated(raw: Any, what: str) -> JobSpec:
    if not isinstance(raw, dict):
        raise BadInput(f"{what} must be a JSON object", field=what, remedy="begin the file with '{'")
    try:
        return JobSpec.model_validate(raw)
    except ValidationError as error:
        raise bad_input(error, what) from error


def parse_spec(data: bytes, expected_hash: bytes) -> JobSpec:
    """The specification in `data`, which must be canonical and have the SHA-256 `expected_hash`.

    Raises: BadInput.
    """
    what = "job specification"
    if len(data) > MAX_SPEC_BYTES:
        raise BadInput(
            f"the {what} is larger than {MAX_SPEC_BYTES} bytes",
            field="size",
            value=len(data),
            remedy="move data out of it, into inputs",
        )
    found = hashlib.sha256(data).digest()
    if found != expected_hash:
        raise BadInput(
            f"the {what} has another hash than the job's terms: {found.hex()}",
            field="spec_hash",
            value=expected_hash.hex(),
            remedy="send the specification that the job was made with",
        )
    spec = _validated(read_json(data, what), what)
    if spec.canonical() != data:
        raise BadInput(
            f"the {what} is not in canonical form",
            field="spec_hash",
            value=expected_hash.hex(),
            remedy="hash and send JobSpec.canonical(): RFC 8785, defaults written out",
        )
    return spec


def _digest_file(path: Path) -> tuple[str, int]:
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
            size += len(chunk)
    return digest.hexdigest(), size


def _local_source(entry: dict[str, Any], field: str, base: Path) -> Path:
    """The local file of one input of a job file; BadInput if there is none."""
    named = entry.pop("source", None)
    if named is not None and (not isinstance(named, str) or not named or "\0" in named):
        raise BadInput(
            "must be the path of a local file",
            field=f"{field}.source",
            value=str(named),
            remedy="write a path relative to the job file, in quotes",
        )
    path = base / (named if named is not None else entry["path"])
    if not path.is_file():
        raise BadInput(
            f"the input file {path} does not exist" if not path.exists() else f"{path} is not a file",
            field=f"{field}.source" if named is not None else f"{field}.path",
            value=named if named is not None else entry["path"],
            remedy="create it, or name it by `source`, relative to the job file",
        )
    return path


def load_job_file(path: Path, collect: Callable[[BadInput], None] | None = None) -> tuple[JobSpec, dict[str, Path]]:
    """Read a job file; hash its inputs.

    collect: receives each problem; reading goes on after it as far as it can. The first one is raised at the end.
    Returns: the specification, and the local file of each input by SHA-256 (hex), but of those that only a `url` names.
    Raises: BadInput, naming field, value and remedy.
    """
    first: BadInput | None = None

    def problem(error: BadInput) -> None:
        nonlocal first
        if collect is None:
            raise error
        cause = error.__cause__
        for single in each_bad_input(cause, what) if isinstance(cause, ValidationError) else [error]:
            first = first or single
            collect(single)

    what = f"job file {path.name}"
    try:
        if path.stat().st_size > MAX_SPEC_BYTES:
            raise BadInput(
                f"{what} is larger than {MAX_SPEC_BYTES} bytes",
                field="job file",
                remedy="move data into inputs",
            )
        raw = read_json(path.read_bytes(), what)
    except OSError as error:
        inside = path / "job.json"
        raise BadInput(
            f"{what} cannot be read: {error.strerror}",
            field="job file",
            value=str(path),
            remedy=f"give {inside}" if inside.is_file() else "give the path of one; `gpubond job init DIR` writes one",
        ) from error
    entries = raw.get("inputs") if isinstance(raw, dict) else None
    if not isinstance(entries, list):
        entries = []
    try:
        # First everything that can be wrong in the text itself.
        if isinstance(raw, dict) and isinstance(raw.get("inputs"), list):
            _validated({**raw, "inputs": [_draft(entry) for entry in entries]}, what)
        else:
            _validated(raw, what)
    except BadInput as error:
        problem(error)

    files: dict[str, Path] = {}
    for number, entry in enumerate(entries):
        if _is_local(entry) and isinstance(entry.get("path"), str):
            try:
                _add_content(entry, f"inputs.{number}", path.parent, files)
            except BadInput as error:
                problem(error)
    if first is not None:
        raise first
    spec = _validated(raw, what)
    if spec.tier is not None and spec.exact is not None and spec.exact.answer_seconds is None:
        raw["exact"]["answer_seconds"] = _default_answer_seconds(spec, spec.exact, files)
        spec = _validated(raw, what)
    return spec, files


def _default_answer_seconds(spec: JobSpec, section: ExactSection, files: dict[str, Path]) -> int:
    """Raises BadInput if the program is not here, or needs longer than the tier allows."""
    field = "exact.answer_seconds"
    local = next((files.get(item.sha256) for item in spec.inputs if item.path == section.program), None)
    if local is None:
        raise BadInput(
            "the program is not here, so the time that an answer needs is not known",
            field=field,
            remedy="name the program's local file by `source` beside its url, or state the seconds",
        )
    try:
        found = answer_seconds(Program.parse(local.read_bytes()), section.interval)
    except Refused as refused:
        remedy = refused.remedy or "correct the file, or name another one"
        raise BadInput(refused.reason, field=refused.field, value=refused.value, remedy=remedy) from None
    if found > MOST_SECONDS:
        raise BadInput(
            f"one answer in a dispute may need {found} s, and at most {MOST_SECONDS} are allowed",
            field="exact.interval",
            value=section.interval,
            remedy="take checkpoints oftener, or state exact.answer_seconds for quicker machines",
        )
    return found


def _is_local(entry: Any) -> bool:
    """Whether an input is a file here; of one that only a URL names, hash and size must be stated."""
    return isinstance(entry, dict) and ("url" not in entry or "source" in entry)


def _draft(entry: Any) -> Any:
    """An input with stand-ins for what is yet to be computed."""
    if not _is_local(entry):
        return entry
    stated = {key: value for key, value in entry.items() if key != "source"}
    return {"sha256": "0" * 64, "size": 0} | stated


def _add_content(entry: dict[str, Any], field: str, base: Path, files: dict[str, Path]) -> None:
    """Hash and size of one input's local file, into the entry; the file into `files`."""
    local = _local_source(entry, field, base)
    try:
        sha256, size = _digest_file(local)
    except OSError as error:
        raise BadInput(
            f"{local} cannot be read: {error.strerror}",
            field=field,
            value=str(local),
            remedy="let it be read",
        ) from error
    for key, found in (("sha256", sha256), ("size", size)):
        stated = entry.setdefault(key, found)
        if stated != found:
            raise BadInput(
                f"{local.name} has another {key} than stated: {found}",
                field=f"{field}.{key}",
                value=stated,
                remedy=f"leave {key} out, correct it, or restore the file",
            )
    files[sha256] = local
