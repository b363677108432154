# SPDX-License-Identifier: Apache-2.0
"""Whatever a job does to its folder, measuring it names the job's fault and never fails itself."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gpubond.provider.executors.usage import TooManyFiles, directory_bytes

# A path longer than the kernel takes, made step by step.
NEST = "import os\nfor _ in range(20):\n    os.mkdir('a' * 255)\n    os.chdir('a' * 255)\n"


def test_a_path_longer_than_the_kernel_takes(tmp_path: Path) -> None:
    root = tmp_path / "job"
    root.mkdir()
    subprocess.run([sys.executable, "-c", NEST], cwd=root, check=True)
    try:
        with pytest.raises(TooManyFiles):
            directory_bytes(root)
    finally:
        # shutil cannot follow that deep.
        subprocess.run(["rm", "-rf", "--", str(root)], check=True)
    assert not os.path.lexists(root)
