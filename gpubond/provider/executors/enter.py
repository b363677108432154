# SPDX-License-Identifier: Apache-2.0
"""The first program inside the sandbox: take on the resource limits, report readiness, become the job.

Run as `python -I -S enter.py STATUS_FD LIMITS COMMAND...`, with limits as `nproc=64,core=0`. It writes one
byte "r" to the status pipe; what goes wrong after that is the job's, before it the machine's.
"""

import fcntl
import os
import resource
import sys


def main() -> None:
    status = int(sys.argv[1])
    command = sys.argv[3:]
    # Nothing of the worker's may stay open: bubblewrap's own status pipe, above all, would let the job speak to it.
    os.closerange(3, status)
    os.closerange(status + 1, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    fcntl.fcntl(status, fcntl.F_SETFD, fcntl.FD_CLOEXEC)
    for item in sys.argv[2].split(","):
        name, value = item.split("=")
        which: int = getattr(resource, f"RLIMIT_{name.upper()}")
        _, hard = resource.getrlimit(which)
        limit = int(value) if hard == resource.RLIM_INFINITY else min(int(value), hard)
        resource.setrlimit(which, (limit, limit))
    os.write(status, b"r")
    try:
        os.execv(command[0], command)  # noqa: S606 - the whole point
    except OSError as error:
        os.write(status, b"x")
        sys.exit(f"cannot start {command[0]}: {error.strerror}")


if __name__ == "__main__":
    main()
