# SPDX-License-Identifier: Apache-2.0
"""podman's own seccomp filter, made narrower: it lets containers make containers, which no job needs to.

Made from the file that podman uses here, since which calls a runtime itself needs changes with its version. docker's
own filter stays as it is; it refuses new namespaces and mounts already.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

# New namespaces and mounts, keys of the kernel's, programs in the kernel, other processes' memory: each a part of the
# kernel that many holes were found in, and that no job needs.
REFUSED = frozenset(
    {
        *("unshare", "setns", "mount", "umount", "umount2", "pivot_root", "chroot"),
        *("open_tree", "move_mount", "fsopen", "fsconfig", "fsmount", "fspick", "mount_setattr"),
        *("keyctl", "add_key", "request_key", "bpf", "perf_event_open", "userfaultfd"),
        *("io_uring_setup", "io_uring_enter", "io_uring_register"),
        *("ptrace", "process_vm_readv", "process_vm_writev", "kcmp", "name_to_handle_at", "open_by_handle_at"),
        # Memory that belongs to no process: where there are no groups of the kernel, nobody would see it.
        *("shmget", "msgget", "semget", "memfd_secret"),
    }
)
_EXAMINED = ("clone", "clone3", "socket")
# Families of sockets, with the protocols: Unix, internet (any, TCP, UDP), netlink for routes, by which C libraries list
# interfaces. Others, as vsock to a virtual machine's host, are in no network namespace or are rich in holes.
_SOCKETS = ((1, None), *((family, protocol) for family in (2, 10) for protocol in (0, 6, 17)), (16, 0))
# CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET.
_NAMESPACES = 0x7E020000
# Programs for 32 bits reach older code of the kernel by other numbers; nothing on these machines needs it. Calls of an
# architecture that a filter does not name end the program.
_NARROW = frozenset({"SCMP_ARCH_X86", "SCMP_ARCH_X32", "SCMP_ARCH_ARM"})
_EPERM, _ENOSYS = 1, 38


def narrower(profile: dict[str, Any]) -> dict[str, Any]:
    """A profile that allows what `profile` does, but what is REFUSED, `clone` without new namespaces and `socket` for
    few families only, and no calls of 32-bit programs."""
    kept = []
    for entry in profile["syscalls"]:
        names = [name for name in entry["names"] if name not in REFUSED and name not in _EXAMINED]
        if names:
            kept.append({**entry, "names": names})
    plain = {"index": 0, "value": _NAMESPACES, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}
    kept.append({"names": ["clone"], "action": "SCMP_ACT_ALLOW", "args": [plain]})
    for family, protocol in _SOCKETS:
        pairs = [(0, family)] + ([] if protocol is None else [(2, protocol)])
        equal = [{"index": index, "value": value, "valueTwo": 0, "op": "SCMP_CMP_EQ"} for index, value in pairs]
        kept.append({"names": ["socket"], "action": "SCMP_ACT_ALLOW", "args": equal})
    kept.append({"names": sorted(REFUSED), "action": "SCMP_ACT_ERRNO", "errnoRet": _EPERM, "args": []})
    # Its flags lie in memory, where a filter cannot see them; C libraries go on with `clone` when it is not there.
    kept.append({"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": _ENOSYS, "args": []})
    return {**_without_narrow(profile), "syscalls": kept}


def _without_narrow(profile: dict[str, Any]) -> dict[str, Any]:
    """The profile for the machine's own architecture alone."""
    found = dict(profile)
    if "architectures" in found:
        found["architectures"] = [name for name in found["architectures"] if name not in _NARROW]
    if "archMap" in found:
        found["archMap"] = [
            {**pair, "subArchitectures": [name for name in pair.get("subArchitectures") or [] if name not in _NARROW]}
            for pair in found["archMap"]
        ]
    return found


def write_narrower(source: Path, target: Path) -> bool:
    """Writes the narrower profile; whether `source` is one that can be made so."""
    try:
        profile = json.loads(source.read_text())
        target.write_text(json.dumps(narrower(profile)))
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return True
