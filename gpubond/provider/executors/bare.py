# SPDX-License-Identifier: Apache-2.0
"""Stands in for bubblewrap where there is no sandbox: `bare.py DIRECTORY COMMAND...`, on development chains only.

It protects nothing. It starts the job in its directory, says on handle 3 what bubblewrap would say, and ends what the
job leaves behind, as the process namespace of a sandbox does.
"""

import ctypes
import os
import sys
from pathlib import Path

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
SIGKILL = 9
_libc = ctypes.CDLL(None, use_errno=True)


def _children() -> list[int]:
    """Own and adopted ones."""
    return [int(item) for item in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]


def main() -> None:
    directory, *command = sys.argv[1:]
    _libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    job = os.fork()
    if job == 0:
        _libc.prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0)
        os.setsid()
        os.chdir(directory)
        os.execv(command[0], command)  # noqa: S606 - the whole point
    os.write(3, b'{"child-pid": %d}\n' % job)
    _, status = os.waitpid(job, 0)
    while children := _children():
        for child in children:
            os.kill(child, SIGKILL)
            os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    os.write(3, b'{"exit-code": %d}\n' % (code if code >= 0 else 128 - code))


if __name__ == "__main__":
    main()
