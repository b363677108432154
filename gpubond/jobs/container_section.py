# SPDX-License-Identifier: Apache-2.0
"""The `container` section of a job specification: an image by its digest, and what to run in it."""

from __future__ import annotations

import re
from typing import Annotated, Any, NamedTuple

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from gpubond.jobs.model import Model
from gpubond.jobs.paths import check_job_path

JOB_DIRECTORY = "/job"

_IMAGE = re.compile(
    r"(?P<registry>[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*(:[0-9]{1,5})?)"
    r"/(?P<repository>[a-z0-9]+([._-]+[a-z0-9]+)*(/[a-z0-9]+([._-]+[a-z0-9]+)*)*)"
    r"@sha256:(?P<digest>[0-9a-f]{64})"
)
_MAX_IMAGE = 512
# What people try to turn on, and what the answer is; any other field that does not exist is just misspelt.
_PRIVILEGES = {
    "privileged": "no container is privileged",
    "cap_add": "all capabilities are dropped, and none is given back",
    "capabilities": "all capabilities are dropped, and none is given back",
    "user": "the program runs as user 1000, never as root",
    "network": "there is no network",
    "ports": "there is no network",
    "volumes": "nothing of the machine is shown but the inputs; write to /job",
    "mounts": "nothing of the machine is shown but the inputs; write to /job",
    "devices": "the GPU that was hired is there without asking, and no other device is",
    "security_opt": "the seccomp filter and no-new-privileges are not turned off",
    "pid": "every container has its own processes",
    "ipc": "every container has its own IPC",
    "userns": "every container has its own users",
    "runtime": "the provider chooses it",
    "sysctls": "the kernel's settings are the provider's",
}
_SWITCHERS = frozenset({"sudo", "su", "doas", "pkexec", "runuser", "nsenter", "unshare", "chroot"})
_SECRET = re.compile(
    r"(^|_)(SECRET|SECRETS|PASSWORD|PASSWD|PASSPHRASE|TOKEN|CREDENTIAL|CREDENTIALS)(_|$)|(API|ACCESS|PRIVATE)_?KEY$"
)


class ImageName(NamedTuple):
    """The parts of an image's name: `registry/repository@sha256:digest` (hex)."""

    registry: str
    repository: str
    digest: str


def parse_image(image: str) -> ImageName:
    """The parts of `image`. Raises ValueError, which says what a name must be."""
    found = _IMAGE.fullmatch(image) if len(image) <= _MAX_IMAGE else None
    if found is None:
        if "@" not in image:
            raise ValueError(
                "must name the image by digest, registry/repository@sha256:…: what a tag means can change after you "
                "have paid (`podman image inspect --format '{{.RepoDigests}}' NAME` shows the digest)"
            )
        raise ValueError(
            "must be registry/repository@sha256:<64 hex digits>, with the registry (docker.io/library/python, not "
            "python) and without a tag"
        )
    registry = found["registry"]
    if "." not in registry and ":" not in registry and registry != "localhost":
        raise ValueError(f"must begin with a registry, as docker.io/library/python does; {registry!r} is none")
    return ImageName(registry, found["repository"], found["digest"])


def _check_image(image: str) -> str:
    parse_image(image)
    return image


def _check_program(arguments: tuple[str, ...]) -> tuple[str, ...]:
    if arguments and arguments[0].rpartition("/")[2] in _SWITCHERS:
        raise ValueError(
            f"{arguments[0]!r} asks for privileges, and no container has any: the program runs as user 1000, for good; "
            "install what it needs when you build the image"
        )
    return arguments


def _check_environment(environment: dict[str, str]) -> dict[str, str]:
    for name in environment:
        if _SECRET.search(name.upper()):
            raise ValueError(
                f"{name!r} sounds like a secret, and the provider reads the specification: there is no network to use "
                "it on either; deliver what it would fetch as an input"
            )
    return environment


def _check_workdir(path: str) -> str:
    if not path.startswith("/"):
        raise ValueError("must be absolute")
    if path != "/":
        check_job_path(path[1:])
    return path


Text = Annotated[str, StringConstraints(strict=True, max_length=4096, pattern=r"^[^\x00]*$", strip_whitespace=False)]
Program = Annotated[tuple[Text, ...], Field(min_length=1, max_length=256), AfterValidator(_check_program)]
Variable = Annotated[str, StringConstraints(strict=True, pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,63}$")]


class ContainerSection(Model):
    """Run a program of an image, as user 1000, without network, capabilities or anything to write to but /job and /tmp.

    entrypoint and command are what the image's own are replaced by; what is left out is the image's, but an
    entrypoint given without a command drops the image's command.
    environment is added to the image's. workdir: absolute, by default the job's directory.
    """

    image: Annotated[str, Field(strict=True), AfterValidator(_check_image)]
    entrypoint: Program | None = None
    command: Program | None = None
    environment: Annotated[dict[Variable, Text], Field(max_length=128), AfterValidator(_check_environment)] = Field(
        default_factory=dict
    )
    workdir: Annotated[str, StringConstraints(strict=True, max_length=255), AfterValidator(_check_workdir)] = (
        JOB_DIRECTORY
    )

    @model_validator(mode="before")
    @classmethod
    def _no_privileges(cls, raw: Any) -> Any:
        for name in raw if isinstance(raw, dict) else ():
            if name in _PRIVILEGES:
                raise ValueError(f"{name!r} asks for a privilege that no job gets: {_PRIVILEGES[name]}; leave it out")
        return raw
