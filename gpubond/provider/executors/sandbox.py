# SPDX-License-Identifier: Apache-2.0
"""What a job sees of the machine: the bubblewrap command line.

Own namespaces for users, processes, network (nothing but an unused loopback), IPC, host name and cgroups. The root is
an empty read-only file system with /usr, the few files of /etc that a compiler and a dynamic linker need, and
the worker's Python environment, all read-only. The job's directory is the only place that is writable on disk;
its inputs are bound into it read-only. No capabilities, no new user namespaces, no environment of the worker, and a
filter of system calls (seccomp.py).
"""

from __future__ import annotations

import functools
import os
import platform
import resource
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gpubond
from gpubond.errors import BadSettings, MissingTool
from gpubond.provider.executors import seccomp

JOB_DIRECTORY = "/job"
SUPPORT_DIRECTORY = "/run/gpubond"
PACKAGE_PARENT = f"{SUPPORT_DIRECTORY}/lib"
SPEC_FILE = f"{SUPPORT_DIRECTORY}/spec.json"
BUILD_FILE = f"{SUPPORT_DIRECTORY}/build"
# Inside: the job's user. It exists nowhere outside.
INNER_USER = 1000
# Outside, where the worker is root: a number without an account, from the range set aside for such uses.
OUTER_USER = 64900

_ETC = ("ld.so.cache", "ld.so.conf", "ld.so.conf.d", "alternatives", "localtime")
_BARE = Path(__file__).with_name("bare.py")
_PATH = "/usr/local/bin:/usr/bin:/bin"
_TOP = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")


@dataclass
class Sandbox:
    """One sandbox to be.

    job_directory: bound read-write at /job. inputs: path in the job -> file, bound read-only.
    command: absolute program and arguments, in the sandbox's terms. rlimits: name (as `nproc`) -> value.
    tmp_bytes: size of /tmp and, apart, of /dev/shm. gpu: path in the sandbox -> device node, of the job's GPU.
    spec_file: the specification. build_file: what the job was compiled to, if it was.
    gpu_reports: PCI address of the GPU whose faults in the kernel's log are the job's; "" for any's, None for none's.
    bare: none at all, for development chains: the command runs as the worker's user, in the host's terms.
    """

    job_directory: Path
    inputs: dict[str, Path]
    command: list[str]
    rlimits: dict[str, int]
    tmp_bytes: int
    spec_file: Path
    gpu: dict[str, Path] = field(default_factory=dict)
    gpu_reports: str | None = None
    bare: bool = False
    environment: dict[str, str] = field(default_factory=dict)
    build_file: Path | None = None


def find_bwrap() -> str:
    """Path of bubblewrap. Raises MissingTool: there is no way to run a stranger's job without it."""
    found = shutil.which("bwrap")
    if found is None:
        raise MissingTool(
            "bubblewrap (bwrap) is not installed; jobs of strangers are not run without a sandbox",
            field="bwrap",
            remedy="install it: apt-get install bubblewrap (Debian, Ubuntu), dnf install bubblewrap (Fedora)",
        )
    return str(Path(found).resolve())


def outer_user() -> int | None:
    """The user number that the job has outside, or None for the worker's own (which then is not root)."""
    return OUTER_USER if os.geteuid() == 0 else None


def own_directory(path: Path) -> None:
    """Make a directory that belongs to the job's user."""
    path.mkdir(mode=0o700)
    user = outer_user()
    if user is not None:
        os.chown(path, user, user)


def python_roots() -> list[Path]:
    """The directories that hold this Python and its packages, without those that /usr covers."""
    roots: list[Path] = []
    resolved = Path(sys.executable).resolve().parent.parent
    for root in (Path(sys.base_prefix), resolved, Path(sys.prefix)):
        if root.is_relative_to("/usr") or root in roots:
            continue
        if len(root.parts) < 3:
            raise BadSettings(
                f"Python is installed at {root}, which is too much of this machine to show to jobs",
                field="python",
                value=str(root),
                remedy="run the worker from a virtual environment of its own",
            )
        roots.append(root)
    return roots


def refuse_exposed(private: Path) -> None:
    """Raise BadSettings if `private`, the worker's data, lies within what jobs can read."""
    place = private.resolve()
    for root in [Path("/usr"), *python_roots(), Path(gpubond.__file__).parent]:
        if place.is_relative_to(root.resolve()):
            raise BadSettings(
                f"the worker's data must not lie below {root}, which jobs can read",
                field="work_root",
                value=str(private),
                remedy="choose another directory",
            )


# Kept: to look for these anew costs a job that comes after a pause milliseconds.
@functools.cache
def _machine_binds() -> list[tuple[str, str, str]]:
    binds = [("--ro-bind", "/usr", "/usr")]
    binds += [
        ("--ro-bind", f"/{name}", f"/{name}")
        for name in _TOP
        if Path("/", name).is_dir() and not Path("/", name).is_symlink()
    ]
    binds += [("--ro-bind", f"/etc/{name}", f"/etc/{name}") for name in _ETC if Path("/etc", name).exists()]
    binds += [("--ro-bind", str(root), str(root)) for root in python_roots()]
    binds.append(("--ro-bind", str(Path(gpubond.__file__).parent), f"{PACKAGE_PARENT}/gpubond"))
    return binds


