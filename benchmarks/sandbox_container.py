# SPDX-License-Identifier: Apache-2.0
"""What a container costs: start to end of /bin/true, and how much slower a job is in it than bare.

Images are made of this machine's busybox and Python; nothing is fetched. The slowdown is measured by pairs, bare and in
a container in turn, so that what else the machine does meets both alike. It is of processor time, the worker's watch
included, as in sandbox.py; that of the clock is given too.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from gpubond.errors import MissingTool  # noqa: E402
from gpubond.jobs.blobs import BlobStore  # noqa: E402
from gpubond.jobs.spec import JobSpec  # noqa: E402
from gpubond.provider.executors.attempt import Attempt  # noqa: E402
from gpubond.provider.executors.container import ContainerExecutor  # noqa: E402
from gpubond.provider.executors.container_engine import Engine  # noqa: E402
from gpubond.provider.executors.container_run import Container, ContainerRun  # noqa: E402
from gpubond.provider.executors.log import JobLog  # noqa: E402
from gpubond.provider.executors.supervise import Bounds  # noqa: E402
from tests.worker.containers.bench import remove_store  # noqa: E402
from tests.worker.containers.images import RegistryServer, Shelf, busybox_layer, python_layer  # noqa: E402

_MIB = 1 << 20
LIMITS = {"container_start_ms": 250, "container_slowdown_percent": 1.0}

# Whole numbers and floats in pure Python; prints what the work itself took: wall clock and processor, in seconds.
WORK = """
import sys, time
rounds = int(sys.argv[1])
begin, cpu = time.perf_counter(), time.process_time()
x, y = 1, 0.5
for i in range(rounds):
    x = (x * 1103515245 + 12345) % 2147483648
    y = y * 0.999 + x * 1e-9
print(time.perf_counter() - begin, time.process_time() - cpu, flush=True)
open("out.txt", "w").write(str(y))
"""

EXAMPLE = """\
example:
  python benchmarks/sandbox_container.py                     five pairs of 30 s, JSON on standard output
  python benchmarks/sandbox_container.py --seconds 2         a small run that checks the script, not the containers
"""


def main() -> int:
    """Measure and print; returns 1 if a figure misses its limit, 2 if there is no engine."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=30, help="of each job (default 30)")
    parser.add_argument("--pairs", type=int, default=5, help="bare and in a container (default 5)")
    parser.add_argument("--starts", type=int, default=30, help="containers that are started (default 30)")
    options = parser.parse_args()
    try:
        figures = measure(seconds=options.seconds, pairs=options.pairs, starts=options.starts)
    except MissingTool as missing:
        print(f"sandbox_container: {missing}", file=sys.stderr)
        return 2
    print(json.dumps(figures, indent=2))
    return int(any(figures[name] > most for name, most in LIMITS.items()))


def measure(*, seconds: float, pairs: int, starts: int) -> dict[str, Any]:
    """The figures: milliseconds (medians) and percent."""
    with tempfile.TemporaryDirectory(prefix="gpubond-bench-") as name:
        bench = _Bench(Path(name))
        try:
            return {
                "engine": bench.engine.words,
                **bench.starts(starts),
                **bench.slowdown(seconds, pairs),
                "load_average": [round(load, 2) for load in os.getloadavg()],
            }
        finally:
            bench.close()


