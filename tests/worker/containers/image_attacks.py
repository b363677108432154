# SPDX-License-Identifier: Apache-2.0
"""What a hostile job names and brings: image, paths, the privileges that it asks for; for the tests and the docs."""

from __future__ import annotations

import gzip
import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from gpubond.errors import BadInput
from gpubond.jobs.spec import JobSpec, load_job_file

from .bench import MIB, ContainerBench
from .images import file, layer, link, members

REFUSED = "refused with the job file"
RUN = "echo > out.txt"


@dataclass(frozen=True)
class ImageAttack:
    """run: tries it in real containers; how it ended, in the words of `expected`. images: there is no such thing in
    bubblewrap, which has no images."""

    name: str
    contained_by: str
    expected: str
    run: Callable[[ContainerBench], str]
    images: bool = True


def _asked(section: Mapping[str, Any]) -> Callable[[ContainerBench], str]:
    """A job file with such a `container` section."""

    def run(bench: ContainerBench) -> str:
        container = {"image": f"docker.io/library/python@sha256:{'0' * 64}", **section}
        fields = {"name": "x", "runtime": "container", "inputs": [], "outputs": ["out"], "container": container}
        with tempfile.TemporaryDirectory(dir=bench.root) as directory:
            path = Path(directory, "job.json")
            path.write_text(json.dumps({"version": 1, **fields}))
            try:
                load_job_file(path)
            except BadInput:
                return REFUSED
        return "taken"

    return run


def _paths(bench: ContainerBench) -> str:
    """Names of inputs and outputs, as a specification has them that no job file was made of."""
    good = json.loads(bench.spec({"command": ["/bin/true"]}, files={"in": "x"}).canonical())
    for path in ("../up", "/etc/passwd", "a/../../up", "a\x1b[2J", "a\nb", "\u202etxt"):
        entries = [{**good["inputs"][0], "path": path}]
        for document in ({**good, "inputs": entries}, {**good, "outputs": [path]}):
            try:
                JobSpec.model_validate(document)
            except ValidationError:
                continue
            return f"{path!r} taken"
    return REFUSED


def _run(bench: ContainerBench, digest: str) -> str:
    image = bench.registry.name(digest)
    attempt = bench.section({"image": image, "command": ["/bin/sh", "-c", RUN]})
    after = bench.shell(RUN)
    assert after.reason == "ok", after
    return str(attempt.reason.value)


def _wrong_digest(bench: ContainerBench) -> str:
    shelf = bench.registry.shelf
    named, other = (shelf.image(layer([file(name, b"x")])) for name in ("named", "other"))
    shelf.lies[named] = shelf.contents[other][0]
    return _run(bench, named)


def _bomb(bench: ContainerBench) -> str:
    packed = gzip.compress(bytes(100 * MIB), 9, mtime=0)
    return _run(bench, bench.registry.shelf.image(layer([file("bomb", b"x")]), packed=[packed]))


def _no_archive(bench: ContainerBench) -> str:
    return _run(bench, bench.registry.shelf.image(b"no archive" * 100))


def _outside(bench: ContainerBench) -> str:
    """Names in a layer that lead out of it: whatever becomes of the job, nothing is outside."""
    outside = bench.root / "outside"
    names = ("../" * 20 + str(outside).lstrip("/"), f"/{outside}")
    _run(bench, bench.registry.shelf.image(_busybox(bench), layer([file(name, b"x") for name in names])))
    return "written" if outside.exists() else "nothing outside"


def _root_and_volumes(bench: ContainerBench) -> str:
    settings = {"User": "root", "Volumes": {"/var/data": {}}}
    image = bench.registry.name(bench.registry.shelf.image(_busybox(bench), settings=settings))
    script = "id -u > out.txt; mount | busybox grep ' /var/data ' && exit 9; exit 0"
    attempt = bench.section({"image": image, "command": ["/bin/sh", "-c", script]})
    if attempt.reason != "ok":
        return str(attempt.reason.value)
    return f"ok: the job is user {attempt.outputs['out.txt'].read_text().strip()}"


def _busybox(bench: ContainerBench) -> bytes:
    """The layer of the bench's own image."""
    shelf = bench.registry.shelf
    manifest = json.loads(shelf.contents[bench.image[-64:]][0])
    return gzip.decompress(shelf.contents[manifest["layers"][0]["digest"].removeprefix("sha256:")][0])


def _links(bench: ContainerBench) -> str:
    """A link in the place of /job, where the worker mounts what is written."""
    target = bench.root / "target"
    target.mkdir(exist_ok=True)
    entries = [item for item in members(_busybox(bench)) if item[0].name.strip("/") != "job"]
    _run(bench, bench.registry.shelf.image(layer([*entries, link("job", str(target))])))
    return "written" if list(target.iterdir()) else "nothing outside"


def _every(sections: list[dict[str, Any]]) -> Callable[[ContainerBench], str]:
    return lambda bench: ", ".join(sorted({_asked(section)(bench) for section in sections}))


IMAGE_ATTACKS = (
    ImageAttack("names of inputs and outputs that lead out, or deceive", "plain relative paths only", REFUSED, _paths,
                images=False),
    ImageAttack("an image by tag", "digests only", REFUSED, _asked({"image": "docker.io/library/python:3.12"})),
    ImageAttack("privileges, host folders, devices, the host's network or processes", "there are no such fields",
                REFUSED, _every([
                    {"privileged": True}, {"cap_add": ["SYS_ADMIN"]}, {"network": "host"}, {"volumes": ["/:/host"]},
                    {"user": "root"}, {"devices": ["/dev/mem"]}, {"pid": "host"}, {"entrypoint": ["sudo", "sh"]},
                ])),
    ImageAttack("an image that is not what its digest says", "hashed by the worker", "image_invalid", _wrong_digest),
    ImageAttack("a layer bomb", "counted as it streams, before it is unpacked", "image_invalid", _bomb),
    ImageAttack("a layer that is no archive", "the engine", "image_invalid", _no_archive),
    ImageAttack("names in a layer that lead out of it", "the engine unpacks below its root", "nothing outside",
                _outside),
    ImageAttack("a link in the place of /job", "the engine mounts below the image's root", "nothing outside", _links),
    ImageAttack("an image that wants root and volumes", "a fixed user; volumes are ignored",
                "ok: the job is user 1000", _root_and_volumes),
)  # fmt: skip
