# SPDX-License-Identifier: Apache-2.0
"""The demo's processes: each command and each worker is the real program, started and ended here."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

PROGRAM = [sys.executable, "-m", "gpubond.cli.main"]


class StepFailed(Exception):
    """A command of the demo failed; the message holds its own words."""


def command(*arguments: str, echo: bool = True) -> Any:
    """Runs `gpubond …  --json`, shows its progress, and returns its JSON."""
    process = start(*arguments)
    return finish(process, echo=echo)


def start(*arguments: str) -> subprocess.Popen[str]:
    """Starts `gpubond … --json`."""
    return subprocess.Popen(
        [*PROGRAM, *arguments, "--json"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str], *, echo: bool = True, expected: tuple[int, ...] = (0,)) -> Any:
    """Waits for a command and returns its JSON documents: one, or a list if it printed several."""
    assert process.stderr is not None and process.stdout is not None
    said: list[str] = []

    def relay(stream: Any) -> None:
        for line in stream:
            said.append(line)
            if echo:
                print(f"      {line.strip()}", flush=True)

    relayed = threading.Thread(target=relay, args=(process.stderr,))
    relayed.start()
    output = process.stdout.read()
    relayed.join()
    code = process.wait()
    if code not in expected:
        raise StepFailed(f"{' '.join(process.args[2:])} ended with {code}:\n{output}{''.join(said)}")  # type: ignore[index]
    documents = list(_documents(output))
    return documents[0] if len(documents) == 1 else documents


def _documents(text: str) -> Any:
    decoder = json.JSONDecoder()
    text = text.strip()
    while text:
        document, end = decoder.raw_decode(text)
        yield document
        text = text[end:].strip()


class Worker:
    """A provider's worker, or a watchtower, as a process of its own, with its log in a file."""

    def __init__(self, home: Path, package: Path | None = None, kind: str = "provider") -> None:
        """package: a folder with another copy of the package, which it is a worker of. kind: whose `run` it is."""
        self.log = home / "worker.log"
        self._output = self.log.open("w")
        self.process = subprocess.Popen(
            [*PROGRAM, kind, "run", "--home", str(home)],
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            cwd=package,
        )

    def wait_for(self, words: str, seconds: float = 60) -> None:
        """Waits until the log has these words."""
        deadline = time.monotonic() + seconds
        while words not in self.log.read_text():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise StepFailed(f"the worker did not come to {words!r}:\n{self.log.read_text()[-3000:]}")
            time.sleep(0.1)

    def kill(self) -> None:
        """SIGKILL: the worker cannot say good-bye."""
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self._output.close()

    def stop(self) -> None:
        """SIGTERM, and SIGKILL if that does not help."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(timeout=45)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._output.close()