class _Bench:
    def __init__(self, root: Path) -> None:
        self._root = root
        self._blobs = BlobStore(root / "store")
        self._server = RegistryServer(Shelf())
        self._executor = ContainerExecutor(
            root / "work",
            root / "containers",
            private_registries=[self._server.host],
            max_image_bytes=1024 * _MIB,
            cache_bytes=4096 * _MIB,
            image_seconds=600,
        )
        self.engine: Engine = self._executor.engine()

    def close(self) -> None:
        self._server.stop()
        remove_store(self.engine)

    def starts(self, count: int) -> dict[str, Any]:
        """From the engine's start to the end of /bin/true, hardened as for a job; and a whole attempt at a job."""
        layer = busybox_layer()
        if layer is None:
            raise MissingTool("busybox is not installed", field="busybox", remedy="apt-get install busybox-static")
        image = self._server.name(self._server.shelf.image(layer))
        spec = self._spec({"image": image, "command": ["/bin/sh", "-c", "echo > out.txt"]}, [])
        self._run(spec)
        times, attempts, bare = [], [], []
        for number in range(count):
            begin = time.perf_counter()
            subprocess.run(["/bin/true"], check=True)
            bare.append(time.perf_counter() - begin)
            times.append(self._start(self._executor.images.held()[image[-64:]].id, number))
            begin = time.perf_counter()
            self._run(spec)
            attempts.append(time.perf_counter() - begin)
        return {
            "starts": count,
            "bare_start_ms": round(1000 * statistics.median(bare), 1),
            "container_start_ms": round(1000 * statistics.median(times), 1),
            "container_start_p95_ms": round(1000 * sorted(times)[math.ceil(0.95 * count) - 1], 1),
            "container_attempt_ms": round(1000 * statistics.median(attempts), 1),
        }

    def _start(self, image: str, number: int) -> float:
        """Seconds of the engine's `run`, alone."""
        directory = self._root / f"start-{number}"
        (directory / "job").mkdir(parents=True)
        container = Container(
            image=image,
            entrypoint=None,
            command=["/bin/true"],
            environment={},
            workdir="/job",
            job_directory=directory / "job",
            inputs={},
            rlimits={"core": 0, "nofile": 1024},
            processes=64,
            tmp_bytes=64 * _MIB,
        )
        log = JobLog(directory / "log.txt", None, 4096)
        try:
            run = ContainerRun(self.engine, container, directory, self._root, log, Bounds(60, 256 * _MIB, _MIB))
            begin = time.perf_counter()
            done = subprocess.run(run.command(), env=self.engine.environment(), check=True, capture_output=True)
            took = time.perf_counter() - begin
            assert done.returncode == 0  # noqa: S101
            run.remove()
            return took
        finally:
            log.close()

    def slowdown(self, seconds: float, pairs: int) -> dict[str, Any]:
        """The same work bare and in a container, in turn; medians of what the work itself took."""
        image = self._server.name(self._server.shelf.image(python_layer()))
        (self._root / "work.py").write_text(WORK)
        base = Path(sys.base_prefix, "bin", f"python{sys.version_info.major}.{sys.version_info.minor}")
        rounds = 2_000_000
        rounds = int(rounds * seconds / self._bare(base, rounds)[0])
        spec = self._spec(
            {"image": image, "command": ["/usr/bin/python", "-I", "work.py", str(rounds)]},
            [self._input("work.py")],
        )
        self._run(self._spec({"image": image, "command": ["/usr/bin/python", "-c", "open('out.txt', 'w')"]}, []))
        bare: list[tuple[float, float]] = []
        inside: list[tuple[float, float]] = []

        def in_container() -> None:
            used = time.process_time()
            lines = self._run(spec).log_path.read_text().splitlines()
            watch = time.process_time() - used
            wall, cpu = _times(next(line for line in lines if line[:1].isdigit()))
            inside.append((wall, cpu + watch))

        for number in range(pairs):
            print(f"pair {number + 1} of {pairs}", file=sys.stderr)
            turns = [lambda: bare.append(self._bare(base, rounds)), in_container]
            for turn in turns if number % 2 == 0 else reversed(turns):
                turn()
        wall, cpu = ([there[at] / here[at] for here, there in zip(bare, inside, strict=True)] for at in (0, 1))
        return {
            "job_seconds": [round(value, 3) for value, _ in bare],
            "job_in_container_seconds": [round(value, 3) for value, _ in inside],
            "container_slowdown_percent": round(100 * (statistics.median(cpu) - 1), 2),
            "container_slowdown_by_clock_percent": round(100 * (statistics.median(wall) - 1), 2),
        }

    def _bare(self, python: Path, rounds: int) -> tuple[float, float]:
        command = [str(python), "-I", str(self._root / "work.py"), str(rounds)]
        done = subprocess.run(command, cwd=self._root, check=True, capture_output=True)
        return _times(done.stdout.decode())

    def _input(self, path: str) -> dict[str, Any]:
        size = (self._root / path).stat().st_size
        copy = self._root / f"{path}.upload"
        copy.write_bytes((self._root / path).read_bytes())
        return {"path": path, "sha256": self._blobs.put_file(copy), "size": size}

    def _spec(self, container: dict[str, Any], inputs: list[dict[str, Any]]) -> JobSpec:
        limits = {"seconds": 3600, "memory_mib": 512, "disk_mib": 16, "processes": 64}
        raw = {"version": 1, "name": "bench", "runtime": "container", "inputs": inputs, "outputs": ["out.txt"]}
        return JobSpec.model_validate(raw | {"limits": limits, "container": container})

    def _run(self, spec: JobSpec) -> Attempt:
        attempt = self._executor.run("bench", spec, self._blobs, cancel=threading.Event())
        if attempt.reason != "ok":
            raise RuntimeError(attempt.log_path.read_text())
        return attempt


def _times(line: str) -> tuple[float, float]:
    wall, cpu = line.split()
    return float(wall), float(cpu)


if __name__ == "__main__":
    sys.exit(main())