@functools.cache
def _machine_links() -> list[str]:
    paths = [path for path in (Path("/", name) for name in _TOP) if path.is_symlink()]
    return [item for path in paths for item in ("--symlink", str(path.readlink()), str(path))]


def machine_plan(*, bare: bool) -> dict[str, Any]:
    """What `launch.py` gets ahead: the part of its plan that no job changes."""
    return {"user": None, "binds": []} if bare else {"user": outer_user(), "binds": _machine_binds()}


def _binds(sandbox: Sandbox) -> list[tuple[str, str, str]]:
    binds = [("--ro-bind", str(sandbox.spec_file), SPEC_FILE)]
    if sandbox.build_file is not None:
        binds.append(("--ro-bind", str(sandbox.build_file), BUILD_FILE))
    binds.append(("--bind", str(sandbox.job_directory), JOB_DIRECTORY))
    binds += [("--ro-bind", str(file), f"{JOB_DIRECTORY}/{path}") for path, file in sandbox.inputs.items()]
    if sandbox.gpu:
        binds += [("--dev-bind", str(node), place) for place, node in sandbox.gpu.items()]
        binds.append(("--ro-bind", "/sys", "/sys"))
    return binds


def plan_of(sandbox: Sandbox) -> dict[str, Any]:
    """The job's part of the plan for `launch.py`."""
    if sandbox.bare:
        start = [sys.executable, "-I", "-S", str(_BARE), str(sandbox.job_directory)]
        return {
            "bwrap": None,
            "environment": {"PATH": _PATH, **sandbox.environment},
            "command": [*start, *_entry(sandbox.rlimits), *sandbox.command],
        }
    size = str(sandbox.tmp_bytes)
    before = [
        *("--unshare-user", "--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts"),
        *("--unshare-cgroup-try", "--disable-userns"),
        *("--uid", str(INNER_USER), "--gid", str(INNER_USER), "--hostname", "job"),
        *("--die-with-parent", "--new-session", "--cap-drop", "ALL", "--clearenv"),
        *("--proc", "/proc", "--dev", "/dev", "--size", size, "--tmpfs", "/dev/shm"),  # noqa: S108
        *("--size", size, "--perms", "1777", "--tmpfs", "/tmp"),  # noqa: S108
    ]
    before += _machine_links()
    environment = {
        "PATH": _PATH,
        "HOME": "/tmp",  # noqa: S108 - the sandbox's own
        "TMPDIR": "/tmp",  # noqa: S108
        **sandbox.environment,
    }
    after = [item for name, value in environment.items() for item in ("--setenv", name, value)]
    after += ["--remount-ro", "/dev", "--remount-ro", "/", "--chdir", JOB_DIRECTORY]
    return {
        "bwrap": find_bwrap(),
        "filter": seccomp.program(),
        "before": before,
        "binds": _binds(sandbox),
        "after": after,
        "command": [*_entry(sandbox.rlimits), *sandbox.command],
    }


def _entry(rlimits: dict[str, int]) -> list[str]:
    """The first programs inside: take on the limits, report readiness, close what is not the job's, become the job.

    One byte "r" on handle 4: what goes wrong after it is the job's, before it the machine's; an "x" after it says that
    there is no such program. In C and shell, as a start of Python would take longer than all else.
    """
    limits = []
    for name, value in rlimits.items():
        _, hard = resource.getrlimit(getattr(resource, f"RLIMIT_{name.upper()}"))
        limit = value if hard == resource.RLIM_INFINITY else min(value, hard)
        limits.append(f"--{name}={limit}:{limit}")
    # Nothing of the worker's may stay open: bubblewrap's own status pipe, above all, would let the job speak to it.
    # The language comes last: with it prlimit would read a dozen files.
    script = (
        'printf r >&4; export LANG=C.UTF-8; [ -x "$1" ] || printf x >&4; exec "$@" 3>&- 4>&- 5>&- 6>&- 7>&- 8>&- 9>&-'
    )
    return [_find_prlimit(), *limits, "/bin/sh", "-c", script, "sh"]


@functools.cache
def _find_prlimit() -> str:
    found = shutil.which("prlimit", path="/usr/bin:/bin:/usr/sbin:/sbin")
    if found is None:
        raise MissingTool(
            "prlimit is not installed; without it a job would have no limits",
            field="prlimit",
            remedy="install it: apt-get install util-linux (Debian, Ubuntu), dnf install util-linux-core (Fedora)",
        )
    return found


def set_up_remedy() -> str:
    """What to try where bubblewrap is installed but cannot make its namespaces."""
    return (
        "allow unprivileged user namespaces (sysctl user.max_user_namespaces > 0; on Ubuntu 24.04 and later also"
        " kernel.apparmor_restrict_unprivileged_userns=0 or a profile for bwrap; in a container, run it with"
        f" --privileged or on the host); kernel {platform.release()}"
    )
