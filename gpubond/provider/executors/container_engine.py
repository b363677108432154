# SPDX-License-Identifier: Apache-2.0
"""Which container engine this machine has, and what of it works here: found by trying, never assumed.

podman comes first: it needs no daemon, keeps the worker's images apart in a store of the worker's own, and gives each
container users that are nobody outside. docker is taken where that is what there is.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tarfile
import tempfile
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from gpubond.errors import MissingTool
from gpubond.provider.executors.container_seccomp import write_narrower
from gpubond.provider.executors.leftovers import MARK

Kind = Literal["podman", "docker"]
# They limit memory and processes; or containers have some that limit nothing; or there must be none.
Groups = Literal["limiting", "idle", "off"]

# What the job's user is inside, and where the users of containers begin outside if the worker is root: far above those
# that a system gives to accounts, their subordinate users and its own containers.
INNER_USER = 1000
OUTER_BASE = 2_000_000_000
OUTER_COUNT = 65_536

CDI_FOLDERS = (Path("/etc/cdi"), Path("/var/run/cdi"))
_ANSWER_SECONDS = 120
CHECK_IMAGE = "localhost/gpubond-check"
_TOP = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")


@dataclass(frozen=True)
class Engine:
    """A container engine and how it works here.

    runtime: the OCI runtime that is asked for; None for the engine's own choice.
    groups: how far the kernel's groups (cgroups) go here.
    seccomp: the file of a filter narrower than the engine's own; None where there is only that.
    owner: the user number outside that the job has, None for the worker's own.
    """

    kind: Kind
    program: str
    version: str
    store: Path
    runtime: str | None = None
    groups: Groups = "limiting"
    seccomp: Path | None = None
    owner: int | None = None

    @property
    def cgroups(self) -> bool:
        """Whether memory and processes are limited by the kernel's groups; else by rlimits and by watching."""
        return self.groups == "limiting"

    @property
    def rootless(self) -> bool:
        """Whether the engine itself has no more rights than the worker, which is not root."""
        return self.kind == "podman" and os.geteuid() != 0

    @property
    def gvisor(self) -> bool:
        """Whether jobs meet gVisor's kernel instead of the machine's."""
        return self.runtime is not None and Path(self.runtime).name == "runsc"

    @property
    def words(self) -> str:
        """What is in force, in words."""
        if self.kind == "docker":
            users = "its daemon is root, the job's user has a number without an account"
        elif self.rootless:
            users = "rootless"
        else:
            users = "as root, a container's users are nobody outside"
        limits = (
            "memory and processes limited by the kernel's groups"
            if self.cgroups
            else ("no groups of the kernel: processes limited by rlimits, memory by watching")
        )
        kernel = "gVisor's kernel" if self.gvisor else "this machine's kernel (no gVisor)"
        calls = "; its own filter of system calls, which allows new namespaces" if self._wide else ""
        return f"{self.kind} {self.version}: {users}; {limits}{calls}; {kernel}"

    @property
    def _wide(self) -> bool:
        return self.kind == "podman" and self.seccomp is None

    def command(self, *arguments: str) -> list[str]:
        """A command line of the engine."""
        if self.kind == "docker":
            return [self.program, *arguments]
        volatile = volatile_folder(self.store)
        runtime = () if self.runtime is None else ("--runtime", self.runtime)
        return [
            *(self.program, "--root", str(_images(self.store)), "--runroot", str(volatile / "run")),
            # What a distribution shows to every container (RHEL: the keys of its subscription) is not for strangers.
            *("--tmpdir", str(volatile / "tmp"), "--default-mounts-file", os.devnull, *runtime, *arguments),
        ]

    def environment(self, mark: str | None = None) -> dict[str, str]:
        """What the engine gets of the worker's environment. It is its own; no job sees it."""
        wanted = ("PATH", "HOME", "XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS", "DOCKER_HOST")
        given = {name: os.environ[name] for name in wanted if name in os.environ}
        # What the machine's own containers are set up with (mounts, variables, devices) is not for jobs.
        given |= {"LANG": "C.UTF-8", "CONTAINERS_CONF": str(self.store / "containers.conf")}
        return given if mark is None else given | {MARK: mark}

    def ask(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Runs a command of the engine to its end.

        Raises: EngineFailure, if `check` and it fails.
        """
        done = self.run_bytes(*arguments)
        answer = subprocess.CompletedProcess(
            done.args, done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
        )
        if check and answer.returncode != 0:
            raise EngineFailure(self, arguments[0], answer.stderr)
        return answer

    def run_bytes(self, *arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        """Runs a command of the engine with `stdin`, whatever comes of it."""
        try:
            return subprocess.run(
                self.command(*arguments),
                input=stdin,
                capture_output=True,
                env=self.environment(),
                timeout=_ANSWER_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise EngineFailure(self, arguments[0], f"it has not answered for {_ANSWER_SECONDS} s") from None

    def hardening(self) -> list[str]:
        """The options of `run` that make a container one for strangers, whatever it runs."""
        options = [
            *("--pull", "never", "--network", "none", "--hostname", "job"),
            *("--read-only", "--cap-drop", "all", "--security-opt", "no-new-privileges", "--no-healthcheck"),
            *("--ipc", "private", "--cgroupns", "private", "--log-driver"),
        ]
        if self.kind == "docker":
            user = str(OUTER_BASE + INNER_USER)
            runtime = () if self.runtime is None else ("--runtime", self.runtime)
            return [*options, "none", "--user", f"{user}:{user}", *runtime]
        # Else podman puts file systems without a limit on /tmp, /run and /var/tmp, and volumes where the image asks.
        options += ["passthrough", "--read-only-tmpfs=false", "--image-volume", "ignore"]
        options += ["--http-proxy=false", "--no-hosts", "--systemd=false", "--sdnotify", "ignore"]
        if self.seccomp is not None:
            options += ["--security-opt", f"seccomp={self.seccomp}"]
        if self.groups == "off":
            options += ["--cgroups", "disabled"]
        if os.geteuid() != 0:
            options += ["--userns", f"keep-id:uid={INNER_USER},gid={INNER_USER}"]
            return [*options, "--user", f"{INNER_USER}:{INNER_USER}"]
        mapping = f"0:{OUTER_BASE}:{OUTER_COUNT}"
        return [*options, "--uidmap", mapping, "--gidmap", mapping, "--user", f"{INNER_USER}:{INNER_USER}"]


class EngineFailure(Exception):
    """The engine did not do what it was told; what it says is for the worker's owner, not for buyers."""

    def __init__(self, engine: Engine, what: str, said: str) -> None:
        lines = [line for line in said.strip().splitlines() if line.strip()]
        super().__init__(f"{engine.kind} {what}: {lines[-1][:500] if lines else 'it failed without a word'}")


_GROUPS: tuple[Groups, ...] = ("limiting", "idle", "off")
_found: dict[tuple[Path, Kind | None], Engine] = {}
_lock = threading.Lock()


def find_engine(store: Path, kind: Kind | None = None) -> Engine:
    """The engine, of this kind if one is named, for the images in the folder `store`: tried with a container, once per
    process and folder.

    Raises: MissingTool, which says what was tried.
    """
    with _lock:
        if (store, kind) not in _found:
            _found[store, kind] = _find(store, kind)
        return _found[store, kind]


def cdi_has_gpu() -> bool:
    """Whether NVIDIA's devices are described for containers (CDI)."""
    return any(b"nvidia.com/gpu" in file.read_bytes() for folder in CDI_FOLDERS for file in _files(folder))


def _files(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.glob("*")) if path.suffix in (".json", ".yaml") and path.is_file()]


