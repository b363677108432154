# SPDX-License-Identifier: Apache-2.0
"""The `cuda` runtime: runs a compiled job inside the sandbox, in the job's directory.

    python -I cuda_main.py SPEC BUILD

BUILD is what cuda_compile.py made, in a sandbox before this one.
"""

from __future__ import annotations

import sys
from pathlib import Path

# Started by path with -I: the package lies three directories above, and nothing else is on the path.
sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from gpubond.jobs.cuda_section import CudaSection
from gpubond.jobs.spec import JobSpec
from gpubond.provider.runtimes.cuda_buffers import load_arrays, store_buffers
from gpubond.provider.runtimes.cuda_build import Build, unpack
from gpubond.provider.runtimes.cuda_errors import ending_of, say

_MAX_PROGRESS_LINES = 50


def _run(spec: JobSpec, cuda: CudaSection, build: Build) -> None:
    step = -(-len(cuda.launches) // _MAX_PROGRESS_LINES)
    progress = range(step - 1, len(cuda.launches), step)
    arrays, constants = load_arrays(cuda.buffers), load_arrays(cuda.constants or {})
    if build.kind == "host":
        from gpubond.provider.runtimes.cuda_sim import load, run_on_host

        say("device: cpu-sim (this machine's processor, not a GPU)")
        run_on_host(load(build.code), cuda, arrays, constants, progress)
    else:
        from gpubond.provider.runtimes.cuda_gpu import run_on_gpu

        run_on_gpu(build, spec, cuda, arrays, constants, progress)
    store_buffers(cuda, arrays)


def main() -> int:
    """Run the job; the exit code is the one of its reason, see `gpubond.jobs.reasons`."""
    spec = JobSpec.model_validate_json(Path(sys.argv[1]).read_bytes())
    if spec.cuda is None:
        raise ValueError("the specification has no cuda section")
    with ending_of(spec) as ending:
        _run(spec, spec.cuda, unpack(Path(sys.argv[2]).read_bytes()))
    return ending.code


if __name__ == "__main__":
    sys.exit(main())
