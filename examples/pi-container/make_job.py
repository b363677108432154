# SPDX-License-Identifier: Apache-2.0
"""Writes job.json for an image: `python make_job.py registry/repository@sha256:… [PYTHON]`."""

import json
import sys
from pathlib import Path

HERE = Path(__file__).parent
DIGITS = 1000


def main() -> None:
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    job = {
        "version": 1,
        "name": "pi-container",
        "runtime": "container",
        "inputs": [{"path": "pi.py"}],
        "outputs": ["pi.txt"],
        "limits": {"seconds": 60, "memory_mib": 512, "disk_mib": 16, "processes": 64},
        "container": {
            "image": sys.argv[1],
            "entrypoint": [sys.argv[2] if len(sys.argv) == 3 else "python3"],
            "command": ["pi.py", str(DIGITS)],
            "environment": {"PYTHONUNBUFFERED": "1"},
        },
    }
    (HERE / "job.json").write_text(json.dumps(job, indent=2) + "\n")
    print(f"Wrote {HERE / 'job.json'}")


main()
