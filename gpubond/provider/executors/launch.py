# SPDX-License-Identifier: Apache-2.0
"""Starts bubblewrap: `launch.py WORKER STATUS_FD READY_FD ENTRANCE...`, by a plan of `sandbox.plan_of` on its input.

Where the worker is root, the job must not be: root's own number is exempt from the limit on processes, and owns
too much. So bubblewrap then starts under a number that owns nothing. That number may not be able to
reach what the sandbox shows (a store below /root, say), hence each source is first bound, by root,
to a place that it can reach, in a mount namespace that nobody else sees.

It is started ahead, joins control groups, binds what is the same for every job (`sandbox.machine_plan`), and waits for
the rest of its plan; both come by `marshal`. What it hands to bubblewrap has fixed numbers: 3 is bubblewrap's status,
4 the readiness of the first program inside, 5 and above what it reads.
"""

import ctypes
import fcntl
import marshal
import os
import resource
import stat
import sys

CLONE_NEWNS = 0x00020000
MS_NOSUID, MS_NODEV, MS_BIND, MS_REC, MS_SLAVE = 0x2, 0x4, 0x1000, 0x4000, 0x80000
PR_SET_PDEATHSIG, SIGKILL = 1, 9
# Always there and open to all. Sources below it stay reachable, by a handle from before it was covered.
STAGE = "/tmp"  # noqa: S108 - covered by a private file system first

_libc = ctypes.CDLL(None, use_errno=True)


def _call(what: str, result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        sys.exit(f"{what}: {os.strerror(number)}")


def _mount(source: str, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    encode = os.fsencode
    _call(
        f"mount {target}",
        _libc.mount(
            encode(source),
            encode(target),
            None if kind is None else encode(kind),
            ctypes.c_ulong(flags),
            None if data is None else encode(data),
        ),
    )


class _Stage:
    """Binds sources below STAGE, in a mount namespace of our own."""

    def __init__(self) -> None:
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        _call("unshare", _libc.unshare(CLONE_NEWNS))
        # What the host unmounts while this waits is to go here as well, or a disk would stay busy.
        _mount("none", "/", None, MS_REC | MS_SLAVE)
        self._covered = os.open(STAGE, os.O_PATH)
        _mount("tmpfs", STAGE, "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755,size=1m")
        self._count = 0

    def add(self, sources: list[str]) -> list[str]:
        """Their new paths."""
        # In the new namespace: a mount of another one cannot be bound.
        handles = [self._open(source) for source in sources]
        return [self._bind(handle) for handle in handles]

    def _open(self, source: str) -> int:
        if source.startswith(f"{STAGE}/"):
            return os.open(source[len(STAGE) + 1 :], os.O_PATH, dir_fd=self._covered)
        return os.open(source, os.O_PATH)

    def _bind(self, handle: int) -> str:
        target = f"{STAGE}/{self._count}"
        self._count += 1
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            os.mkdir(target, 0o755)  # noqa: PTH102
        else:
            os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))
        _mount(f"/proc/self/fd/{handle}", target, None, MS_BIND | MS_REC)
        os.close(handle)
        return target


def _in_memory(name: str, content: bytes, handle: int) -> None:
    """Let bubblewrap inherit `handle`, from which it reads `content`."""
    memory = os.memfd_create(f"bwrap-{name}")
    os.write(memory, content)
    os.lseek(memory, 0, os.SEEK_SET)
    os.dup2(memory, handle)
    # For the case that it was this number already.
    os.set_inheritable(handle, True)


def _die_with(parent: int) -> None:
    _call("prctl", _libc.prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0))
    if os.getppid() != parent:
        sys.exit("the worker has gone")


def _hand_over(status: int, ready: int) -> None:
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(status, 3)
    os.dup2(ready, 4)


def _start_bare(command: list[str], environment: dict[str, str], status: int, ready: int) -> None:
    """Without any sandbox: see bare.py. The job carries the mark, by which it is found and ended."""
    _hand_over(status, ready)
    os.execve(command[0], command, {**os.environ, **environment})  # noqa: S606


def main() -> None:
    worker, *pipes = (int(item) for item in sys.argv[1:4])
    _die_with(worker)
    # Out of the way first: either may have the other's number.
    status, ready = (fcntl.fcntl(pipe, fcntl.F_DUPFD_CLOEXEC, 64) for pipe in pipes)
    for pipe in pipes:
        os.close(pipe)
    # Ahead of the plan: the kernel may take milliseconds for it. Entered as the worker, who made them.
    for entrance in sys.argv[4:]:
        try:
            with open(entrance, "w") as stream:  # noqa: PTH123 - pathlib is not worth its start-up time here
                stream.write(str(os.getpid()))
        except OSError as error:
            sys.exit(f"join {entrance}: {error.strerror}")
    try:
        ahead = marshal.load(sys.stdin.buffer)  # noqa: S302 - the worker's own
        stage = _Stage() if ahead["user"] is not None else None
        binds: list[list[str]] = ahead["binds"]
        sources = [source for _, source, _ in binds]
        if stage is not None:
            sources = stage.add(sources)
        plan = marshal.load(sys.stdin.buffer)  # noqa: S302
    except EOFError:
        sys.exit("the worker has gone")
    if plan["bwrap"] is None:
        _start_bare(plan["command"], plan["environment"], status, ready)
    program: str = plan["bwrap"]
    binds += plan["binds"]
    own = [source for _, source, _ in plan["binds"]]
    if stage is None:
        sources += own
    else:
        # One installed apart may be out of the new user's reach too; the usual one keeps its path, which security
        # profiles go by.
        apart = not program.startswith("/usr/")
        sources += stage.add([*own, program] if apart else own)
        if apart:
            program = sources.pop()
        user: int = ahead["user"]
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
    # Again: a change of user clears it. The worker may have died in between.
    _die_with(worker)

    arguments: list[str] = [*plan["before"], "--json-status-fd", "3"]
    _hand_over(status, ready)
    if plan["filter"] is not None:
        _in_memory("filter", plan["filter"], 5)
        arguments += ["--seccomp", "5"]
    for (option, _, target), source in zip(binds, sources, strict=True):
        arguments += [option, source, target]
    arguments += plan["after"]
    # By a file handle: a thousand inputs do not fit on a command line.
    _in_memory("arguments", b"".join(os.fsencode(item) + b"\0" for item in arguments), 6)
    command = [program, "--args", "6", "--", *plan["command"]]
    os.execv(command[0], command)  # noqa: S606 - the whole point


if __name__ == "__main__":
    main()
