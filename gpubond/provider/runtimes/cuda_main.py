# SPDX-License-Identifier: Apache-2.0
"""The `cuda` runtime: runs inside the sandbox, in the job's directory.

    python -I cuda_main.py SPEC gpu|cpu-sim

The source is a stranger's, so both compiling and running happen in here. Without a GPU the source is compiled by NVRTC
all the same, so that an error in it is the error that a GPU's owner would see; then by the host's compiler.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

# Started by path with -I: the package lies three directories above, and nothing else is on the path.
sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from gpubond.jobs.cuda_check import HEADER_SUFFIXES
from gpubond.jobs.cuda_program import (
    CHECK_ARCHITECTURE,
    Compiled,
    best_architecture,
    compile_program,
    nvrtc_version,
)
from gpubond.jobs.cuda_section import CudaSection
from gpubond.jobs.reasons import Reason
from gpubond.jobs.spec import JobSpec
from gpubond.provider.runtimes.cuda_buffers import Array, load_buffers, store_buffers
from gpubond.provider.runtimes.cuda_errors import JobEnds, say

_MAX_PROGRESS_LINES = 50


def _read_text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise JobEnds(Reason.INPUT_INVALID, f"{path} is not UTF-8 text") from error


def _compile(source: str, cuda: CudaSection, spec: JobSpec, architecture: str) -> Compiled:
    headers = {item.path: _read_text(item.path) for item in spec.inputs if item.path.endswith(HEADER_SUFFIXES)}
    say(f"compiling {cuda.source} (NVRTC {nvrtc_version()}, {architecture})")
    begin = time.perf_counter()
    compiled = compile_program(source, cuda, architecture, headers)
    if compiled.log:
        print(compiled.log.rstrip(), flush=True)
    if not compiled.ok:
        raise JobEnds(Reason.COMPILE_ERROR, f"{cuda.source} does not compile, see above")
    say(f"compiled in {time.perf_counter() - begin:.2f} s")
    return compiled


def _run_on_gpu(source: str, cuda: CudaSection, spec: JobSpec, arrays: dict[str, Array], progress: range) -> None:
    from gpubond.provider.runtimes.cuda_gpu import Gpu

    gpu = Gpu()
    say(f"device: {gpu.name}")
    for number, launch in enumerate(cuda.launches):
        gpu.check_shape(number, launch)
    compiled = _compile(source, cuda, spec, best_architecture(*gpu.capability))
    functions = gpu.load(compiled.image, dict(compiled.symbols))
    for number, launch in enumerate(cuda.launches):
        gpu.check_function(number, launch, functions[launch.kernel])
    addresses = gpu.allocate(arrays)
    for number, launch in enumerate(cuda.launches):
        milliseconds = gpu.launch(number, launch, functions[launch.kernel], addresses)
        if number in progress:
            say(f"launch {number + 1}/{len(cuda.launches)}: {launch.kernel} {milliseconds:.3f} ms")
    gpu.read_back(cuda, arrays, addresses)


def main() -> int:
    """Run the job; the exit code is the one of its reason, see `gpubond.jobs.reasons`."""
    spec = JobSpec.model_validate_json(Path(sys.argv[1]).read_bytes())
    mode = sys.argv[2]
    if spec.cuda is None:
        raise ValueError("the specification has no cuda section")
    cuda = spec.cuda
    step = -(-len(cuda.launches) // _MAX_PROGRESS_LINES)
    progress = range(step - 1, len(cuda.launches), step)
    try:
        source = _read_text(cuda.source)
        arrays = load_buffers(cuda)
        if mode == "gpu":
            _run_on_gpu(source, cuda, spec, arrays, progress)
        else:
            from gpubond.provider.runtimes.cuda_sim import run_on_host

            say("device: cpu-sim (this machine's processor, not a GPU)")
            _compile(source, cuda, spec, CHECK_ARCHITECTURE)
            run_on_host(source, cuda, arrays, progress)
        store_buffers(cuda, arrays)
    except JobEnds as ending:
        say(f"{ending.reason.value}: {ending}")
        return ending.reason.exit_code
    except MemoryError:
        say(f"{Reason.OUT_OF_MEMORY.value}: {Reason.OUT_OF_MEMORY.meaning}")
        return Reason.OUT_OF_MEMORY.exit_code
    except OSError as error:
        if error.errno is None or error.filename not in (None, *spec.outputs):
            raise
        say(f"{Reason.DISK_LIMIT.value}: an output cannot be written: {error}")
        return Reason.DISK_LIMIT.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
