# SPDX-License-Identifier: Apache-2.0
"""What a hostile job tries, what contains it, and how it ends, in bubblewrap and in a container: one table for the
tests and for the docs. `attacks` runs them."""

from __future__ import annotations

import platform
from dataclasses import dataclass, field

from gpubond.jobs.reasons import Reason


@dataclass(frozen=True)
class Attack:
    """One attack.

    script: of the job, after PRELUDE; `end(words)` notes what it met. expected: the reason and, in a good run, what
    `end` was given. limits: those that differ from the bench's. {n[name]} in the script: the number of a system call.
    container_by, in_container: what contains it in a container, and how it ends there, where that differs. beside: the
    script of another job that runs meanwhile, from when it prints "up" until it is cancelled.
    """

    group: str
    name: str
    contained_by: str
    script: str
    expected: str
    limits: dict[str, int] = field(default_factory=dict)
    outputs: tuple[str, ...] = ("out.txt",)
    container_by: str = ""
    in_container: str = ""
    beside: str = ""


def refused(error: str) -> str:
    return f"ok: the job sees {error}"


ENDED = {reason: str(reason.value) for reason in Reason}
CGROUP_OR_WATCH = "control group, else the watch"
FILTER = "filter of system calls"

ATTACKS: tuple[Attack, ...] = (
    # Too much, or no end.
    Attack(
        "resources", "fork bomb", "limit on processes; all end with the sandbox",
        "while True:\n    attempt(os.fork)", ENDED[Reason.TIMEOUT], {"processes": 24, "seconds": 1},
    ),
    Attack(
        "resources", "memory bomb", f"limit on address space; {CGROUP_OR_WATCH}",
        "kept = []\nwhile True: kept.append(bytearray(16 << 20))", ENDED[Reason.OUT_OF_MEMORY], {"memory_mib": 256},
    ),
    Attack(
        "resources", "memory bomb of many processes", CGROUP_OR_WATCH,
        "for _ in range(3): os.fork()\nkept = bytearray(90 << 20)\ntime.sleep(60)",
        ENDED[Reason.OUT_OF_MEMORY], {"memory_mib": 256},
    ),
    Attack(
        "resources", "memory in /tmp and /dev/shm", f"their size; {CGROUP_OR_WATCH}",
        "end([attempt(lambda: [open(f'{place}/{n}', 'wb').write(bytes(50 << 20)) for n in range(4)])"
        " for place in ('/tmp', '/dev/shm')])",
        refused("ENOSPC, ENOSPC"), {"memory_mib": 512},
    ),
    Attack(
        "resources", "memory of files without a name", "counted as disk by the watch",
        "for _ in range(4): os.write(os.memfd_create('x'), bytes(40 << 20))\ntime.sleep(60)",
        ENDED[Reason.DISK_LIMIT],
    ),
    Attack(
        "resources", "memory of System V, which no process shows", FILTER,
        "end(call({n[shmget]}, 0, 1 << 30, 0o1600))", refused("ENOSYS"),
        in_container=refused("EPERM"),
    ),
    Attack(
        "resources", "disk filler, one file", "limit on a file's size",
        "f = open('big', 'wb')\nend(attempt(lambda: [f.write(bytes(1 << 20)) for _ in range(100)]))",
        ENDED[Reason.DISK_LIMIT], {"disk_mib": 8},
    ),
    Attack(
        "resources", "disk filler, many files", "the watch",
        "n = 0\nwhile True:\n    n += 1\n    open(str(n), 'wb').write(bytes(1 << 20))",
        ENDED[Reason.DISK_LIMIT], {"disk_mib": 8},
    ),
    Attack(
        "resources", "disk filler, open files that were deleted", "the watch",
        "kept = []\nwhile True:\n    f = open('x', 'wb'); os.unlink('x'); f.write(bytes(1 << 20)); f.flush()\n"
        "    kept.append(f)",
        ENDED[Reason.DISK_LIMIT], {"disk_mib": 8},
    ),
    Attack(
        "resources", "empty files without end, for the file system's count of them", "the watch: at most 100,000",
        "n = 0\nwhile True:\n    n += 1\n    os.close(os.open(str(n), os.O_CREAT | os.O_WRONLY))",
        ENDED[Reason.DISK_LIMIT],
    ),
    Attack(
        "resources", "directories without end", "the watch: at most 64 deep",
        "while True: os.mkdir('d'); os.chdir('d')", ENDED[Reason.DISK_LIMIT],
    ),
    Attack(
        "resources", "output flood", "the log is cut; time limit",
        "while True: print('x' * 65536)", ENDED[Reason.TIMEOUT], {"seconds": 1},
    ),
    Attack("resources", "endless loop", "time limit", "while True: pass", ENDED[Reason.TIMEOUT], {"seconds": 1}),
    Attack(
        "resources", "endless loop that ignores every signal", "time limit: SIGKILL to the sandbox's first process",
        "import signal\nfor n in range(1, 65):\n    try: signal.signal(n, signal.SIG_IGN)\n"
        "    except (OSError, ValueError): pass\nwhile True: pass",
        ENDED[Reason.TIMEOUT], {"seconds": 1},
    ),
    Attack(
        "resources", "daemon that wants to stay", "ends with the sandbox's process namespace",
        "if os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0: time.sleep(600)\n    os._exit(0)\nend('an end')",
        refused("an end"),
    ),
    Attack(
        "resources", "bomb that unpacks itself into memory", CGROUP_OR_WATCH,
        "import zlib\npacked = zlib.compress(bytes(64 << 20))\n"
        "kept = [zlib.decompress(packed) for _ in range(64)]",
        ENDED[Reason.OUT_OF_MEMORY], {"memory_mib": 256},
    ),
    Attack(
        "resources", "bomb that unpacks itself onto the disk", "the watch, limit on a file's size",
        "import zlib\npacked = zlib.compress(bytes(1 << 20))\n"
        "for n in range(4096): open(str(n), 'wb').write(zlib.decompress(packed))",
        ENDED[Reason.DISK_LIMIT],
    ),
    Attack(
        "resources", "core dumps, for the machine's crash handler", "limit of 1 byte: the kernel starts no handler",
        "pid = os.fork()\nif pid == 0: os.abort()\nimport resource\n"
        "dumped = os.WCOREDUMP(os.waitpid(pid, 0)[1])\n"
        "end([str(resource.getrlimit(resource.RLIMIT_CORE)), 'a core' if dumped else 'no core'])",
        refused("(1, 1), no core"),
    ),
    Attack(
        "resources", "raise its own limits", "hard limits, and no capabilities",
        "import resource, struct\nunlimited = struct.pack('QQ', 2**64 - 1, 2**64 - 1)\n"
        "end(['done' if libc.prlimit(0, kind, unlimited, None) == 0 else errno.errorcode[ctypes.get_errno()]"
        " for kind in (resource.RLIMIT_FSIZE, resource.RLIMIT_NPROC, resource.RLIMIT_NOFILE, resource.RLIMIT_CORE)])",
        refused("EPERM, EPERM, EPERM, EPERM"),
    ),
    Attack(
        "resources", "to run before all others, in real time", "no capabilities",
        "end([attempt(lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))),"
        " attempt(lambda: os.setpriority(os.PRIO_PROCESS, 0, -20))])",
        refused("EPERM, EACCES"),
    ),
    Attack(
        "resources", "to be the last that is killed when memory runs out", "no capabilities",
        "end(attempt(lambda: os.write(os.open('/proc/self/oom_score_adj', os.O_WRONLY), b'-1000')))", refused("EACCES"),
    ),
    # Out to others.
    Attack(
        "network", "IPv4", "network namespace with nothing but an unused loopback",
        "end(attempt(lambda: socket.create_connection(('192.0.2.1', 80), 5)))", refused("ENETUNREACH"),
    ),
    Attack(
        "network", "IPv6", "the same",
        "end(attempt(lambda: socket.create_connection(('2001:db8::1', 80), 5)))", refused("ENETUNREACH"),
    ),
    Attack(
        "network", "services on the host's loopback", "the same",
        "end(attempt(lambda: socket.create_connection(('127.0.0.1', 22), 5)))", refused("ECONNREFUSED"),
    ),
    Attack(
        "network", "DNS", "the same, and no resolver's settings",
        "end(attempt(lambda: socket.getaddrinfo('example.org', 80)))", refused("no such name"),
    ),
    Attack(
        "network", "Unix sockets of the host", "none of its directories is there",
        "end(attempt(lambda: socket.socket(socket.AF_UNIX).connect('/run/dbus/system_bus_socket')))",
        refused("ENOENT"),
    ),
    Attack(
        "network", "abstract Unix sockets", "network namespace",
        "end(attempt(lambda: socket.socket(socket.AF_UNIX).connect('\\0/tmp/.X11-unix/X0')))",
        refused("ECONNREFUSED"),
    ),
    Attack(
        "network", "sockets of a virtual machine's host (vsock)", FILTER,
        "end(attempt(lambda: socket.socket(40, socket.SOCK_STREAM)))", refused("EAFNOSUPPORT"),
        in_container=refused("ENOSYS"),
    ),
    Attack(
        "network", "packet sockets", FILTER,
        "end(attempt(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW)))", refused("EAFNOSUPPORT"),
        in_container=refused("ENOSYS"),
    ),
    Attack(
        "network", "netlink, other than for interfaces", FILTER,
        "end(attempt(lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12)))", refused("EPROTONOSUPPORT"),
        in_container=refused("ENOSYS"),
    ),
    # What is not its own.
    Attack(
        "reading", "the provider's keystore and home", "they are not there",
        "end(attempt(lambda: os.listdir(sys.argv[1] + '/home')))", refused("ENOENT"),
    ),
    Attack(
        "reading", "other jobs, and the store of inputs", "they are not there",
        "end([attempt(lambda: os.listdir(sys.argv[1] + place)) for place in ('/work', '/store')])",
        refused("ENOENT, ENOENT"),
    ),
    Attack(
        "reading", "the worker's environment", "cleared; other processes are not seen",
        # Its mark, by which the worker knows a container again, is no secret.
        "end(sorted(name for name in os.environ if name.startswith(('GPUBOND_', 'PASS')) and name != 'GPUBOND_SANDBOX')"
        " or 'nothing')",
        refused("nothing"),
    ),
    Attack(
        "reading", "the host's /proc", "process namespace",
        "seen = [p for p in os.listdir('/proc') if p.isdigit()]\n"
        "end('its own processes' if len(seen) <= 2 else str(len(seen)))", refused("its own processes"),
    ),
    Attack(
        "reading", "the host's accounts", "they are not there",
        "known = open('/etc/passwd').read() if os.path.exists('/etc/passwd') else ''\n"
        "end(['the accounts' if 'daemon:' in known else 'none of them', attempt(lambda: open('/etc/shadow'))])",
        refused("none of them, ENOENT"), container_by="a list of the image's user alone",
    ),
    Attack(
        "reading", "the root directory by way of a process", "the same root for all",
        "end(attempt(lambda: open('/proc/1/root/etc/shadow')))", refused("ENOENT"),
    ),
    Attack(
        "reading", "disks", "no device nodes but null, zero, random, tty",
        "end(sorted(set(os.listdir('/dev')) & {'sda', 'vda', 'nvme0n1', 'mem', 'kmsg', 'port', 'fuse', 'kvm'})"
        " or 'nothing')",
        refused("nothing"),
    ),
    Attack(
        "reading", "arguments, environment, sockets, memory files of a job that runs meanwhile",
        "namespaces of its own: processes, network, /tmp, /dev/shm",
        "import glob\nseen = [p for p in glob.glob('/proc/[0-9]*/*') if p.endswith(('/cmdline', '/environ'))\n"
        "        and b's3cret' in open(p, 'rb').read()]\n"
        "peer = attempt(lambda: socket.socket(socket.AF_UNIX).connect('\\0gpubond-neighbour'))\n"
        "files = [p for p in ('/tmp/neighbour', '/dev/shm/neighbour') if os.path.exists(p)]\n"
        "end([', '.join(seen + files) or 'nothing', peer])",
        refused("nothing, ECONNREFUSED"),
        beside="import subprocess\n"
        "for place in ('/tmp', '/dev/shm'): open(place + '/neighbour', 'w').write('s3cret')\n"
        "server = socket.socket(socket.AF_UNIX); server.bind('\\0gpubond-neighbour'); server.listen()\n"
        "subprocess.Popen([sys.executable, '-Ic', 'import time; time.sleep(600)', 's3cret'], env={'W': 's3cret'})\n"
        "print('up', flush=True)\nwhile True: time.sleep(1)",
    ),
    # More than it may.
    Attack(
        "privileges", "ptrace", FILTER, "end(call({n[ptrace]}, 16, os.getppid(), 0, 0))", refused("EPERM"),
    ),
    Attack(
        "privileges", "memory of another process", FILTER,
        "end(call({n[process_vm_readv]}, os.getppid(), 0, 0, 0, 0, 0))", refused("EPERM"),
    ),
    Attack(
        "privileges", "mount", f"no capabilities; {FILTER}",
        "end([call({n[mount]}, b'none', b'/tmp', b'tmpfs', 0, 0), call({n[fsopen]}, b'tmpfs', 0)])",
        refused("EPERM, EPERM"),
    ),
    Attack(
        "privileges", "new user namespaces", f"disabled by bubblewrap; {FILTER}",
        "end([call({n[unshare]}, 0x10000000), call({n[clone]}, 0x10000000 | 17, 0, 0, 0, 0),"
        " call({n[clone3]}, 0, 0), call({n[setns]}, 0, 0)])",
        refused("EPERM, EPERM, ENOSYS, EPERM"),
        in_container=refused("EPERM, ENOSYS, ENOSYS, EPERM"),
        container_by="filter of system calls",
    ),
    Attack(
        "privileges", "TIOCSTI", f"no terminal of the worker's; {FILTER}",
        "import fcntl, pty\nown, _ = pty.openpty()\n"
        "end([attempt(lambda: fcntl.ioctl(own, number, b'x')) for number in (0x5412, 0x541C, 0x5423)])",
        refused("EPERM, EPERM, EPERM"),
        in_container=refused("EPERM, ENOTTY, EINVAL"),
        container_by="its own terminals only; no capabilities",
    ),
    Attack(
        "privileges", "setuid", "one user inside, no new privileges",
        "end([attempt(lambda: os.setuid(0)), attempt(lambda: os.setgid(0))])", refused("EINVAL, EINVAL"),
        in_container=refused("EPERM, EPERM"),
        container_by="no capabilities, no new privileges",
    ),
    Attack(
        "privileges", "a set-user-id program", "no new privileges; mounts without set-user-id",
        "import shutil, subprocess\nshutil.copy('/usr/bin/id', 'id'); os.chmod('id', 0o6755)\n"
        "end([subprocess.run([id, '-u'], capture_output=True, text=True).stdout.strip()"
        " for id in ('./id', '/usr/bin/id')])",
        refused("1000, 1000"), container_by="the same; the image's own is root's",
    ),
    Attack(
        "privileges", "device nodes", "no capabilities",
        "end(attempt(lambda: os.mknod('disk', 0o60666, os.makedev(8, 0))))", refused("EPERM"),
    ),
    Attack(
        "privileges", "chroot", f"no capabilities; {FILTER}", "end(attempt(lambda: os.chroot('/tmp')))",
        refused("EPERM"),
    ),
    Attack(
        "privileges", "programs in the kernel (bpf)", FILTER, "end(call({n[bpf]}, 5, 0, 0))", refused("EPERM"),
    ),
    Attack(
        "privileges", "io_uring, userfaultfd, perf events", FILTER,
        "end([call({n[io_uring_setup]}, 8, 0), call({n[userfaultfd]}, 1), call({n[perf_event_open]}, 0, 0, 0, 0, 0)])",
        refused("ENOSYS, ENOSYS, EPERM"),
        in_container=refused("EPERM, EPERM, EPERM"),
    ),
    Attack(
        "privileges", "keys of the kernel", FILTER, "end(call({n[keyctl]}, 0, -3, 1))", refused("EPERM"),
    ),
    Attack(
        "privileges", "modules, another kernel, reboot", FILTER,
        "end([call({n[init_module]}, 0, 0, 0), call({n[kexec_load]}, 0, 0, 0, 0),"
        " call({n[reboot]}, 0xfee1dead, 672274793, 0, 0)])",
        refused("EPERM, EPERM, EPERM"),
    ),
    Attack(
        "privileges", "system calls newer than the filter", FILTER, "end(call(470, 0, 0, 0))", refused("ENOSYS"),
    ),
    Attack(
        "privileges", "end the sandbox's first process", "the kernel: it takes no signals from inside",
        "os.kill(1, 9)\nend('nothing happens')", refused("nothing happens"),
    ),
    Attack(
        "privileges", "end everything that it may send a signal to", "process namespace",
        "end(attempt(lambda: os.kill(-1, 9)))", refused("ESRCH"),
        beside="print('up', flush=True)\nwhile True: time.sleep(1)",
    ),
    Attack(
        "privileges", "change settings of the kernel", "they are root's, whom the job is not",
        "end([attempt(lambda: os.open(place, os.O_WRONLY)) for place in"
        " ('/proc/sys/kernel/core_pattern', '/proc/sys/vm/overcommit_memory')])",
        refused("EACCES, EACCES"),
    ),
    Attack(
        "privileges", "write to an input", "read-only mounts",
        "tries = [lambda: open('main.py', 'a'), lambda: os.unlink('main.py'), lambda: os.rename('main.py', 'other'),\n"
        "         lambda: os.chmod('main.py', 0o777), lambda: os.truncate('main.py', 0)]\n"
        "end(', '.join(each for each in map(attempt, tries) if each == 'done') or 'every way refused')",
        refused("every way refused"),
    ),
    Attack(
        "privileges", "write to what it shares with others", "read-only mounts",
        "end([attempt(lambda: open(place, 'w')) for place in"
        " ('/usr/bin/x', '/x', '/run/gpubond/spec.json', '/run/gpubond/lib/gpubond/__init__.py', 'main.py')])",
        refused("EROFS, EROFS, EROFS, EROFS, EROFS"),
        in_container=refused("EROFS, EROFS, ENOENT, ENOENT, EROFS"),
        container_by="read-only root and mounts",
    ),
    Attack(
        "privileges", "leave its control groups", "they are not there",
        "places = [f'/sys/fs/cgroup{each}' for each in ('', '/memory', '/pids')]\n"
        "tries = [lambda p=p: os.mkdir(p + '/x') for p in places]\n"
        "tries += [lambda p=p: os.write(os.open(p + '/cgroup.procs', os.O_WRONLY), b'0') for p in places]\n"
        "end(', '.join(each for each in map(attempt, tries) if each == 'done') or 'every way refused')",
        refused("every way refused"), container_by="they are shown read-only",
    ),
    # What it leaves behind.
    Attack(
        "outputs", "a link to a secret", "outputs are opened without following links",
        "os.symlink('/etc/shadow', 'out.txt')", ENDED[Reason.OUTPUT_INVALID],
    ),
    Attack(
        "outputs", "a directory that is a link", "the same",
        "os.rmdir('d'); os.symlink('/etc', 'd')", ENDED[Reason.OUTPUT_INVALID], outputs=("d/passwd",),
    ),
    Attack(
        "outputs", "a hard link", "one name only", "open('x', 'w'); os.link('x', 'out.txt')",
        ENDED[Reason.OUTPUT_INVALID],
    ),
    Attack(
        "outputs", "a pipe that nobody writes to", "opened without waiting, plain files only",
        "os.mkfifo('out.txt')", ENDED[Reason.OUTPUT_INVALID],
    ),
    Attack(
        "outputs", "a socket", "plain files only",
        "socket.socket(socket.AF_UNIX).bind('out.txt')", ENDED[Reason.OUTPUT_INVALID],
    ),
    Attack("outputs", "a directory", "plain files only", "os.mkdir('out.txt')", ENDED[Reason.OUTPUT_INVALID]),
    Attack(
        "outputs", "a file of holes, huge when it is read", "its size counts, holes too",
        "open('out.txt', 'w').truncate(65 << 20)", ENDED[Reason.OUTPUT_INVALID],
    ),
    Attack(
        "outputs", "names with control characters", "what is not named in `outputs` is never taken",
        "open('\\x1b[2J\\x1b]0;x\\x07\\n', 'w'); open('\\u202etxt.exe', 'w'); end('nothing happens')",
        refused("nothing happens"),
    ),
)  # fmt: skip

# Runs on some machines only.
FOREIGN_CALL = Attack(
    "privileges", "system calls of 32-bit programs", "the filter of system calls ends it",
    "import mmap\ncode = mmap.mmap(-1, 4096, prot=7)\n"
    "code.write(bytes.fromhex('b814000000cd80c3'))  # getpid by int 0x80\n"
    "ctypes.CFUNCTYPE(ctypes.c_long)(ctypes.addressof(ctypes.c_char.from_buffer(code)))()",
    ENDED[Reason.FORBIDDEN_CALL],
)  # fmt: skip


def all_attacks() -> list[Attack]:
    """Those that this machine can be tried with."""
    return [*ATTACKS, *([FOREIGN_CALL] if platform.machine() == "x86_64" else [])]
