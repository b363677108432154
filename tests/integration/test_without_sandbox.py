# SPDX-License-Identifier: Apache-2.0
"""A machine without bubblewrap: no stranger's job runs, unless the owner says so, on a development chain."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path

import pytest

from gpubond.provider.executors.defences import UNSANDBOXED_FLAG

from .marketplace import Marketplace

OWNER, OPERATOR, BUYER = 1, 2, 5


@pytest.fixture
def without_bwrap(tmp_path: Path) -> dict[str, str]:
    """An environment in which there is no bubblewrap."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("rm", "chmod", "g++"):
        (tools / name).symlink_to(str(shutil.which(name)))
    return {"PATH": str(tools)}


def test_refused_then_allowed_by_name(market: Marketplace, tmp_path: Path, without_bwrap: dict[str, str]) -> None:
    home = market.provider("bare", OWNER, OPERATOR, "--challenge-window", "600")
    before = market.run("provider", "status", "--home", str(home))
    assert before.document["sandbox"] is None
    refused = market.run_process("provider", "run", "--home", str(home), environment=without_bwrap)
    assert refused.code == 8
    assert "jobs of strangers are not run without a sandbox" in refused.error["message"]

    (tmp_path / "where.py").write_text("import os; open('out.txt', 'w').write(os.getcwd())")
    document = {
        "version": 1,
        "name": "where",
        "runtime": "python",
        "inputs": [{"path": "where.py"}],
        "outputs": ["out.txt"],
        "limits": {"seconds": 60},
        "python": {"script": "where.py"},
    }
    (tmp_path / "job.json").write_text(json.dumps(document))
    buyer = market.buyer("bare-buyer", BUYER)
    for options, expected in (((), "bubblewrap"), ((UNSANDBOXED_FLAG,), "NONE")):
        worker = market.start_worker(home, *options, environment=without_bwrap if options else None)
        try:
            status = market.ok("provider", "status", "--home", str(home))
            assert status["sandbox"]["sandbox"].startswith(expected)
            done = market.ok("job", "submit", str(tmp_path / "job.json"), "--home", str(buyer), "--yes")
            folder = tmp_path / expected
            market.ok("job", "fetch", done["job"], "--home", str(buyer), "--to", str(folder))
            where = (folder / "out.txt").read_text()
            assert (where == "/job") == (expected == "bubblewrap")
        finally:
            market.stop_worker(worker, signal.SIGTERM)
    assert "WITHOUT A SANDBOX" in (home / "worker.log").read_text()
