# SPDX-License-Identifier: Apache-2.0
"""The system calls that no job needs and the kernel's holes are found in: a filter that bubblewrap loads.

Everything is allowed but what stands here, as CUDA's driver and a compiler use more calls than anybody lists; calls
newer than this table do not exist inside. The filter is a classic BPF program, assembled below: it is the same on
every machine of an architecture and needs no library. `docs/decisions.md` says why not libseccomp.
"""

from __future__ import annotations

import errno
import functools
import platform
import struct
from dataclasses import dataclass

# The last call of Linux 6.10 (mseal). A newer one is answered as by a kernel that does not know it; so are all
# calls of x32, whose numbers have bit 30 set.
NEWEST = 462

# Namespaces, beside `unshare`; CLONE_NEWTIME is no flag of `clone`.
NAMESPACE_FLAGS = 0x0002_0000 | 0x0200_0000 | 0x0400_0000 | 0x0800_0000 | 0x1000_0000 | 0x2000_0000 | 0x4000_0000
TIOCSTI, TIOCLINUX, TIOCSETD = 0x5412, 0x541C, 0x5423
AF_UNIX, AF_INET, AF_INET6, AF_NETLINK = 1, 2, 10, 16
_TCP, _UDP = 6, 17

ARCHITECTURES = {"x86_64": 0xC000_003E, "aarch64": 0xC000_00B7}
_ABSENT = -1


@dataclass(frozen=True)
class Group:
    """Calls that are refused alike.

    error: what the job sees. calls: name -> numbers on x86_64 and aarch64, -1 where the architecture lacks it.
    """

    why: str
    error: int
    calls: dict[str, tuple[int, int]]


# ENOSYS where programs have another way for kernels without the call, else EPERM.
REFUSED: tuple[Group, ...] = (
    Group(
        "looks into, or stops, other processes",
        errno.EPERM,
        {
            "ptrace": (101, 117),
            "process_vm_readv": (310, 270),
            "process_vm_writev": (311, 271),
            "kcmp": (312, 272),
            "pidfd_getfd": (438, 438),
        },
    ),
    Group(
        "programs in the kernel, and counters of what others run",
        errno.EPERM,
        {"bpf": (321, 280), "perf_event_open": (298, 241), "lookup_dcookie": (212, 18)},
    ),
    Group(
        "the kernel's richest source of holes; programs do without",
        errno.ENOSYS,
        {
            "io_uring_setup": (425, 425),
            "io_uring_enter": (426, 426),
            "io_uring_register": (427, 427),
            "userfaultfd": (323, 282),
            "vmsplice": (278, 75),
        },
    ),
    Group(
        "mounts",
        errno.EPERM,
        {
            "mount": (165, 40),
            "umount2": (166, 39),
            "pivot_root": (155, 41),
            "chroot": (161, 51),
            "open_tree": (428, 428),
            "move_mount": (429, 429),
            "fsopen": (430, 430),
            "fsconfig": (431, 431),
            "fsmount": (432, 432),
            "fspick": (433, 433),
            "mount_setattr": (442, 442),
            "open_by_handle_at": (304, 265),
            "fanotify_init": (300, 262),
            "fanotify_mark": (301, 263),
        },
    ),
    Group("new namespaces", errno.EPERM, {"unshare": (272, 97), "setns": (308, 268)}),
    # Its flags lie in memory, where no filter sees them; the C library then takes `clone`.
    Group("new namespaces, unseen", errno.ENOSYS, {"clone3": (435, 435)}),
    Group("keys of the kernel", errno.EPERM, {"add_key": (248, 217), "request_key": (249, 218), "keyctl": (250, 219)}),
    # Memory that belongs to no process, or shows in none: where there are no control groups, the watch would miss it.
    Group(
        "memory that nobody can measure",
        errno.ENOSYS,
        {"shmget": (29, 194), "msgget": (68, 186), "semget": (64, 190), "memfd_secret": (447, 447)},
    ),
    Group(
        "the machine itself",
        errno.EPERM,
        {
            "init_module": (175, 105),
            "finit_module": (313, 273),
            "delete_module": (176, 106),
            "kexec_load": (246, 104),
            "kexec_file_load": (320, 294),
            "reboot": (169, 142),
            "swapon": (167, 224),
            "swapoff": (168, 225),
            "acct": (163, 89),
            "quotactl": (179, 60),
            "quotactl_fd": (443, 443),
            "syslog": (103, 116),
            "settimeofday": (164, 170),
            "clock_settime": (227, 112),
            "clock_adjtime": (305, 266),
            "adjtimex": (159, 171),
            "sethostname": (170, 161),
            "setdomainname": (171, 162),
            "vhangup": (153, 58),
            "nfsservctl": (180, 42),
            "iopl": (172, _ABSENT),
            "ioperm": (173, _ABSENT),
            "modify_ldt": (154, _ABSENT),
            "uselib": (134, _ABSENT),
            "ustat": (136, _ABSENT),
            "sysfs": (139, _ABSENT),
        },
    ),
)
# Calls that are refused by what they are asked; `program` has the rules.
EXAMINED: dict[str, tuple[int, int]] = {
    "clone": (56, 220),
    "ioctl": (16, 29),
    "socket": (41, 198),
    "socketpair": (53, 199),
    "personality": (135, 92),
}

