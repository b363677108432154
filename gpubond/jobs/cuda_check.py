# SPDX-License-Identifier: Apache-2.0
"""Lets a buyer compile a CUDA job, and compare its launches with what devices can do, before any money moves."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from gpubond.errors import BadInput, MissingTool
from gpubond.jobs.cuda_image import image_needs
from gpubond.jobs.cuda_limits import CPU_SIM_LIMITS, refusals
from gpubond.jobs.cuda_program import CHECK_ARCHITECTURE, compile_program
from gpubond.jobs.cuda_section import CudaSection
from gpubond.jobs.spec import JobSpec

HEADER_SUFFIXES = (".h", ".cuh", ".hpp")


def precheck_cuda(source: str, cuda: CudaSection, headers: Mapping[str, str] | None = None) -> bool:
    """Compile `source` with its launches, as a provider will.

    headers: path in the job -> content, of the inputs that the source may include.
    Returns: True if it compiles; False if it could not be checked, since NVRTC is not installed here.
    Raises: BadInput with the compiler's log, or with the launches that no device can do.
    """
    try:
        compiled = compile_program(source, cuda, CHECK_ARCHITECTURE, headers)
    except MissingTool:
        return False
    if not compiled.ok:
        raise BadInput(
            f"the CUDA source does not compile:\n{compiled.log.rstrip()}",
            field="cuda.source",
            value=cuda.source,
            remedy="correct the source, or the launch that the message names",
        )
    beyond = refusals(cuda, CPU_SIM_LIMITS, image_needs(compiled.image, compiled.symbols))
    if beyond:
        raise BadInput(
            "a launch is beyond what devices can do:\n" + "\n".join(beyond),
            field="cuda.launches",
            value=cuda.source,
            remedy="change the launch that the message names",
        )
    return True


def precheck_job(spec: JobSpec, files: Mapping[str, Path]) -> bool:
    """`precheck_cuda` for a job file as loaded: `files` maps SHA-256 to local file. True for other runtimes.

    Returns: False also if a source is fetched by the provider, and so is not here.
    """
    if spec.cuda is None:
        return True
    texts = {}
    for item in spec.inputs:
        if item.path == spec.cuda.source or item.path.endswith(HEADER_SUFFIXES):
            if item.sha256 not in files:
                return False
            try:
                texts[item.path] = files[item.sha256].read_text(encoding="utf-8")
            except UnicodeDecodeError as error:
                raise BadInput(
                    f"the CUDA source {item.path} is not UTF-8 text",
                    field="cuda.source",
                    value=item.path,
                    remedy="save it as UTF-8",
                ) from error
    source = texts.pop(spec.cuda.source)
    return precheck_cuda(source, spec.cuda, texts)
