# SPDX-License-Identifier: Apache-2.0
"""The kernels, compiled by NVRTC: no GPU or driver is needed for that."""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from gpubond.exact.refusal import Refused

SOURCE = "kernels.cu"
_HEADERS = {"exact_core.h": "native", "matmul.h": "cuda", "reduce.h": "cuda"}
# Said in full, although some are defaults: consensus hangs on each.
OPTIONS = ("--std=c++17", "--fmad=false", "--ftz=false", "--prec-div=true", "--prec-sqrt=true")
INSTALL = "install it: pip install 'gpubond[cuda]' (no GPU is needed)"


@dataclass(frozen=True)
class Compiled:
    """What NVRTC made of the kernels for one architecture. cubin: empty if that is a virtual one."""

    architecture: str
    ptx: str
    cubin: bytes


def sources() -> dict[str, str]:
    """The kernels and what they include, by file name."""
    package = files("gpubond.exact")
    found = {SOURCE: package.joinpath("cuda", SOURCE).read_text("utf-8")}
    for name, folder in _HEADERS.items():
        found[name] = package.joinpath(folder, name).read_text("utf-8")
    return found


def nvrtc_module() -> Any:
    """cuda.bindings.nvrtc, with the library loaded. Raises Refused."""
    try:
        from cuda.bindings import nvrtc

        nvrtc.nvrtcVersion()
    except (ImportError, RuntimeError, OSError) as error:
        raise Refused("engine", "cuda", f"NVRTC, NVIDIA's compiler, cannot be loaded: {error}", INSTALL) from error
    return nvrtc


def architecture_for(capability: int) -> str:
    """What to compile for on a device of that compute capability (90 for 9.0): machine code that it runs.

    Code for one minor version runs on the later ones of the same major version. Raises Refused.
    """
    nvrtc = nvrtc_module()
    _, known = _checked(nvrtc, nvrtc.nvrtcGetSupportedArchs())
    fit = [arch for arch in known if arch // 10 == capability // 10 and arch <= capability]
    if not fit:
        raise Refused(
            "engine.capability",
            capability,
            f"this NVRTC makes code for {', '.join(map(str, known))}",
            "install a newer nvidia-cuda-nvrtc, or run on the processor",
        )
    return f"sm_{max(fit)}"


def compile_kernels(architecture: str, options: tuple[str, ...] = OPTIONS) -> Compiled:
    """Machine code for `architecture` ("sm_90") and the PTX that it was made of; for "compute_90" the PTX alone.

    Raises: Refused if there is no NVRTC; RuntimeError, with the compiler's words, if it fails.
    """
    nvrtc = nvrtc_module()
    texts = sources()
    source = texts.pop(SOURCE)
    _, program = _checked(
        nvrtc,
        nvrtc.nvrtcCreateProgram(
            source.encode(),
            SOURCE.encode(),
            len(texts),
            [text.encode() for text in texts.values()],
            [name.encode() for name in texts],
        ),
    )
    try:
        chosen = [f"--gpu-architecture={architecture}".encode(), *(option.encode() for option in options)]
        (status,) = nvrtc.nvrtcCompileProgram(program, len(chosen), chosen)
        if status != nvrtc.nvrtcResult.NVRTC_SUCCESS:
            log = _fetch(nvrtc, program, "ProgramLog").decode(errors="replace")
            raise RuntimeError(f"NVRTC does not compile the kernels for {architecture}: {status.name}\n{log}")
        ptx = _fetch(nvrtc, program, "PTX").decode()
        real = architecture.startswith("sm_")
        return Compiled(architecture, ptx, _fetch(nvrtc, program, "CUBIN", strip=False) if real else b"")
    finally:
        nvrtc.nvrtcDestroyProgram(program)


def cached_kernels(architecture: str, cache: Path | None) -> bytes:
    """The cubin, from the directory `cache` if it is there, else compiled and put there. None: never kept.

    A file's name is the hash of all that it was made of; what lies in it is believed only with its own hash.
    """
    if cache is None:
        return compile_kernels(architecture).cubin
    file = cache / f"exact-{_key(architecture)}.cubin"
    with contextlib.suppress(OSError):
        held = file.read_bytes()
        digest, cubin = held[:32], held[32:]
        if hashlib.sha256(cubin).digest() == digest:
            return cubin
    cubin = compile_kernels(architecture).cubin
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=cache, prefix=".exact-", delete=False) as made:
        made.write(hashlib.sha256(cubin).digest() + cubin)
    Path(made.name).replace(file)
    return cubin


def _key(architecture: str) -> str:
    nvrtc = nvrtc_module()
    _, major, minor = _checked(nvrtc, nvrtc.nvrtcVersion())
    made_of: Mapping[str, str] = {
        **sources(),
        "options": " ".join(OPTIONS),
        "architecture": architecture,
        "nvrtc": f"{major}.{minor}",
    }
    hashed = hashlib.sha256()
    for name in sorted(made_of):
        for part in (name.encode(), made_of[name].encode()):
            hashed.update(len(part).to_bytes(8, "big") + part)
    return hashed.hexdigest()


def _checked(nvrtc: Any, answer: tuple[Any, ...]) -> tuple[Any, ...]:
    if answer[0] != nvrtc.nvrtcResult.NVRTC_SUCCESS:
        raise RuntimeError(f"NVRTC failed: {answer[0].name}")
    return answer


def _fetch(nvrtc: Any, program: Any, what: str, *, strip: bool = True) -> bytes:
    """The log, PTX or CUBIN of a program; texts come with a zero byte at their end."""
    _, size = _checked(nvrtc, getattr(nvrtc, f"nvrtcGet{what}Size")(program))
    raw = bytearray(size)
    _checked(nvrtc, getattr(nvrtc, f"nvrtcGet{what}")(program, raw))
    return bytes(raw).rstrip(b"\0") if strip else bytes(raw)