def volatile_folder(store: Path) -> Path:
    """Where podman keeps what must not outlive a boot: a short path, as sockets have them."""
    name = "gpubond-" + hashlib.sha256(os.fsencode(store)).hexdigest()[:12]
    if os.geteuid() == 0:
        return Path("/run", name)
    return Path(os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir(), f"{name}-{os.geteuid()}")


def _images(store: Path) -> Path:
    """Where podman finds its images and containers."""
    return store / "images" if os.geteuid() != 0 else volatile_folder(store) / "images"


def _show_images(store: Path) -> bool:
    """Binds the images to a place that everybody may pass through; whether that could be done.

    A container's users must reach its root, and where podman runs as root, it opens every folder on the way there for
    all users of the machine, the worker's home included, unless it is open already.
    """
    (store / "images").mkdir(mode=0o711, exist_ok=True)
    if os.geteuid() != 0:
        return True
    target = _images(store)
    try:
        target.mkdir(mode=0o711, parents=True, exist_ok=True)
        for folder in (target.parent, target):
            folder.chmod(0o711)
        if not target.samefile(store / "images"):
            if target.is_mount():  # of a folder that was there before
                subprocess.run(["umount", "-l", str(target)], check=True, capture_output=True)
            subprocess.run(["mount", "--bind", str(store / "images"), str(target)], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        return False
    return True


def _find(store: Path, kind: Kind | None) -> Engine:
    problems: list[str] = []
    store.mkdir(mode=0o700, parents=True, exist_ok=True)
    (store / "containers.conf").write_text('[engine]\nevents_logger = "none"\n')
    for engine in _installed(store, problems):
        if kind not in (None, engine.kind):
            continue
        for variant in _variants(engine):
            problem = try_container(variant)
            if problem is None:
                return variant
            if problem not in problems:
                problems.append(problem)
    raise MissingTool(
        "no container engine works here: " + "; ".join(problems[:6]),
        field="podman",
        remedy="install podman 4.3 or later (apt-get install podman uidmap; a worker that is not root needs lines of "
        "its own in /etc/subuid and /etc/subgid), or take `container` out of provider.runtimes",
    )


def _installed(store: Path, problems: list[str]) -> Iterator[Engine]:
    podman, docker = shutil.which("podman"), shutil.which("docker")
    shown = podman is not None and _show_images(store)
    if podman is not None and shown:
        engine = Engine("podman", podman, "", store, owner=_owner())
        answer = engine.ask("version", "--format", "{{.Client.Version}}", check=False)
        path = engine.ask("info", "--format", "{{.Host.Security.SECCOMPProfilePath}}", check=False).stdout.strip()
        seccomp = store / "seccomp.json"
        narrow = bool(path) and write_narrower(Path(path), seccomp)
        yield replace(engine, version=answer.stdout.strip(), seccomp=seccomp if narrow else None)
    else:
        problems.append(
            "podman is not installed"
            if podman is None
            else "podman is installed, but this root may not mount its images"
        )
    if docker is None:
        problems.append("docker is not installed")
        return
    engine = Engine("docker", docker, "", store, owner=OUTER_BASE + INNER_USER)
    answer = engine.ask("version", "--format", "{{.Server.Version}}", check=False)
    if answer.returncode != 0:
        problems.append("docker is installed, but its daemon does not answer")
    elif os.geteuid() != 0:
        problems.append("docker is used by a worker that is root only: install podman, which needs no root")
    elif "rootless" in engine.ask("info", "--format", "{{.SecurityOptions}}", check=False).stdout:
        problems.append("a rootless docker is not used: install podman, which is better at that")
    else:
        yield replace(engine, version=answer.stdout.strip())


def _owner() -> int | None:
    return OUTER_BASE + INNER_USER if os.geteuid() == 0 else None


def _variants(engine: Engine) -> Iterator[Engine]:
    """What to try, the best first: gVisor's kernel before the machine's, the kernel's groups before rlimits."""
    if engine.kind == "docker":
        if "runsc" in engine.ask("info", "--format", "{{json .Runtimes}}", check=False).stdout:
            yield replace(engine, runtime="runsc")
        yield engine
        return
    runtimes = [shutil.which("runsc"), None, shutil.which("crun"), shutil.which("runc")]
    for groups in _GROUPS:
        for at, runtime in enumerate(runtimes):
            if runtime is not None or at == 1:
                yield replace(engine, runtime=runtime, groups=groups)


def try_container(engine: Engine) -> str | None:
    """Why a container cannot be made so; None if it can. It runs this machine's own shell, which it only sees."""
    with tempfile.TemporaryDirectory(prefix="gpubond-check-") as name:
        folder = Path(name, "job")
        folder.mkdir()
        if engine.owner is not None:
            # The parent is nobody's but root's, which is who mounts it.
            os.chown(folder, engine.owner, engine.owner)
        limits = ["--memory", "256m", "--memory-swap", "256m", "--pids-limit", "64"] if engine.cgroups else []
        mounts = [mount(Path("/usr"), "/usr", writable=False), mount(folder, "/job", writable=True)]
        mounts += [mount(Path("/", top), f"/{top}", writable=False) for top in _TOP if _is_real(Path("/", top))]
        ulimits = ulimit_options({"nofile": 1024, "nproc": 64, "core": 0})
        try:
            image = _check_image(engine)
            done = engine.ask(
                *("run", "--rm", *engine.hardening(), *limits, *ulimits, *mounts, image),
                *("/bin/sh", "-c", "! touch /made 2>&1 && touch /job/made"),
                check=False,
            )
        except EngineFailure as failure:
            return str(failure)
        made = (folder / "made").exists()
    if done.returncode != 0 or not made:
        return str(EngineFailure(engine, "run", done.stderr))
    if limits and any(word in done.stderr for word in ("discarded", "ignored")):
        return f"{engine.kind} limits no memory here"
    return None


def _is_real(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _check_image(engine: Engine) -> str:
    """An image of nothing but empty folders, into which the machine's own programs are mounted."""
    if engine.ask("image", "inspect", CHECK_IMAGE, check=False).returncode != 0:
        with tempfile.NamedTemporaryFile(suffix=".tar") as file:
            with tarfile.open(fileobj=file, mode="w") as archive:
                for top in _TOP:
                    entry = tarfile.TarInfo(top)
                    entry.mode, entry.type = 0o755, tarfile.DIRTYPE
                    if Path("/", top).is_symlink():
                        entry.type, entry.linkname = tarfile.SYMTYPE, str(Path("/", top).readlink())
                    archive.addfile(entry)
                for folder in ("usr", "job", "tmp"):
                    entry = tarfile.TarInfo(folder)
                    entry.mode, entry.type = 0o755, tarfile.DIRTYPE
                    archive.addfile(entry)
            file.flush()
            engine.ask("import", file.name, CHECK_IMAGE)
    return CHECK_IMAGE


def mount(source: Path, target: str, *, writable: bool) -> str:
    """The option that shows a file or folder of this machine at `target`. Quoted, since any name may hold a comma."""
    fields = ["type=bind", f"source={source}", f"target={target}", *(() if writable else ("readonly",))]
    quoted = ('"' + field.replace('"', '""') + '"' if set(field) & set(',"\n') else field for field in fields)
    return "--mount=" + ",".join(quoted)


def ulimit_options(limits: Mapping[str, int]) -> list[str]:
    """The options that set rlimits."""
    return [option for name, value in limits.items() for option in ("--ulimit", f"{name}={value}:{value}")]