# Classic BPF: load a word, jump if (equal, greater, any bit set), return.
_LOAD, _IF_EQUAL, _IF_GREATER, _IF_SET, _RETURN = 0x20, 0x15, 0x25, 0x45, 0x06
_ALLOW, _ERROR, _KILL = 0x7FFF_0000, 0x0005_0000, 0x8000_0000
# Offsets in struct seccomp_data; both architectures keep the low word of an argument first.
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16

Instruction = tuple[int, int, int, int]


def _return(value: int) -> Instruction:
    return (_RETURN, 0, 0, value)


def _refuse(error: int) -> Instruction:
    return _return(_ERROR | error)


def _load_argument(index: int) -> Instruction:
    """The low 32 bits: of these arguments the kernel looks at no more."""
    return (_LOAD, 0, 0, _ARGUMENTS + 8 * index)


def _any_of(values: tuple[int, ...], then: Instruction) -> list[Instruction]:
    """Return `then` if the loaded word is one of `values`."""
    return [item for value in values for item in ((_IF_EQUAL, 0, 1, value), then)]


def _examination(name: str) -> list[Instruction]:
    """What follows the number of a call in EXAMINED; every way through it returns."""
    allow = _return(_ALLOW)
    if name == "clone":
        return [_load_argument(0), (_IF_SET, 0, 1, NAMESPACE_FLAGS), _refuse(errno.EPERM), allow]
    if name == "ioctl":
        # Put characters into somebody's terminal; change a terminal's line discipline, another source of holes.
        return [_load_argument(1), *_any_of((TIOCSTI, TIOCLINUX, TIOCSETD), _refuse(errno.EPERM)), allow]
    if name == "personality":
        return [_load_argument(0), *_any_of((0, 0xFFFF_FFFF), allow), _refuse(errno.EPERM)]
    # AF_NETLINK for routes only: the C library lists interfaces by it.
    netlink = [_load_argument(2), (_IF_EQUAL, 0, 1, 0), allow, _refuse(errno.EPROTONOSUPPORT)]
    protocols = [
        _load_argument(2),
        *_any_of((0, _TCP, _UDP), allow),
        _refuse(errno.EPROTONOSUPPORT),
    ]
    return [
        _load_argument(0),
        *_any_of((AF_UNIX,), allow),
        (_IF_EQUAL, 0, len(netlink), AF_NETLINK),
        *netlink,
        (_IF_EQUAL, 1, 0, AF_INET),
        (_IF_EQUAL, 0, len(protocols), AF_INET6),
        *protocols,
        _refuse(errno.EAFNOSUPPORT),
    ]


def instructions(machine: str) -> list[Instruction]:
    """The filter's instructions for an architecture of ARCHITECTURES, as (code, jump if true, if false, operand)."""
    column = list(ARCHITECTURES).index(machine)
    listing: list[Instruction] = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        # Another architecture's calls (32 bits) have other numbers: no program that belongs here makes them.
        (_IF_EQUAL, 1, 0, ARCHITECTURES[machine]),
        _return(_KILL),
        (_LOAD, 0, 0, _NUMBER),
        (_IF_GREATER, 0, 1, NEWEST),
        _refuse(errno.ENOSYS),
    ]
    for group in REFUSED:
        present = tuple(numbers[column] for numbers in group.calls.values() if numbers[column] != _ABSENT)
        listing += _any_of(present, _refuse(group.error))
    for name, numbers in EXAMINED.items():
        block = _examination(name)
        listing += [(_IF_EQUAL, 0, len(block), numbers[column]), *block]
    return [*listing, _return(_ALLOW)]


@functools.cache
def program(machine: str | None = None) -> bytes | None:
    """The filter as bubblewrap takes it, or None for an architecture that has none here.

    machine: as `uname -m` says; by default this one.
    """
    machine = platform.machine() if machine is None else machine
    if machine not in ARCHITECTURES:
        return None
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in instructions(machine))


def words() -> str:
    """Whether a filter is in force here, for people."""
    if platform.machine() in ARCHITECTURES:
        return "seccomp filter"
    return f"no seccomp filter (there is none for {platform.machine()})"
