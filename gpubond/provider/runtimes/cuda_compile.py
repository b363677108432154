# SPDX-License-Identifier: Apache-2.0
"""Compiles a CUDA job: runs in a sandbox of its own, which holds the source and its headers and nothing else.

    python -I cuda_compile.py SPEC TARGET CAPABILITY DRIVER
    python -I cuda_compile.py SPEC TARGET cpu-sim

What it makes is kept for later jobs of the same source, hence the sandbox: no job has a hand in another's code.
For class `cpu-sim` the source is compiled by NVRTC all the same, so that an error in it is the error
that a GPU's owner would see; then by the host's compiler.
"""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

# Started by path with -I: the package lies three directories above, and nothing else is on the path.
sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from gpubond.jobs.cuda_check import HEADER_SUFFIXES
from gpubond.jobs.cuda_image import image_needs, is_cubin
from gpubond.jobs.cuda_limits import CPU_SIM_LIMITS, device_memory_refusal, limits_of, refusals
from gpubond.jobs.cuda_program import (
    CHECK_ARCHITECTURE,
    Compiled,
    best_architecture,
    common_defines,
    compile_program,
    nvrtc_version,
)
from gpubond.jobs.cuda_section import CudaSection
from gpubond.jobs.reasons import Reason
from gpubond.jobs.spec import JobSpec
from gpubond.provider.runtimes.cuda_build import Build, Kind
from gpubond.provider.runtimes.cuda_errors import JobEnds, ending_of, say
from gpubond.provider.runtimes.cuda_translate import dynamic_bytes, has_ptx, host_headers, host_source, needs_fibers

_SHIM = Path(__file__).parent
CPU_SIM = "cpu-sim"
HOST_OPTIONS = ("-O3", "-ffp-contract=off", "-fno-strict-aliasing", "-fPIC", "-shared", "-pthread", "-w")


def _read_text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise JobEnds(Reason.INPUT_INVALID, f"{path} is not UTF-8 text") from error


def _compile(source: str, cuda: CudaSection, headers: Mapping[str, str], architecture: str) -> Compiled:
    say(f"compiling {cuda.source} (NVRTC {nvrtc_version()}, {architecture})")
    begin = time.perf_counter()
    compiled = compile_program(source, cuda, architecture, headers)
    if compiled.log:
        print(compiled.log.rstrip(), flush=True)
    if not compiled.ok:
        raise JobEnds(Reason.COMPILE_ERROR, f"{cuda.source} does not compile, see above")
    say(f"compiled in {time.perf_counter() - begin:.2f} s")
    return compiled


def host_compiler() -> str | None:
    """Path of the C++ compiler for class `cpu-sim`."""
    return shutil.which("g++") or shutil.which("c++") or shutil.which("clang++")


def compile_host(source: str, cuda: CudaSection, headers: Mapping[str, str], *extra: str) -> bytes:
    """A shared library with an entry point for each launch. extra: options of the compiler.

    Raises JobEnds, the compiler's message is in the log.
    """
    compiler = host_compiler()
    if compiler is None:
        raise RuntimeError("no C++ compiler in the sandbox")
    options = [f"-std={cuda.options.std.replace('c++', 'gnu++')}", *HOST_OPTIONS, *common_defines(cuda.options)]
    if platform.machine() == "x86_64":
        options.append("-march=native")  # fmaf as one instruction
    if needs_fibers((source, *headers.values())):
        options.append("-DGPUBOND_FIBERS")
    options.append(f"-DGPUBOND_DYNAMIC_BYTES={dynamic_bytes(cuda)}")
    with tempfile.TemporaryDirectory() as directory:
        tree = Path(directory, "tree")
        for path, text in host_headers(headers).items():
            (tree / path).parent.mkdir(parents=True, exist_ok=True)
            (tree / path).write_text(text)
        # Beside the headers that it includes by a path of its own.
        file = tree / cuda.source
        file.parent.mkdir(parents=True, exist_ok=True)
        file.with_suffix(".cpp").write_text(host_source(source, cuda))
        target = Path(directory, "job.so")
        command = [compiler, *options, *extra, f"-I{_SHIM}", f"-I{tree}"]
        command += [str(file.with_suffix(".cpp")), "-o", str(target)]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        if done.returncode != 0:
            print(done.stderr.replace(f"{tree}/", ""), end="", flush=True)
            ptx = has_ptx((source, *headers.values()))
            raise JobEnds(
                Reason.COMPILE_ERROR,
                "the source compiles for CUDA but not for class cpu-sim, see above"
                + ("; inline PTX cannot run on class cpu-sim" if ptx else ""),
            )
        return target.read_bytes()


def _build(spec: JobSpec, cuda: CudaSection, device: list[str]) -> Build:
    source = _read_text(cuda.source)
    headers = {item.path: _read_text(item.path) for item in spec.inputs if item.path.endswith(HEADER_SUFFIXES)}
    headers.pop(cuda.source, None)
    simulated = device == [CPU_SIM]
    if simulated:
        architecture, limits = CHECK_ARCHITECTURE, CPU_SIM_LIMITS
    else:
        capability, driver = map(int, device)
        architecture = best_architecture(*divmod(capability, 10), driver)
        limits = limits_of(capability) or CPU_SIM_LIMITS
    compiled = _compile(source, cuda, headers, architecture)
    needs = image_needs(compiled.image, compiled.symbols) if is_cubin(compiled.image) else None
    beyond = refusals(cuda, limits, needs)
    if beyond:
        raise JobEnds(Reason.LAUNCH_ERROR, "\n".join(beyond))
    most = (spec.limits.device_memory_mib or spec.limits.memory_mib) << 20
    too_much = device_memory_refusal(cuda, most, needs)
    if too_much is not None:
        raise JobEnds(Reason.OUT_OF_MEMORY, too_much)
    global_bytes = 0 if needs is None else needs.global_bytes
    if not simulated:
        kind: Kind = "ptx" if needs is None else "cubin"
        return Build(kind, architecture, compiled.symbols, global_bytes, compiled.image)
    begin = time.perf_counter()
    library = compile_host(source, cuda, headers)
    say(f"compiled for the host in {time.perf_counter() - begin:.2f} s")
    return Build("host", CPU_SIM, compiled.symbols, global_bytes, library)


def main() -> int:
    """The exit code is the one of its reason, see `gpubond.jobs.reasons`."""
    spec = JobSpec.model_validate_json(Path(sys.argv[1]).read_bytes())
    if spec.cuda is None:
        raise ValueError("the specification has no cuda section")
    with ending_of(spec) as ending:
        Path(sys.argv[2]).write_bytes(_build(spec, spec.cuda, sys.argv[3:]).pack())
    return ending.code


if __name__ == "__main__":
    sys.exit(main())
