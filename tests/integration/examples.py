# SPDX-License-Identifier: Apache-2.0
"""The folders in examples/, as whoever follows their README has them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
NAMES = sorted(folder.name for folder in EXAMPLES.iterdir() if (folder / "README.md").is_file())


def example(name: str, folder: Path, *arguments: str) -> Path:
    """A copy of an example with its data, or with the job made by these arguments; the folder."""
    target = folder / name
    shutil.copytree(EXAMPLES / name, target)
    makers = [path for name in ("make_data.py", "make_job.py", "make_program.py") if (path := target / name).is_file()]
    for maker in makers:
        subprocess.run([sys.executable, str(maker), *arguments], check=True, stdout=subprocess.DEVNULL)
    return target


def evaluated(folder: Path, outputs: Path) -> dict[str, Any]:
    """What an example's own evaluation says of outputs."""
    command = [sys.executable, str(folder / "evaluate.py"), str(outputs)]
    result: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    return result
