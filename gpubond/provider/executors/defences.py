# SPDX-License-Identifier: Apache-2.0
"""What stands between a job and this machine: found out by trying, said by `doctor`, noted for `provider status`."""

from __future__ import annotations

import json
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path

from gpubond.errors import BadSettings
from gpubond.provider.executors import cgroups, seccomp
from gpubond.provider.executors.sandbox import find_bwrap
from gpubond.settings import DEVELOPMENT_CHAIN_IDS

# In the home folder: written by a worker at its start, read by `provider status`.
NOTE = "sandbox.json"
UNSANDBOXED_FLAG = "--run-strangers-code-without-a-sandbox"
UNSANDBOXED = "NONE: jobs run as this user, with all of this user's files and the network"


@dataclass(frozen=True)
class Defences:
    """In words: the sandbox, the filter of system calls, and what holds the limits."""

    sandbox: str
    system_calls: str
    limits: str

    @property
    def words(self) -> str:
        """All in one line."""
        return f"{self.sandbox}; {self.system_calls}; {self.limits}"

    def note(self, home: Path) -> None:
        """Write it down in the home folder."""
        (home / NOTE).write_text(json.dumps(asdict(self)))


def here(*, sandboxed: bool = True) -> Defences:
    """What is in force for jobs that this process starts. Raises MissingTool without bubblewrap."""
    limits = cgroups.find().words
    if not sandboxed:
        return Defences(UNSANDBOXED, "no seccomp filter", limits)
    # "bubblewrap 0.8.0"
    version = subprocess.run([find_bwrap(), "--version"], capture_output=True, text=True, check=False).stdout.strip()
    return Defences(version or "bubblewrap", seccomp.words(), limits)


def require_development_chain(chain_id: int) -> None:
    """Raise BadSettings unless the money on this chain is worth nothing."""
    if chain_id not in DEVELOPMENT_CHAIN_IDS:
        raise BadSettings(
            f"{UNSANDBOXED_FLAG} is for development chains, and this is chain {chain_id}",
            field=UNSANDBOXED_FLAG,
            value=str(chain_id),
            remedy="leave it out, and install bubblewrap: apt-get install bubblewrap (Debian, Ubuntu)",
        )


def noted(home: Path) -> Defences | None:
    """What the worker of this home folder found at its last start; None if none has started."""
    try:
        found = json.loads((home / NOTE).read_text())
        return Defences(str(found["sandbox"]), str(found["system_calls"]), str(found["limits"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
